"""Text from frames: greedy CTC decoding, exact matches and the character error rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.metrics.pick import Array, Rows, chosen

PADDING = -1


def decode(scores: Array, blank: int = 0) -> list[list[int]]:
    """Scores [b, T, C] to symbols: the best of each frame, repeats merged, then blanks removed (Graves 2006)."""
    best = scores.argmax(axis=-1)
    kept = np.concatenate([np.ones_like(best[:, :1], dtype=bool), best[:, 1:] != best[:, :-1]], axis=1) & (
        best != blank
    )
    return [row[keep].tolist() for row, keep in zip(best, kept, strict=True)]


def edits(first: Sequence[int], second: Sequence[int]) -> int:
    """Insertions, deletions and substitutions from one to the other (Levenshtein)."""
    row = list(range(len(second) + 1))
    for i, symbol in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (symbol != other))
    return row[-1]


def _texts(
    outputs: Mapping[str, Array], output: str | None, labels: Array, blank: int
) -> list[tuple[list[int], list[int]]]:
    """(decoded, wanted) of each sample; frames first ([T, b, C]) is understood where the labels tell it."""
    name, scores = chosen(outputs, output)
    labels = np.asarray(labels)
    if scores.ndim != 3 or labels.ndim != 2 or len(labels) not in scores.shape[:2]:
        raise InputError(
            f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit CTC",
            help="scores are [b, frames, symbols]; labels are whole numbers [b, longest], padded with -1",
        )
    if len(scores) != len(labels):
        scores = scores.swapaxes(0, 1)
    if labels.dtype.kind not in "iu" or labels.max(initial=0) >= scores.shape[-1]:
        raise InputError(
            f"labels are not all symbols of output {name!r}: whole numbers below {scores.shape[-1]}",
            help=f"pad with {PADDING}; {blank} is the blank",
        )
    return [(text, row[row != PADDING].tolist()) for text, row in zip(decode(scores, blank), labels, strict=True)]


@dataclass(frozen=True, kw_only=True)
class CtcExact:
    """Share of samples read without one mistake. Scores [b, T, C], labels [b, L] padded with -1."""

    name: str = "ctc_exact"
    blank: int = 0
    output: str | None = None
    kind: str = "binary"
    higher_is_better: bool = True
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """1.0 or 0.0 a sample: [b]."""
        return np.array([float(a == b) for a, b in _texts(outputs, self.output, labels, self.blank)])

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """What the float network reads, padded with -1: [b, L]."""
        return padded(decode(chosen(outputs, self.output)[1], self.blank))


@dataclass(frozen=True, kw_only=True)
class CtcCer:
    """Character error rate: all edits over all characters, lower is better. Rows are (edits, characters)."""

    name: str = "ctc_cer"
    blank: int = 0
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = False
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: edits and characters."""
        texts = _texts(outputs, self.output, labels, self.blank)
        return np.array([[edits(a, b), len(b)] for a, b in texts], dtype=np.float64).reshape(-1, 2)

    def value(self, rows: Rows) -> float:
        """Edits over characters; NaN without characters."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the rate [resamples]."""

        def counted(counts: Rows) -> Rows:
            wrong, length = (counts @ rows).T
            return np.where(length > 0, wrong / np.maximum(length, 1), np.nan)

        return counted

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """What the float network reads, padded with -1: [b, L]."""
        return padded(decode(chosen(outputs, self.output)[1], self.blank))


def padded(texts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Texts as one array [b, longest], filled up with -1."""
    table = np.full((len(texts), max((len(t) for t in texts), default=0)), PADDING, dtype=np.int64)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = text
    return table
