"""What options of the command line have in common: how they are read, and which of them go together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hasten import registry
from hasten.errors import UsageError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def named(group: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that refuses, before anything is loaded, a name that the registry does not have."""

    def check(_: click.Context, __: click.Parameter, value: Any) -> Any:
        for name in value if isinstance(value, tuple) else [value]:
            if name and not set(":.") & set(name) and name not in registry.names(group):
                known = registry.names(group)
                raise UsageError(f"no {registry.ONE[group]} is called {name!r}", help=did_you_mean(name, known))
        return value

    return check


def seconds(_: object, __: object, value: str | None) -> float | None:
    """``90``, ``30s``, ``5m`` or ``1h`` in seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", value.strip())
    if match is None:
        raise UsageError(f"cannot read the time {value!r}", help="write --time 30s, --time 5m or --time 1h")
    return float(match[1]) * _UNITS[match[2] or ""]


def pairs(_: object, __: object, value: Sequence[str]) -> dict[str, str] | None:
    """``IN=OUT`` options as a dict."""
    for text in value:
        if not re.fullmatch(r"[^=]+=[^=]+", text):
            raise UsageError(f"cannot read the state {text!r}", help="write --state INPUT=OUTPUT")
    return dict(text.split("=") for text in value) or None


def listed(group: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Names that come repeated, with commas between them, or both; each must be one of the registry's."""
    check = named(group)

    def split(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
        names = tuple(name.strip() for text in value for name in text.split(",") if name.strip())
        return tuple(check(context, parameter, names))

    return split


def door(command: F) -> F:
    """The options with which a file of another framework comes in."""
    command = click.option("--signature", metavar="NAME", help="Which function of a SavedModel is served.")(command)
    command = click.option(
        "--module", metavar="PKG.MOD:FUNCTION", help="Your code that makes the network of a state dict."
    )(command)
    return click.option("--trust", is_flag=True, help="Let code inside the file run: only for files that you made.")(
        command
    )


def common(command: F) -> F:
    """The options that every command takes."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; progress stays on stderr.")(
        command
    )
