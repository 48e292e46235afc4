"""Which columns of a table make which input of the network, and what their cells mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hasten.errors import InputError, UsageError, did_you_mean
from hasten.model import TensorSpec
from hasten.samples.fit import is_float
from hasten.samples.store import numpy_dtype
from hasten.samples.stream import ONLY, Array

Row = Sequence[Any]
EXACT = 2.0**53  # below it a float64 holds every whole number
EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "nat", "<na>", "?", "-"})
WORDS = {"true": 1, "false": 0}
TOLD = 5  # names in a message


@dataclass(frozen=True)
class Part:
    """The columns of one input; ``spec`` is None where the network takes no such input."""

    name: str
    columns: list[int]
    spec: TensorSpec | None


@dataclass
class Cells:
    """Turns the cells of a row into the arrays of the inputs, and counts what had to be read in a special way."""

    names: list[str]
    source: str
    empty: dict[str, int] = field(default_factory=dict)
    words: dict[str, None] = field(default_factory=dict)

    def values(self, row: Row, part: Part, index: int) -> Array:
        """The numbers of one input, as it takes them.

        Raises:
            InputError: a cell is no number.
        """
        quick = self._quick(row, part.columns)
        return _shaped(self._slow(row, part, index) if quick is None else quick, part.spec)

    def _quick(self, row: Row, columns: list[int]) -> Array | None:
        """One conversion for a row of plain numbers in text."""
        if not isinstance(row[columns[0]], str):
            return None
        try:
            values = np.fromiter((float(row[c]) for c in columns), np.float64, len(columns))
        except (ValueError, TypeError):
            return None
        return values if bool((np.abs(values) < EXACT).all()) else None

    def _slow(self, row: Row, part: Part, index: int) -> Array:
        if len(part.columns) == 1 and isinstance(row[part.columns[0]], list | tuple | np.ndarray):
            return np.asarray(row[part.columns[0]])
        return np.asarray([self._one(row[c], self.names[c], part.spec, index) for c in part.columns])

    def _one(self, cell: Any, name: str, spec: TensorSpec | None, index: int) -> float | int:
        value = number(cell)
        if value is not None:
            return value
        if is_empty(cell):
            if spec is None or not is_float(numpy_dtype(spec.dtype)):
                takes = "" if spec is None else f"input {spec.name!r} takes {spec.dtype}, which has no missing value"
                what = f"column {name!r} of {self.source} has an empty cell in row {index}"
                raise InputError(what, cause=takes, help="fill it, or leave the row out")
            self.empty[name] = self.empty.get(name, 0) + 1
            return math.nan
        word = WORDS.get(str(cell).strip().lower())
        if word is None:
            raise InputError(
                f"column {name!r} of {self.source} is not numeric",
                cause=f"row {index} has {str(cell)[:40]!r}",
                help="write the numbers with which the network was trained, or drop the column, or name it as the "
                f"labels: --labels {name}",
            )
        self.words[name] = None
        return word

    def notes(self) -> list[str]:
        """How cells were read, in sentences."""
        found = []
        if self.empty:
            total = sum(self.empty.values())
            found.append(f"{total:,} empty cells are read as NaN, in {_listed(list(self.empty))}")
        if self.words:
            found.append(f"true and false are read as 1 and 0, in {_listed(list(self.words))}")
        return found


def number(cell: Any) -> float | int | None:
    """The number that a cell holds or spells; None where it is none, or missing."""
    if isinstance(cell, bool | int | float | np.bool_ | np.integer | np.floating):
        plain = cell.item() if isinstance(cell, np.generic) else cell
        return None if plain != plain else plain
    if cell is None or isinstance(cell, list | tuple | np.ndarray):
        return None
    for read in (int, float) if isinstance(cell, str) else (float,):  # int() would cut a decimal
        try:
            found = read(cell)
        except (TypeError, ValueError, OverflowError):
            continue
        return None if found != found else found
    return None


def is_empty(cell: Any) -> bool:
    """True for a missing value, however a table spells it."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(cell, float | np.floating):
        return bool(np.isnan(cell))
    return isinstance(cell, str) and cell.strip().lower() in EMPTY


def parts(
    names: list[str], left: list[int], inputs: tuple[TensorSpec, ...], mapped: Mapping[str, Sequence[str]], source: str
) -> tuple[list[Part], list[str]]:
    """Which of the columns ``left`` make which input, and notes.

    As ``mapped``; else by name, one column or several that are numbered (``num_0``, ``num.1``, ``num[2]``); else all in
    order for the only input.

    Raises:
        UsageError: ``mapped`` names what is not there. InputError: the columns fit none of these.
    """
    if not left:
        raise InputError("the table has no column for the network's inputs", help="add the columns that it takes")
    if mapped:
        return _as_mapped(names, left, inputs, mapped, source)
    by_input = {spec.name: _named(names, left, spec.name) for spec in inputs}
    if inputs and all(by_input.values()):
        used = {c for columns in by_input.values() for c in columns}
        rest = [names[c] for c in left if c not in used]
        notes = [f"not read, since the network takes no such input: {_listed(rest)}"] if rest else []
        notes += [
            f"columns {names[columns[0]]} to {names[columns[-1]]} are fed as {name!r}"
            for name, columns in by_input.items()
            if len(columns) > 1
        ]
        return [Part(s.name, by_input[s.name], s) for s in inputs], notes
    if len(inputs) == 1:
        return [Part(ONLY, left, inputs[0])], []
    if not inputs:
        return [Part(names[c], [c], None) for c in left], []
    unmatched = [name for name, columns in by_input.items() if not columns]
    takes = ", ".join(map(str, inputs))
    example = " ".join(f"--columns {spec.name}=COLUMN,..." for spec in inputs[:3])
    fault = InputError(
        f"no column of {source} is named for the input {unmatched[0]!r}",
        cause=f"columns: {_listed([names[c] for c in left])}; the network takes {takes}",
        help=f"say which columns make which input: {example}",
    )
    fault.missing = unmatched
    raise fault


def _as_mapped(
    names: list[str], left: list[int], inputs: tuple[TensorSpec, ...], mapped: Mapping[str, Sequence[str]], source: str
) -> tuple[list[Part], list[str]]:
    place = {names[c]: c for c in left}
    specs = {spec.name: spec for spec in inputs}
    for name, columns in mapped.items():
        if specs and name not in specs:
            raise UsageError(f"the network has no input {name!r}", help=did_you_mean(name, specs))
        for column in columns:
            if column not in place:
                raise UsageError(f"no column {column!r} in {source}", help=did_you_mean(column, list(place)[:50]))
    found = [Part(name, [place[c] for c in columns], specs.get(name)) for name, columns in mapped.items()]
    return found, []


def _named(names: list[str], left: list[int], wanted: str) -> list[int]:
    """The column of that name, else those that number it, in their order; none where a number is left out."""
    same = [c for c in left if names[c] == wanted]
    if same:
        return same[:1]
    pattern = re.compile(re.escape(wanted) + r"[_.\- ]?\[?(\d+)\]?")
    numbered = sorted((int(match[1]), c) for c in left if (match := pattern.fullmatch(names[c])))
    whole = (
        [n for n, _ in numbered] == list(range(numbered[0][0], numbered[0][0] + len(numbered))) if numbered else False
    )
    return [c for _, c in numbered] if whole and numbered[0][0] in (0, 1) else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:TOLD]) + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")


def _shaped(values: Array, spec: TensorSpec | None) -> Array:
    """Numbers in a row have no width of their own: take the input's dtype where they fit, and its shape."""
    if spec is None:
        return values
    if spec.dtype.startswith(("float", "bfloat")) and values.dtype.kind in "iub":
        values = values.astype(np.float64)
    if spec.dtype.startswith(("int", "uint")) and values.dtype.kind == "f" and np.all(values == np.trunc(values)):
        values = values.astype(np.int64)
    if spec.dtype == "bool" and values.dtype.kind in "iuf" and np.isin(values, (0, 1)).all():
        values = values.astype(bool)
    inner = spec.shape[1:]
    if all(isinstance(d, int) for d in inner) and math.prod(d for d in inner if isinstance(d, int)) == values.size:
        return values.reshape([d for d in inner if isinstance(d, int)])
    return values
