"""safetensors: a length, a JSON header, then raw tensors end to end, read here with every number checked.

8 bytes header length | header {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...} | tensors
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.protocols import Array

MAX_HEADER = 100 << 20
AGAIN = "download it again, or save it again"
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def looks_so(head: bytes, size: int) -> bool:
    """True when the first bytes are a header length inside the file and the opening of its JSON."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size


def read(path: Path) -> dict[str, Array]:
    """Every tensor by name; bfloat16 comes as float32, which holds all its values.

    Raises:
        InputError: the header or an offset is not what the format allows.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise _damaged(path, f"a header of {length:,} bytes in a file of {size:,}")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_no_twins)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, str(error)[:200]) from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no table")
    header.pop("__metadata__", None)
    body = np.memmap(path, np.uint8, "r", 8 + length) if size > 8 + length else np.empty(0, np.uint8)
    return _tensors(header, body, path)


def _tensors(header: dict[str, Any], body: Array, path: Path) -> dict[str, Array]:
    found: dict[str, Array] = {}
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: _begin(item[1])):
        try:
            begin, end = (int(x) for x in entry["data_offsets"])
            shape = tuple(int(d) for d in entry["shape"])
            kind = str(entry["dtype"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, f"tensor {name!r:.60}: {error!r:.100}") from error
        dtype = np.dtype("uint16" if kind == "BF16" else DTYPES.get(kind, "V1"))
        if dtype.kind == "V" or any(d < 0 for d in shape):
            raise _damaged(path, f"tensor {name!r:.60} has dtype {kind!r:.20} and shape {list(shape)!r:.60}")
        if begin != at or end - begin != prod(shape) * dtype.itemsize or end > len(body):
            raise _damaged(path, f"tensor {name!r:.60} of shape {list(shape)!r:.60} lies at {begin} to {end}")
        raw = np.frombuffer(body[begin:end].tobytes(), dtype).reshape(shape)
        found[name] = (raw.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else raw.copy()
        at = end
    if at != len(body):
        raise _damaged(path, f"{len(body) - at:,} bytes belong to no tensor")
    return found


def _begin(entry: Any) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return offsets[0] if isinstance(offsets, list) and offsets and isinstance(offsets[0], int) else -1


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _damaged(path: Path, cause: str) -> InputError:
    return InputError(f"{path.name} is no valid safetensors file", cause=cause, help=AGAIN)
