"""What options of the command line have in common: how they are read, and which of them go together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hasten import asked, registry
from hasten.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def named(group: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that refuses, before anything is loaded, a name that the registry does not have."""

    def check(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value:
            registry.require(group, value)
        return value

    return check


def seconds(_: object, __: object, value: str | None) -> float | None:
    """``90``, ``30s``, ``5m`` or ``1h`` in seconds; None for ``auto``."""
    return asked.time_limit(value)


def pairs(_: object, __: object, value: Sequence[str]) -> dict[str, str] | None:
    """``IN=OUT`` options as a dict."""
    for text in value:
        if not re.fullmatch(r"[^=]+=[^=]+", text):
            raise UsageError(f"cannot read the state {text!r}", help="write --state INPUT=OUTPUT")
    return dict(text.split("=") for text in value) or None


def columns(_: object, __: object, value: Sequence[str]) -> dict[str, list[str]] | None:
    """``IN=A,B,C`` options as a dict."""
    found = {}
    for text in value:
        name, equals, listed = text.partition("=")
        names = [column.strip() for column in listed.split(",") if column.strip()]
        if not (name and equals and names):
            raise UsageError(f"cannot read the columns {text!r}", help="write --columns INPUT=COLUMN,COLUMN")
        found[name] = names
    return found or None


def output_kinds(_: object, __: object, value: Sequence[str]) -> dict[str, str] | None:
    """``NAME=KIND`` options as a dict."""
    for text in value:
        if not re.fullmatch(r".+=[a-z_]+", text):
            raise UsageError(f"cannot read the kind {text!r}", help="write --output-kind NAME=KIND")
    return dict(text.rsplit("=", 1) for text in value) or None


def listed(group: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Names that come repeated, with commas between them, or both; each must be one of the registry's."""

    def split(_: click.Context, __: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
        return tuple(registry.several(group, value) or ())

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


def samples(command: F) -> F:
    """The options that say how the samples are read."""
    named = (
        click.option(
            "--labels", default="labels", show_default=True, metavar="NAME", help="Where the labels are in the data."
        ),
        click.option(
            "--groups",
            metavar="NAME",
            help="Column that names the group of each sample (patient, film); a group never spans two splits.",
        ),
        click.option(
            "--state", multiple=True, metavar="IN=OUT", callback=pairs, help="A state that is fed back; repeatable."
        ),
        click.option("--preprocess", metavar="NAME", help="How images become inputs: imagenet, unit, signed, none."),
        click.option(
            "--columns",
            multiple=True,
            metavar="IN=COL,...",
            callback=columns,
            help="Columns of a table that make an input, in order; repeatable.",
        ),
    )
    for option in reversed(named):
        command = option(command)
    return command


def common(command: F) -> F:
    """The options that every command takes."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; progress stays on stderr.")(
        command
    )
