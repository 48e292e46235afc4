"""What callers write for numbers and times, in Python and on the command line, checked before anything starts."""

from __future__ import annotations

import re
from numbers import Integral, Real

from hasten.errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)?")
BATCH = 16  # samples a request where throughput counts and no other number is given
AUTO = "auto"
WRITE_TIME = "write --time 30s, --time 5m or --time auto"


def seconds(value: str | float) -> float:
    """``90``, ``"30s"``, ``"5m"`` or ``"1h"`` in seconds.

    Raises:
        UsageError: it is neither a number nor a time, or it is negative.
    """
    number: object = value
    if not isinstance(number, bool) and isinstance(number, Real) and 0 <= float(number) < float("inf"):
        return float(number)
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise UsageError(f"cannot read the time {value!r}", help=WRITE_TIME)
    return float(match[1]) * _UNITS[match[2] or ""]


def time_limit(value: str | float | None) -> float | None:
    """The same, or None for ``"auto"``.

    Raises:
        UsageError: it is neither a time nor ``"auto"``.
    """
    return None if value is None or value == AUTO else seconds(value)


def at_least_one(option: str, value: int | None) -> int | None:
    """A whole number from 1, or None.

    Raises:
        UsageError: anything else.
    """
    if value is None:
        return None
    number: object = value
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise UsageError(f"--{option} cannot be {value!r}", help=f"write --{option} 1, or a larger whole number")
    return int(number)


def batch(value: int | None, objective: str) -> int:
    """Samples a request: as asked; where nothing is asked 1, or 16 where throughput counts."""
    return at_least_one("batch", value) or (BATCH if objective == "throughput" else 1)
