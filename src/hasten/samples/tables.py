"""Tables: CSV (also gzipped) with the standard library, Parquet with pyarrow; one row a sample."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import EnvironmentFault, InputError, UsageError, did_you_mean
from hasten.model import TensorSpec
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

Row = Sequence[Any]
EXACT = 2.0**53  # below it a float64 holds every whole number


def read_csv(path: Path, wanted: Wanted) -> Opener:
    """Columns by their header; without one they are called 0, 1, 2, ... Cells are numbers; labels may be text."""
    opened = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else Path.open

    def lines() -> Iterator[list[str]]:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            sample = file.readline()
            file.seek(0)
            yield from csv.reader(file, delimiter="\t" if "\t" in sample else ";" if ";" in sample else ",")

    try:
        first = next(lines(), [])
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise InputError(f"cannot read {path} as a table", cause=str(error), help="save it as UTF-8 CSV") from error
    headed = not all(_number(cell) is not None for cell in first)
    names = first if headed else [str(i) for i in range(len(first))]

    def rows() -> Iterator[Row]:
        walk = (row for row in lines() if row)
        if headed:
            next(walk)
        return walk

    return _table(names, rows, None, wanted, path.name)


def read_parquet(path: Path, wanted: Wanted) -> Opener:
    """Columns of numbers or of lists of numbers, read a batch of rows at a time."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise EnvironmentFault(f"pyarrow is needed to read {path}", help="pip install 'hasten[tables]'") from error
    try:
        table = parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"cannot read {path} as Parquet", cause=str(error).split("\n")[0], help="save it again"
        ) from error

    def rows() -> Iterator[Row]:
        for batch in table.iter_batches(batch_size=1024):
            columns = [column.to_pylist() for column in batch.columns]
            yield from zip(*columns, strict=True)

    return _table(list(table.schema_arrow.names), rows, table.metadata.num_rows, wanted, path.name)


def _table(names: list[str], rows: Callable[[], Iterator[Row]], n: int | None, wanted: Wanted, source: str) -> Opener:
    for name in [wanted.labels] * (wanted.labels != "labels") + [wanted.groups] * (wanted.groups is not None):
        if name not in names:
            raise UsageError(f"no column {name!r} in {source}", help=did_you_mean(str(name), names[:50]))
    sides = [names.index(s) if s in names else None for s in (wanted.labels, wanted.groups)]

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        groups = _columns_of(names, [i for i in range(len(names)) if i not in sides], inputs)
        chosen = None if n is None else set(wanted.rows(n).tolist())

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
                feeds = {k: _shaped(_values(row, at, names, i, source), spec) for k, at, spec in groups}
                yield Item(feeds, str(i), label, group)

        return Stream(items())

    return start


def _columns_of(
    names: list[str], left: list[int], inputs: tuple[TensorSpec, ...]
) -> list[tuple[str, list[int], TensorSpec | None]]:
    """Which columns make which input: one a name when the names are the inputs', else all in order for the only one."""
    by_name = {names[i]: i for i in left}
    if set(by_name) == {s.name for s in inputs}:
        return [(s.name, [by_name[s.name]], s) for s in inputs]
    if len(inputs) == 1:
        return [(ONLY, left, inputs[0])]
    return [(names[i], [i], None) for i in left]


def _values(row: Row, columns: list[int], names: list[str], index: int, source: str) -> Array:
    if isinstance(row[columns[0]], str):
        try:  # one conversion for the row; the cells are only looked at one by one to name a bad one
            values = np.array([row[c] for c in columns]).astype(np.float64)
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
    try:
        return int(cell)
    except (TypeError, ValueError):
        pass
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _cell(cell: Any) -> Any:
    """A label or a group: a number where it reads as one, None where it is missing."""
    if cell is None or cell == "":
        return None
    number = _number(cell)
    return np.asarray(cell) if isinstance(cell, list) else cell if number is None else number
