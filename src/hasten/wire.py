"""Messages between parent and child: a numbered, length-limited JSON header, then raw arrays. No pickles, ever.

8 bytes number of the request | 8 bytes header length | 8 bytes payload length | header (JSON) | payload (the arrays'
bytes, in order)

The number is drawn at random for each request and comes back in its reply, so that no other bytes pass for it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np

from hasten.protocols import Array

HEADER = struct.Struct("<QQQ")
MAX_HEADER = 16 << 20
MAX_ARRAYS = 1 << 18
MAX_DIMENSIONS = 32
KINDS = "biufcSU"  # of arrays: numbers, truth values and text; no objects, records or dates

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
Buffer = bytes | bytearray | Array
Text = Annotated[str, msgspec.Meta(max_length=20_000)]


@dataclass(frozen=True)
class Described:
    """The type and shape of one array of a message."""

    dtype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[list[Size], msgspec.Meta(max_length=MAX_DIMENSIONS)]


@dataclass(frozen=True)
class Told:
    """The three parts of one of our errors."""

    message: Text
    cause: Text = ""
    help: Text = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The header of a reply: a value, or the name of an exception with its text or the parts of one of ours."""

    value: msgspec.Raw = msgspec.Raw()
    error: Annotated[str, msgspec.Meta(max_length=200)] = ""
    text: Text = ""
    told: Told | None = None
    arrays: Annotated[list[Described], msgspec.Meta(max_length=MAX_ARRAYS)] = []


def pack(message: dict[str, Any], arrays: Sequence[Array], number: int = 0) -> list[bytes | memoryview]:
    """One message in pieces, to be written one after another; arrays are not copied when they lie in one piece.

    Raises:
        ValueError: an array of objects, or a header that no reader takes.
    """
    bodies: list[bytes | memoryview] = []
    described = []
    for array in arrays:
        if array.dtype.kind not in KINDS:
            raise ValueError(f"an array of {array.dtype} cannot be sent (shape {array.shape})")
        described.append({"dtype": array.dtype.str, "shape": list(array.shape)})
        if array.size:
            bodies.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    header = msgspec.json.encode({**message, "arrays": described})
    if len(header) > MAX_HEADER:
        raise ValueError(f"a message with a header of {len(header) >> 20} MiB cannot be sent")
    payload = sum(len(body) for body in bodies)
    return [HEADER.pack(number, len(header), payload) + header, *bodies]


def read_reply(header: bytes | bytearray, payload: int) -> Reply:
    """The checked header of a reply whose arrays take ``payload`` bytes; those are not read before.

    Raises:
        ValueError, RecursionError: it has another form, or its arrays do not add up to the payload.
    """
    reply = msgspec.json.decode(header, type=Reply)
    needed = sum(_bytes(one) for one in reply.arrays)
    if needed != payload:
        raise ValueError(f"arrays of {needed} bytes in a payload of {payload}")
    return reply


def _bytes(one: Described) -> int:
    """How many bytes an array takes. Raises ValueError for a type or a size that no array has."""
    try:
        dtype = np.dtype(one.dtype)
    except (TypeError, ValueError, SyntaxError) as fault:
        raise ValueError(f"no array has the type {one.dtype!r}") from fault
    if dtype.kind not in KINDS or dtype.str != one.dtype:
        raise ValueError(f"no array of type {one.dtype!r} is taken")
    count = prod(one.shape, start=1)
    size, widest = dtype.itemsize * count, max(one.shape, default=0)
    absurd = min(one.shape, default=0) < 0 or (count and not dtype.itemsize) or widest > max(size, 1 << 32)
    if absurd or size >= 1 << 48:
        raise ValueError(f"an array {one.dtype} {one.shape} does not fit a message")
    return size


def unpack_arrays(described: Sequence[Described], payload: Buffer) -> list[Array]:
    """The arrays of a message; they share the payload's memory.

    Raises:
        ValueError: a type that is not taken, or sizes that do not add up to the payload.
    """
    found, at = [], 0
    for one in described:
        size = _bytes(one)
        if at + size > len(payload):
            raise ValueError(f"array {one.dtype} {one.shape} does not fit its message")
        found.append(np.frombuffer(payload, one.dtype, prod(one.shape), at).reshape(one.shape))
        at += size
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes too many in a message")
    return found


def unpack(message: bytes) -> tuple[dict[str, Any], list[Array]]:
    """What ``pack`` put into a message."""
    _, size, _ = HEADER.unpack_from(message)
    header = msgspec.json.decode(message[HEADER.size : HEADER.size + size])
    described = msgspec.convert(header.pop("arrays"), list[Described])
    return header, unpack_arrays(described, message[HEADER.size + size :])
