"""Tables: CSV (also gzipped), Parquet through pyarrow, and those of pandas and polars; one row a sample."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import EnvironmentFault, InputError, UsageError, did_you_mean
from hasten.extras import pip
from hasten.model import TensorSpec
from hasten.samples.columns import WORDS, Cells, Row, is_empty, number, parts
from hasten.samples.guard import check_count, check_unpacked, readable, regular
from hasten.samples.stream import Item, Opener, Stream, Wanted

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
    headed = not all(number(cell) is not None for cell in first)
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
    for place in count(1):
        line = text.readline(MAX_LINE + 1)
        unpacked += len(line)
        if len(line) > MAX_LINE:
            cause = f"line {place} has more than {MAX_LINE:,} characters"
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


def is_frame(data: object) -> bool:
    """True for a table of pandas or polars, by what it can do."""
    return hasattr(data, "columns") and (hasattr(data, "itertuples") or hasattr(data, "iter_rows"))


def read_frame(frame: Any, wanted: Wanted) -> Opener:
    """A table of pandas or polars, a row a sample."""
    names = [str(name) for name in frame.columns]

    def rows() -> Iterator[Row]:
        walk = frame.iter_rows() if hasattr(frame, "iter_rows") else frame.itertuples(index=False, name=None)
        return iter(walk)

    return _table(names, rows, len(frame), wanted, "the table")


def _table(names: list[str], rows: Callable[[], Iterator[Row]], n: int | None, wanted: Wanted, source: str) -> Opener:
    for name in [wanted.labels] * (wanted.labels != "labels") + [wanted.groups] * (wanted.groups is not None):
        if name not in names:
            raise UsageError(f"no column {name!r} in {source}", help=did_you_mean(str(name), names[:50]))
    sides = [names.index(s) if s in names else None for s in (wanted.labels, wanted.groups)]

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        left = [i for i in range(len(names)) if i not in sides]
        fed, notes = parts(names, left, inputs, wanted.columns or {}, source)
        chosen = None if n is None else wanted.chosen(n)
        cells = Cells(names, source)
        stream = Stream(iter(()), warnings=notes)

        def items() -> Iterator[Item]:
            for i, row in enumerate(rows()):
                if n is None and wanted.limit is not None and i >= wanted.limit:
                    break
                if chosen is not None and i not in chosen:
                    continue
                if len(row) != len(names):
                    raise InputError(
                        f"row {i} of {source} has {len(row)} cells, the header {len(names)}", help="mend the row"
                    )
                label, group = (_cell(row[s]) if s is not None else None for s in sides)
                with readable(f"row {i} of {source}"):
                    feeds = {part.name: cells.values(row, part, i) for part in fed}
                yield Item(feeds, str(i), label, group)
            stream.warnings += cells.notes()

        stream.items = items()
        return stream

    return start


def _cell(cell: Any) -> Any:
    """A label or a group: a number where it reads as one, None where it is missing."""
    if is_empty(cell):
        return None
    found = number(cell)
    if found is None and str(cell).strip().lower() in WORDS:
        return WORDS[str(cell).strip().lower()]
    return np.asarray(cell) if isinstance(cell, list) else cell if found is None else found
