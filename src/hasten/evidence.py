"""What was seen after the search: the losses of added samples, and the changed answers that still have no label."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten import bounded
from hasten.errors import InputError, UsageError
from hasten.result_files import EVIDENCE, ITS_OUT, LARGEST, Count, Text
from hasten.trial import decode

COLUMNS = ("number", "file", "sample", "before", "after", "label")
MOST_CSV = 64 << 20  # bytes
Hash = int  # 64 bits: the reader refuses more
Class = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]
NO_ANSWER = -1  # the class of an answer that is NaN


@dataclass(frozen=True, kw_only=True)
class Changed:
    """An unlabelled input whose class the network changed, and its label once that is known."""

    file: Text
    sample: Text
    before: Class
    after: Annotated[int, msgspec.Meta(ge=NO_ANSWER, le=1 << 31)]
    label: Class | None = None

    @property
    def loss(self) -> float:
        """1 where a right answer was lost, -1 where one was gained; 1 as long as nobody knows."""
        if self.label is None:
            return 1.0
        return float(self.label == self.before) - float(self.label == self.after)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Hashes of all inputs that the search and later calls saw; of the later ones the losses, in any order.

    ``candidate`` is the key of the network that they are about. Losses are at most ``most`` each, and their mean must
    stay below ``limit``. ``before`` counts the gains, equals and losses of the search, where it counted.
    """

    seen: list[Hash]
    candidate: Text = ""
    most: float = 1.0
    limit: float = 0.0
    before: list[Count] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    unchanged: Count = 0
    changed: list[Changed] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Added samples."""
        return len(self.losses) + self.unchanged + len(self.changed)

    @property
    def unknown(self) -> int:
        """Changed answers without a label."""
        return sum(one.label is None for one in self.changed)


def numbered(hashes: NDArray[np.uint64]) -> list[int]:
    """Hashes of inputs as JSON holds them: with a sign, in 64 bits."""
    return [int(one) for one in np.array(hashes, np.uint64).view(np.int64)]


def read_evidence(out: Path) -> Evidence:
    """The evidence in a result folder.

    Raises:
        UsageError: there is none, or it is not of this version. InputError: it is no regular file.
    """
    path = out / EVIDENCE
    if not bounded.kind_of(path):
        cause = f"it has no {EVIDENCE}"
        raise UsageError(f"{out} keeps no record of the samples that its search saw", cause=cause, help=ITS_OUT)
    try:
        return decode(bounded.read(path, LARGEST[EVIDENCE]), Evidence)
    except msgspec.MsgspecError as fault:
        raise UsageError(f"{path} is damaged", cause=str(fault)[:300], help=ITS_OUT) from fault


def form(evidence: Evidence) -> bytes:
    """The table of changed inputs without a label, for a person to fill in."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for number, one in enumerate(evidence.changed):
        if one.label is None:
            table.writerow([number, one.file, one.sample, one.before, one.after, ""])
    return text.getvalue().encode("utf-8", "backslashreplace")


def with_labels(evidence: Evidence, path: Path) -> tuple[Evidence, int]:
    """The evidence with the labels of a filled table, and how many are new. Rows without a label do not count.

    Raises:
        InputError: no label, an unknown number, a label that is no class number, or one that was another before.
    """
    changed, added = list(evidence.changed), 0
    for line, number, text in _filled(path):
        where = f"line {line} of {path}"
        if not (number.isdecimal() and int(number) < len(changed)):
            help_ = "use the to_label.csv of this result"
            raise InputError(f"{where} has the number {number!r:.40}, which this result does not know", help=help_)
        if not (text.isdecimal() and int(text) <= 1 << 31):
            help_ = "write class numbers as in the columns before and after"
            raise InputError(f"{where} has the label {text!r:.40}, which is no class number", help=help_)
        one = changed[int(number)]
        if one.label is not None and one.label != int(text):
            cause = f"its label was {one.label} in an earlier call"
            raise InputError(f"{where} gives number {number} another label", cause=cause, help="remove that line")
        added += one.label is None
        changed[int(number)] = replace(one, label=int(text))
    if not added:
        raise InputError(f"{path} holds no new label", help="fill in the column label of some lines")
    return replace(evidence, changed=changed), added


def _filled(path: Path) -> list[tuple[int, str, str]]:
    """(line, number, label) of the lines with a label."""
    if not bounded.kind_of(path):
        raise InputError(f"there is no {path}", help="name the to_label.csv of the result: --labels-from")
    try:
        text = bounded.read(path, MOST_CSV).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if not {"number", "label"} <= set(rows.fieldnames or ()):
            raise ValueError("its first line lacks the columns number and label")
        found = [(rows.line_num, row["number"] or "", (row["label"] or "").strip()) for row in rows]
    except (ValueError, csv.Error) as fault:
        raise InputError(f"cannot read {path}", cause=str(fault)[:300], help="fill in to_label.csv as it is") from fault
    return [(line, number.strip(), label) for line, number, label in found if label]


def values_of(evidence: Evidence) -> NDArray[np.float64]:
    """The losses, those of inputs without a label at their most; unchanged answers are left out."""
    return np.asarray([*evidence.losses, *(one.loss for one in evidence.changed)], np.float64)
