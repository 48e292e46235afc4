"""Stacked arrays by name: a dict in memory, an ``.npz`` read member by member, an ``.npy`` mapped."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from hasten.errors import InputError, UsageError, did_you_mean
from hasten.model import TensorSpec
from hasten.samples.guard import check_count, check_unpacked, readable, regular
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

SAVE_AGAIN = "save plain arrays: numpy.savez('data.npz', input_name=array, labels=labels)"
MAX_ARRAYS = 1000  # of one .npz


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
        chosen = wanted.chosen(n)

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
    """One array for a network with one input, read a row at a time; never unpickled."""
    with readable(path, help=SAVE_AGAIN):
        column = _column(lambda: regular(path), path, str(path), path.stat().st_size)
    return stacked({ONLY: column}, Wanted(limit=wanted.limit), str(path))


def read_npz(path: Path, wanted: Wanted) -> Opener:
    """Arrays by input name, each streamed a row at a time; object arrays (pickles) are refused."""
    return stacked(npz_columns(path), wanted, str(path))


def npz_columns(path: Path) -> dict[str, Column]:
    """The arrays of an ``.npz`` by name, checked but not read.

    Raises:
        InputError: it is damaged, a bomb, or holds Python objects.
    """
    with readable(path, help=SAVE_AGAIN), regular(path) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        check_unpacked(path, path.stat().st_size, sum(entry.file_size for entry in entries))
        columns = {e.filename.removesuffix(".npy"): _member(path, e) for e in entries[:MAX_ARRAYS]}
        if len(columns) < len(entries):
            more = f"more than {MAX_ARRAYS:,} arrays" if len(entries) > MAX_ARRAYS else "two arrays of one name"
            raise InputError(f"{path} has {more}", help=SAVE_AGAIN)
    return columns


def _member(path: Path, entry: zipfile.ZipInfo) -> Column:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with regular(path) as file, zipfile.ZipFile(file) as archive, archive.open(entry) as member:
            yield member

    return _column(opened, path, f"array {entry.filename.removesuffix('.npy')!r:.80} of {path}", entry.file_size)


def _column(opened: Callable[[], AbstractContextManager[IO[bytes]]], path: Path, name: str, held: int) -> Column:
    """An array in numpy's format; ``held`` are the bytes of the file or entry that holds it."""
    with opened() as file:
        shape, fortran, dtype = _header(file)
        begin = file.tell()
    if dtype.hasobject:
        raise InputError(
            f"{name} is refused", cause="it holds pickled Python objects, which can run code", help=SAVE_AGAIN
        )
    size = math.prod(shape) * dtype.itemsize
    if any(d < 0 for d in shape) or size != held - begin:
        cause = f"its header says shape {shape} {dtype}, which are {size:,} bytes, but it has {held - begin:,}"
        raise InputError(f"cannot read {path}", cause=f"{name}: {cause}"[:300], help=SAVE_AGAIN)
    if shape and shape[0] and not size:
        raise InputError(f"{name} holds no values", cause=f"its shape is {shape}", help=SAVE_AGAIN)
    check_count(path, shape[0] if shape else 1)

    def whole() -> Array:
        with opened() as file:
            _header(file)
            flat = np.frombuffer(_exactly(file, size), dtype) if size else np.empty(0, dtype)
            return flat.reshape(shape, order="F" if fortran else "C")

    def rows() -> Iterator[Array]:
        if fortran:
            yield from whole()
            return
        each = math.prod(shape[1:]) * dtype.itemsize
        with opened() as file:
            _header(file)
            for _ in range(shape[0]):
                yield np.frombuffer(_exactly(file, each), dtype).reshape(shape[1:])
            file.read(1)  # the checksum is checked at the end

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
