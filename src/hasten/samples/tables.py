"""Tables: CSV (also gzipped) with the standard library, Parquet with pyarrow; one row a sample."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import EnvironmentFault, InputError, UsageError, did_you_mean
from hasten.extras import pip
from hasten.model import TensorSpec
from hasten.samples.guard import check_count, check_unpacked, readable, regular
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

Row = Sequence[Any]
EXACT = 2.0**53  # below it a float64 holds every whole number
MAX_LINE = 1 << 24  # characters
BATCH = 256  # rows of a Parquet file that are in memory at a time


def read_csv(path: Path, wanted: Wanted) -> Opener:
    """Columns by their header; without one they are called 0, 1, 2, ... Cells are numbers; labels may be text."""

    def lines() -> Generator[list[str]]:
        with readable(path, " as a table", "save it as UTF-8 CSV"), regular(path) as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = gzip.GzipFile(fileobj=file) if zipped else file
            with io.TextIOWrapper(content, "utf-8-sig", newline="") as decoded:
                text = _bounded(decoded, path)
                sample = next(text, "")
                separator = "\t" if "\t" in sample else ";" if ";" in sample else ","
                reader = csv.reader(chain([sample], text), delimiter=separator)
                with _numbered(reader, path):
                    yield from reader

    with closing(lines()) as walk:
        first = next(walk, [])
    headed = not all(_number(cell) is not None for cell in first)
    names = first if headed else [str(i) for i in range(len(first))]

    def rows() -> Iterator[Row]:
        walk = (row for row in lines() if row)
        if headed:
            next(walk)
        return walk

    return _table(names, rows, None, wanted, str(path))


def _bounded(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """The lines of a table, none longer than ``MAX_LINE``, and together no more than a table unpacks to."""
    packed, unpacked = path.stat().st_size, 0
    for number in count(1):
        line = text.readline(MAX_LINE + 1)
        unpacked += len(line)
        if len(line) > MAX_LINE:
            cause = f"line {number} has more than {MAX_LINE:,} characters"
            raise InputError(
                f"cannot read {path} as a table", cause=cause, help="save it as UTF-8 CSV, a sample a line"
            )
        check_unpacked(path, packed, unpacked)
        if not line:
            return
        yield line


@contextmanager
def _numbered(reader: Any, path: Path) -> Iterator[None]:
    """Errors of the CSV parser with the line at which they occur."""
    try:
        yield
    except csv.Error as error:
        cause = f"line {reader.line_num}: {error}"
        raise InputError(f"cannot read {path} as a table", cause=cause, help="save it as UTF-8 CSV") from error


def read_parquet(path: Path, wanted: Wanted) -> Opener:
    """Columns of numbers or of lists of numbers, read a batch of rows at a time."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise EnvironmentFault(f"pyarrow is needed to read {path}", help=pip("tables")) from error
    with readable(path, " as Parquet"), regular(path):
        table = parquet.ParquetFile(path)
        names, n = list(table.schema_arrow.names), int(table.metadata.num_rows)
    check_count(path, n)

    def rows() -> Iterator[Row]:
        with readable(path, " as Parquet"):
            for batch in table.iter_batches(batch_size=BATCH):
                yield from zip(*map(_cells, batch.columns), strict=True)

    return _table(names, rows, n, wanted, str(path))


def _cells(column: Any) -> Iterator[Any]:
    """The cells of a column; lists are converted one at a time, because as Python objects they need much memory."""
    nested = column.type.num_fields > 0
    return (cell.as_py() for cell in column) if nested else iter(column.to_pylist())


def _table(names: list[str], rows: Callable[[], Iterator[Row]], n: int | None, wanted: Wanted, source: str) -> Opener:
    for name in [wanted.labels] * (wanted.labels != "labels") + [wanted.groups] * (wanted.groups is not None):
        if name not in names:
            raise UsageError(f"no column {name!r} in {source}", help=did_you_mean(str(name), names[:50]))
    sides = [names.index(s) if s in names else None for s in (wanted.labels, wanted.groups)]

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        groups = _columns_of(names, [i for i in range(len(names)) if i not in sides], inputs)
        chosen = None if n is None else wanted.chosen(n)

        def items() -> Iterator[Item]:
            for i, row in enumerate(rows()):
                if n is None and wanted.limit is not None and i >= wanted.limit:
                    return
                if chosen is not None and i not in chosen:
                    continue
                if len(row) != len(names):
                    raise InputError(
                        f"row {i} of {source} has {len(row)} cells, the header {len(names)}", help="mend the row"
                    )
                label, group = (_cell(row[s]) if s is not None else None for s in sides)
                with readable(f"row {i} of {source}"):
                    feeds = {k: _shaped(_values(row, at, names, i, source), spec) for k, at, spec in groups}
                yield Item(feeds, str(i), label, group)

        return Stream(items())

    return start


def _columns_of(
    names: list[str], left: list[int], inputs: tuple[TensorSpec, ...]
) -> list[tuple[str, list[int], TensorSpec | None]]:
    """Which columns make which input: one a name when the names are the inputs', else all in order for the only one."""
    if not left:
        raise InputError("the table has no column for the network's inputs", help="add the columns that it takes")
    by_name = {names[i]: i for i in left}
    if len(by_name) == len(left) and set(by_name) == {s.name for s in inputs}:
        return [(s.name, [by_name[s.name]], s) for s in inputs]
    if len(inputs) == 1:
        return [(ONLY, left, inputs[0])]
    return [(names[i], [i], None) for i in left]


def _values(row: Row, columns: list[int], names: list[str], index: int, source: str) -> Array:
    if isinstance(row[columns[0]], str):
        try:  # one conversion for the row; the cells are only looked at one by one to name a bad one
            values = np.fromiter((float(row[c]) for c in columns), np.float64, len(columns))
            if (np.abs(values) < EXACT).all():
                return values
        except ValueError:
            pass
    cells = [_number(row[c]) for c in columns]
    if len(cells) == 1 and isinstance(row[columns[0]], (list, tuple)):
        return np.asarray(row[columns[0]])
    for column, cell in zip(columns, cells, strict=True):
        if cell is None:
            raise InputError(
                f"column {names[column]!r} of {source} is not numeric",
                cause=f"row {index} has {str(row[column])[:40]!r}",
                help=f"drop or encode the column, or name it as the labels: --labels {names[column]}",
            )
    return np.asarray(cells)


def _shaped(values: Array, spec: TensorSpec | None) -> Array:
    """Numbers in a row have no width of their own: take the input's dtype where they fit, and its shape."""
    if spec is None:
        return values
    if spec.dtype.startswith("float") and values.dtype.kind in "iub":
        values = values.astype(np.float64)
    if spec.dtype.startswith(("int", "uint")) and values.dtype.kind == "f" and np.all(values == np.trunc(values)):
        values = values.astype(np.int64)
    inner = spec.shape[1:]
    if all(isinstance(d, int) for d in inner) and math.prod(d for d in inner if isinstance(d, int)) == values.size:
        return values.reshape([d for d in inner if isinstance(d, int)])
    return values


def _number(cell: Any) -> float | int | None:
    if isinstance(cell, (bool, int, float)):
        return cell
    if cell is None or isinstance(cell, (list, tuple)):
        return None
    for read in (int, float) if isinstance(cell, str) else (float,):  # int() would cut a decimal
        try:
            return read(cell)
        except (TypeError, ValueError, OverflowError):
            continue
    return None


def _cell(cell: Any) -> Any:
    """A label or a group: a number where it reads as one, None where it is missing."""
    if cell is None or cell == "":
        return None
    number = _number(cell)
    return np.asarray(cell) if isinstance(cell, list) else cell if number is None else number
