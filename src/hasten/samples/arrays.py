"""Stacked arrays by name: a dict in memory, an ``.npz`` read member by member, an ``.npy`` mapped."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from hasten.errors import InputError, UsageError, did_you_mean
from hasten.model import TensorSpec
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

SAVE_AGAIN = "save plain arrays: numpy.savez('data.npz', input_name=array, labels=labels)"


@dataclass(frozen=True)
class Column:
    """One array whose axis 0 counts the samples; ``shape`` is () for a scalar. ``rows`` starts a fresh pass."""

    shape: tuple[int, ...]
    rows: Callable[[], Iterator[Array]]
    whole: Callable[[], Array]


def stacked(columns: Mapping[str, Column], wanted: Wanted, source: str) -> Opener:
    """Samples from arrays with a common axis 0. An array without it (a scalar, or shaped as fed) serves all samples."""

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        rest = dict(columns)
        label = _take(rest, wanted.labels, source, asked=wanted.labels != "labels")
        group = _take(rest, wanted.groups, source, asked=True) if wanted.groups else None
        n = _count(rest, label, inputs, source)
        once = {k: c.whole() for k, c in rest.items() if _serves_all(c, n, _spec(k, inputs))}
        each = {k: c for k, c in rest.items() if k not in once}
        sides = [c for c in (label, group) if c]
        if not each:
            each, once = rest, {}
        _same_length({**each, "labels": label, "groups": group}, n, source)
        chosen = set(wanted.rows(n).tolist())

        def items() -> Iterator[Item]:
            walks = [c.rows() for c in (*each.values(), *sides)]
            for i, row in enumerate(zip(*walks, strict=True)):
                if i not in chosen:
                    continue
                tail = list(row[len(each) :])
                found = tail.pop(0) if label else None
                yield Item(dict(zip(each, row, strict=False)), str(i), found, tail.pop(0) if group else None)

        return Stream(items(), once)

    return start


def _take(columns: dict[str, Column], name: str, source: str, *, asked: bool) -> Column | None:
    if asked and name not in columns:
        raise UsageError(f"no array {name!r} in {source}", help=did_you_mean(name, columns))
    return columns.pop(name, None)


def _spec(name: str, inputs: tuple[TensorSpec, ...]) -> TensorSpec | None:
    found = [s for s in inputs if s.name == name]
    return found[0] if found else (inputs[0] if len(inputs) == 1 else None)


def _count(columns: Mapping[str, Column], label: Column | None, inputs: tuple[TensorSpec, ...], source: str) -> int:
    if label:
        lengths = [label.shape[0]] if label.shape else []
    else:
        lengths = [c.shape[0] for k, c in columns.items() if c.shape and not _as_fed(c, _spec(k, inputs))]
        lengths = lengths or [c.shape[0] for c in columns.values() if c.shape]
    if not lengths:
        raise InputError(f"no samples in {source}", cause="no array has an axis 0 to count them", help=SAVE_AGAIN)
    return max(lengths)


def _as_fed(column: Column, spec: TensorSpec | None) -> bool:
    """True when the whole array must be one feed: every axis is fixed, but for a first of length one."""
    if spec is None or len(column.shape) != len(spec.shape):
        return False
    pairs = list(zip(spec.shape, column.shape, strict=True))
    first, *rest = [d == got for d, got in pairs]
    return all(rest) and (first or (pairs[0][1] == 1 and not isinstance(pairs[0][0], int)))


def _serves_all(column: Column, n: int, spec: TensorSpec | None) -> bool:
    return not column.shape or (column.shape[0] != n and _as_fed(column, spec))


def _same_length(columns: Mapping[str, Column | None], n: int, source: str) -> None:
    lengths = {k or "data": c.shape[0] for k, c in columns.items() if c is not None}
    if set(lengths.values()) - {n}:
        listed = ", ".join(f"{k}: {v}" for k, v in lengths.items())
        raise InputError(
            f"the arrays of {source} disagree on the number of samples", cause=listed, help="cut them alike"
        )


def in_memory(value: object, name: str, source: str) -> Column:
    """A column of an array, or of a list whose entries may differ in shape."""
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype.hasobject):
        entries = [np.asarray(entry) for entry in value]
        if any(e.dtype.hasobject for e in entries):
            raise InputError(f"array {name!r} of {source} holds Python objects", help=SAVE_AGAIN)
        return Column((len(entries),), lambda: iter(entries), lambda: np.asarray(entries))
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise InputError(f"array {name!r} of {source} holds Python objects", help=SAVE_AGAIN)
    return Column(array.shape, lambda: iter(array), lambda: array)


def read_npy(path: Path, wanted: Wanted) -> Opener:
    """One array for a network with one input; mapped, never unpickled."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}", cause=_why(error), help=SAVE_AGAIN) from error
    return stacked({ONLY: in_memory(array, ONLY, path.name)}, Wanted(limit=wanted.limit), path.name)


def read_npz(path: Path, wanted: Wanted) -> Opener:
    """Arrays by input name, each streamed a row at a time; object arrays (pickles) are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            columns = {m.filename.removesuffix(".npy"): _member(path, archive, m) for m in archive.infolist()}
            if len(columns) < len(archive.infolist()):
                raise InputError(f"{path} has two arrays of one name", help=SAVE_AGAIN)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError) as error:
        raise InputError(f"cannot read {path}", cause=_why(error), help=SAVE_AGAIN) from error
    return stacked(columns, wanted, path.name)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Column:
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        if dtype.hasobject:
            raise ValueError(f"array {info.filename!r} is pickled Python objects, which can run code")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError(f"array {info.filename!r} says shape {shape} {dtype}, but has {info.file_size} bytes")

    def whole() -> Array:
        with zipfile.ZipFile(path) as again, again.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def rows() -> Iterator[Array]:
        if fortran:
            yield from whole()
            return
        size = int(np.prod(shape[1:])) * dtype.itemsize
        with zipfile.ZipFile(path) as again, again.open(info) as file:
            _header(file)
            for _ in range(shape[0]):
                yield np.frombuffer(_exactly(file, size), dtype).reshape(shape[1:])
            file.read(1)  # the checksum is looked at when the end is met

    return Column(shape, rows, whole)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("the file ends early")
    return data


def _why(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return "it holds pickled Python objects, which can run code" if re.search("pickle|Python objects", text) else text
