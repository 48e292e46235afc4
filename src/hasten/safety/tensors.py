"""One tensor of a file: dimensions, size, and where its bytes lie. Python integers, so that nothing overflows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.errors import InputError

if TYPE_CHECKING:
    import onnx

MAX_ELEMENTS = 1 << 40
KEYS = frozenset({"location", "offset", "length", "checksum"})
PLAIN = re.compile(r"[^/\\:\0]+(/[^/\\:\0]+)*")
MARKER = "_ORT_MEM_ADDR_"
AGAIN = "export the model again, with its data beside it"


@dataclass(frozen=True)
class Region:
    """Bytes ``offset`` to ``offset + length`` of the file ``location``, named as in the model."""

    location: str
    offset: int
    length: int


def check_tensor(tensor: onnx.TensorProto, where: str, folder: Path, real_model: Path) -> Region | None:
    """The region of an external tensor, None for one inside the file.

    Raises:
        InputError: impossible dimensions, a size that does not match, or data outside the model's folder.
    """
    name = f"tensor {tensor.name or '(unnamed)'!r:.80} in {where}"
    count = _count(tensor, name)
    _check_type(tensor, name)
    size = _bytes(tensor.data_type, count)
    if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
        return _external(tensor, name, size, folder, real_model)
    if tensor.HasField("raw_data"):
        held, needed = len(tensor.raw_data), size
    else:
        held, needed = _typed(tensor, count)
    if needed is not None and held != needed:
        raise InputError(
            f"{name} holds {held} of {needed} values or bytes", cause=f"shape {list(tensor.dims)}", help=AGAIN
        )
    return None


def _count(tensor: onnx.TensorProto, name: str) -> int:
    if any(d < 0 for d in tensor.dims):
        raise InputError(f"{name} has a negative dimension", cause=f"shape {list(tensor.dims)}", help=AGAIN)
    count: int = math.prod(tensor.dims)
    if count > MAX_ELEMENTS or len(tensor.dims) > 64:
        raise InputError(f"{name} is too large to be real", cause=f"shape {list(tensor.dims)[:8]}", help=AGAIN)
    return count


def _check_type(tensor: onnx.TensorProto, name: str) -> None:
    import onnx_ir as ir

    known = tensor.data_type in ir.DataType._value2member_map_
    if not known or (tensor.data_type == ir.DataType.UNDEFINED and (tensor.dims or tensor.raw_data)):
        raise InputError(f"{name} has an unknown type", cause=f"number {tensor.data_type}", help=AGAIN)


def _bytes(data_type: int, count: int) -> int | None:
    """Bytes of ``count`` values as raw data; None for texts and for types that this version does not know."""
    import onnx_ir as ir

    try:
        kind = ir.DataType(data_type)
        return math.ceil(count * kind.bitwidth / 8)
    except (ValueError, TypeError):
        return None


def _typed(tensor: onnx.TensorProto, count: int) -> tuple[int, int | None]:
    """Values held in, and needed by, the field that ONNX assigns to the tensor's type."""
    kinds = type(tensor)
    doubled: dict[int, str] = {kinds.COMPLEX64: "float_data", kinds.COMPLEX128: "double_data"}
    plain: dict[int, str] = {
        kinds.FLOAT: "float_data",
        kinds.DOUBLE: "double_data",
        kinds.INT64: "int64_data",
        kinds.UINT32: "uint64_data",
        kinds.UINT64: "uint64_data",
        kinds.STRING: "string_data",
    }
    if tensor.data_type in doubled:
        return len(getattr(tensor, doubled[tensor.data_type])), 2 * count
    if tensor.data_type in plain:
        return len(getattr(tensor, plain[tensor.data_type])), count
    size = _bytes(tensor.data_type, count)
    packed = size is not None and size < count  # several values share a byte, one byte an entry
    return len(tensor.int32_data), size if packed else (count if size is not None else None)


def _external(tensor: onnx.TensorProto, name: str, size: int | None, folder: Path, real_model: Path) -> Region:
    entries = {e.key: e.value for e in tensor.external_data}
    unknown = sorted(set(entries) - KEYS)
    if unknown or len(entries) < len(tensor.external_data):
        what = f"unknown key {unknown[0]!r:.80}" if unknown else "a key given twice"
        raise InputError(
            f"{name} describes its data with {what}", cause=f"known: {', '.join(sorted(KEYS))}", help=AGAIN
        )
    location = entries.get("location", "")
    check_location(location, name)
    path = locate(location, folder, real_model, name, size)
    offset, length = _number(entries, "offset", name), _number(entries, "length", name)
    available = path.stat().st_size
    length = (size if size is not None else available - offset) if "length" not in entries else length
    if size is not None and length != size:
        raise InputError(f"{name} needs {size} bytes, its data has {length}", help=AGAIN)
    if offset + length > available:
        cause = f"{location} has {available} bytes, bytes {offset} to {offset + length} are wanted"
        raise InputError(f"{name} reaches beyond its data file", cause=cause, help=AGAIN)
    return Region(location, offset, length)


def _number(entries: Mapping[str, str], key: str, name: str) -> int:
    text = entries.get(key, "0")
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) >= 1 << 63:
        raise InputError(f"{name} has an impossible {key}", cause=f"{text!r:.80}", help=AGAIN)
    return int(text)


def check_location(location: str, name: str) -> None:
    """Only a plain relative path may name a data file.

    Raises:
        InputError: it is absolute, climbs out, names a drive or a host, or is a runtime's in-memory marker.
    """
    if MARKER in location:
        raise InputError(
            f"{name} points into memory, not into a file", cause=f"{location!r:.80}", help="do not trust this model"
        )
    if not PLAIN.fullmatch(location) or any(part in ("..", ".") for part in location.split("/")):
        cause = f"its data is said to lie at {location!r:.80}"
        raise InputError(f"{name} escapes the model's folder", cause=cause, help="do not trust this model, or " + AGAIN)


def locate(location: str, folder: Path, real_model: Path, name: str, size: int | None = None) -> Path:
    """The real file behind ``location``: below ``folder``, or beside the real model in a hub cache's ``blobs``.

    Raises:
        InputError: it is missing, leads elsewhere, or is not a regular file.
    """
    path = folder / location
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        needs = name if size is None else f"{name}, {size:,} bytes"
        raise InputError(
            f"the weights of the model are missing: there is no file {str(path)!r}",
            cause=f"the model keeps them in {location!r} beside it: {needs}",
            help=f"copy {path.name} to that place from where the model was exported, or export it as one file",
        ) from error
    in_hub = real_model.parent.name == "blobs" and real.parent == real_model.parent
    if not (real.is_relative_to(folder.resolve()) or in_hub):
        raise InputError(
            f"{name} escapes the model's folder",
            cause=f"{location!r} is a link to {real}",
            help="copy the data beside the model",
        )
    if not real.is_file():
        raise InputError(f"{name}: its data {location!r} is not a regular file", help=AGAIN)
    return real
