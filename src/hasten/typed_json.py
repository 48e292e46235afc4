"""JSON that may come from anybody, as a value of a known type: bounded in depth, count and length, no field unknown."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from math import inf, nan
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")
MAX_DEPTH = 32
MAX_VALUES = 2_000_000
MAX_TEXT = 1 << 18  # characters of one string
MAX_INT = 1 << 63
# Fields that JSON's null may stand for.
LOST = {"upper": inf, "guaranteed_upper": inf, "lower": -inf, "high": inf, "low": 0.0, "waking": inf}


def decode(data: bytes, kind: type[T]) -> T:
    """The value of type ``kind`` in ``data``. A null where a number belongs is the infinity of an open bound, or NaN.

    Raises:
        msgspec.DecodeError: it is no JSON, too deep or too long, or a field is missing, unknown or of another type.
    """
    if sum(data.count(mark) for mark in (b"[", b"{", b",")) > MAX_VALUES:
        raise msgspec.ValidationError(f"it holds more than {MAX_VALUES:,} values")
    try:
        raw = msgspec.json.decode(data)
    except RecursionError as fault:
        raise msgspec.ValidationError("it nests too deep (recursion)") from fault
    except ValueError as fault:  # bytes that are no UTF-8, integers of thousands of digits
        raise msgspec.DecodeError(f"it is malformed: {fault}") from fault
    _check_bounds(raw)
    value = convert(raw, kind)
    if unknown := _unknown(raw, msgspec.to_builtins(value)):
        raise msgspec.ValidationError(f"unknown field `{unknown[:120]}`")
    return value


def convert(raw: object, kind: type[T]) -> T:
    """The value of type ``kind`` in decoded JSON, with infinities and NaN in the place of nulls.

    Raises:
        msgspec.ValidationError: a field is missing or of another type.
    """
    return msgspec.convert(_restored(raw, kind), kind)


def _check_bounds(raw: object) -> None:
    """Refuse depth, texts and integers beyond all use."""
    level, depth = [raw], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise msgspec.ValidationError(f"it nests more than {MAX_DEPTH} deep")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
                below += value
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and len(value) > MAX_TEXT:
                raise msgspec.ValidationError(f"a text of {len(value):,} characters, over {MAX_TEXT:,}")
            elif isinstance(value, int) and not -MAX_INT <= value < MAX_INT:
                raise msgspec.ValidationError("an integer of more than 64 bits")
        level = below


def _restored(raw: Any, kind: Any, name: str = "") -> Any:
    """``raw`` with infinities and NaN where ``kind`` wants a number and JSON has null for it."""
    if kind is float:
        return LOST.get(name, nan) if raw is None else raw
    if isinstance(raw, dict) and isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return {k: _restored(v, hints[k], k) if k in hints else v for k, v in raw.items()}
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        typed = [p for p in parts if is_dataclass(p) or get_origin(p) is tuple]
        return _restored(raw, typed[0], name) if len(typed) == 1 and raw is not None else raw
    if origin is dict and isinstance(raw, dict):
        return {k: _restored(v, parts[1], name) for k, v in raw.items()}
    if origin in (tuple, list) and isinstance(raw, list):
        return [_restored(v, parts[0], name) for v in raw]
    return raw


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _unknown(raw: Any, built: Any, where: str = "") -> str:
    """The path of the first field in ``raw`` that its type does not have; empty where there is none."""
    if isinstance(raw, dict) and isinstance(built, dict):
        for name, value in raw.items():
            at = f"{where}.{name}".removeprefix(".")
            if name not in built:
                return at
            if found := _unknown(value, built[name], at):
                return found
    elif isinstance(raw, list) and isinstance(built, list | tuple):
        for number, (value, one) in enumerate(zip(raw, built, strict=False)):
            if found := _unknown(value, one, f"{where}[{number}]"):
                return found
    return ""
