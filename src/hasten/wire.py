"""Messages between parent and child: a length-limited JSON header, then raw arrays. No pickles, ever.

8 bytes header length | 8 bytes payload length | header (JSON) | payload (the arrays' bytes, in order)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np

from hasten.protocols import Array

HEADER = struct.Struct("<QQ")
MAX_HEADER = 16 << 20


def pack(message: dict[str, Any], arrays: Sequence[Array]) -> list[bytes | memoryview]:
    """One message in pieces, to be written one after another; arrays are not copied when they lie in one piece.

    Raises:
        ValueError: an array of objects.
    """
    bodies: list[bytes | memoryview] = []
    described = []
    for array in arrays:
        if array.dtype.hasobject:
            raise ValueError(f"an array of objects cannot be sent (shape {array.shape})")
        described.append({"dtype": array.dtype.str, "shape": list(array.shape)})
        if array.size:
            bodies.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    header = msgspec.json.encode({**message, "arrays": described})
    payload = sum(len(body) for body in bodies)
    return [HEADER.pack(len(header), payload) + header, *bodies]


def unpack_arrays(described: Sequence[dict[str, Any]], payload: bytes | bytearray) -> list[Array]:
    """The arrays of a message; they share the payload's memory.

    Raises:
        ValueError: a dtype with objects, or sizes that do not add up to the payload.
    """
    found, at = [], 0
    for one in described:
        dtype, shape = np.dtype(one["dtype"]), tuple(int(d) for d in one["shape"])
        size = dtype.itemsize * prod(shape)
        if dtype.hasobject or size < 0 or at + size > len(payload):
            raise ValueError(f"array {dtype} {shape} does not fit its message")
        found.append(np.frombuffer(payload, dtype, prod(shape), at).reshape(shape))
        at += size
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes too many in a message")
    return found


def unpack(message: bytes) -> tuple[dict[str, Any], list[Array]]:
    """What ``pack`` put into a message."""
    size, _ = HEADER.unpack_from(message)
    header = msgspec.json.decode(message[HEADER.size : HEADER.size + size])
    return header, unpack_arrays(header.pop("arrays"), message[HEADER.size + size :])
