"""Everything that hasten raises on purpose.

    HastenError            exit 1   nothing better was found, or a check failed
    ├── UsageError         exit 2   the call itself is wrong: an option, a name, a budget
    ├── InputError         exit 3   the model or the data is rejected
    ├── EnvironmentFault   exit 4   the machine: a missing package, no disk, no memory
    └── Stopped            exit 5   stopped by the user or a limit; what was found is kept

``verify`` ends with 6 where nothing failed and something could not be checked.

A message is one lower-case sentence that names the object, then why, then what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar


class HastenError(Exception):
    """The root: ``message`` says what and where, ``cause`` why, ``help`` what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, cause: str = "", help: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.message, self.cause, self.help = message, cause, help

    def __str__(self) -> str:
        lines = [f"error: {self.message}"]
        lines += [f"  cause: {self.cause}"] if self.cause else []
        lines += [f"  help: {self.help}"] if self.help else []
        return "\n".join(lines)


class UsageError(HastenError):
    """The call is wrong: an unknown option or name, a budget that cannot be read."""

    exit_code = 2


class InputError(HastenError):
    """The model or the data cannot be used as they are; ``missing`` names the inputs that the data lacks."""

    exit_code = 3
    missing: Sequence[str] = ()


class EnvironmentFault(HastenError):
    """The machine lacks something: a package, disk, memory, a runtime."""

    exit_code = 4


class Stopped(HastenError):
    """Stopped before the end; the best so far is kept."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'top1'? known: auc, top1"`` for a name that is not one of ``known``."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return (f"did you mean {near[0]!r}? " if near else "") + "known: " + ", ".join(names)


_PLACE = re.compile(r"(?:Exception from|Check '.*?' failed at) \S+?:\d+:?\s*|\S+\.(?:cpp|hpp|cc|h):\d+:?\s*$")


def gist(text: str, most: int = 300) -> str:
    """The first line of a runtime's message that says something: not the place in its source where it was raised.

    >>> gist("Exception from src/cpp/core.cpp:84:\\nCheck 'ok' failed at src/core.cpp:9:\\nRank must be 0 or 1\\n")
    'Rank must be 0 or 1'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = next((said for line in lines if (said := _PLACE.sub("", line).strip())), lines[0] if lines else "")
    return telling[:most]


def no_folder(fault: BaseException) -> UsageError | None:
    """The error where ``fault`` comes from the current folder, which was deleted; else None."""
    try:
        if not isinstance(fault, FileNotFoundError) or fault.filename is not None or Path.cwd():
            return None
    except OSError:
        pass
    return UsageError("the current folder was deleted", cause="paths start from it", help="change to another folder")
