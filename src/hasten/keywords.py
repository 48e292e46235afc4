"""Messages name the options of the command line; callers in Python read keywords in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from hasten.errors import HastenError, no_folder

P = ParamSpec("P")
T = TypeVar("T")

FLAGS = ("force", "lower-is-better", "per-tensor", "trust")
NUMBERS = ("batch", "confidence", "pairs", "seed", "threads")
TEXTS = (
    *(
        "certificate",
        "data",
        "engine",
        "engines",
        "format",
        "groups",
        "labels",
        "max-drop",
        "metric",
        "model",
        "module",
        "objective",
        "out",
    ),
    *("also", "columns", "ignore-output", "model", "output", "output-kind", "preprocess", "served-by", "signature"),
    *("state", "time", "unlabelled", "labels-from"),
)
NAMED_OTHERWISE = {"time": "seconds", "engine": "engines"}
_OPTION = re.compile(rf"--({'|'.join((*FLAGS, *NUMBERS, *TEXTS))})(?![\w-])(?:[ =]([^\s,;)]*[^\s,;:.)]))?")
_command_line: ContextVar[bool] = ContextVar("command_line", default=False)


@contextmanager
def options() -> Iterator[None]:
    """Inside, errors keep the words of the command line."""
    token = _command_line.set(True)
    try:
        yield
    finally:
        _command_line.reset(token)


def in_keywords(text: str) -> str:
    """``"name another: --out DIR, or --force"`` as ``"name another: out='DIR', or force=True"``."""
    return _OPTION.sub(_keyword, text)


def said(text: str) -> str:
    """``text`` in the words of the caller: options on the command line, keywords in Python."""
    return text if _command_line.get() else in_keywords(text)


def _keyword(match: re.Match[str]) -> str:
    option, value = match[1], match[2]
    name = NAMED_OTHERWISE.get(option, option.replace("-", "_"))
    if option in FLAGS:
        return f"{name}=True" + (f" {value}" if value else "")
    if not value:
        return f"{name}="
    if option in NUMBERS:
        return f"{name}={value}"
    if option == "columns" and "=" in value:
        source, _, names = value.partition("=")
        return f"{name}={{{source!r}: {names.split(',')!r}}}"
    if option in ("state", "output-kind") and "=" in value:
        source, _, target = value.partition("=")
        return f"{name}={{{source!r}: {target!r}}}"
    return f"{name}={value!r}"


def spoken(verb: Callable[P, T]) -> Callable[P, T]:
    """``verb``, whose errors speak of keywords unless the command line called it."""

    @wraps(verb)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return verb(*arguments, **named)
        except HastenError as fault:
            if not _command_line.get():
                fault.message, fault.cause, fault.help = map(in_keywords, (fault.message, fault.cause, fault.help))
                fault.args = (fault.message,)
            raise
        except FileNotFoundError as fault:
            if deleted := no_folder(fault):
                raise deleted from fault
            raise

    return call
