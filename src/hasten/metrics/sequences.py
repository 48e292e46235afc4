"""Sequences of classes: right tokens, and word and character error rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.errors import InputError
from hasten.metrics import totals
from hasten.metrics.classes import IGNORED, check_labels
from hasten.metrics.ctc import PADDING, edits, padded
from hasten.metrics.pick import Array, Rows, chosen


def _scores_or_classes(outputs: Mapping[str, Array], output: str | None) -> tuple[str, Array]:
    """The named output, the first floating one, or else the first of whole numbers: classes chosen by the network."""
    floats = any(np.asarray(a).dtype.kind == "f" for a in outputs.values())
    if output is not None or floats:
        return chosen(outputs, output)
    return chosen(outputs, next(iter(outputs)))


@dataclass(frozen=True, kw_only=True)
class TokenAccuracy:
    """Share of right tokens among all that count: scores [b, T, C] or classes [b, T], labels [b, T].

    Labels of ``ignored`` do not count. Rows are (right, counted).
    """

    name: str = "token_accuracy"
    ignored: int = IGNORED
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: right and counted tokens."""
        name, scores = _scores_or_classes(outputs, self.output)
        labels = np.asarray(labels)
        whole = scores.dtype.kind in "iu"
        shape = scores.shape if whole else scores.shape[:-1]
        if labels.ndim != 2 or shape != labels.shape:
            raise InputError(
                f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {self.name}",
                help="scores are [b, tokens, classes]; labels are class numbers [b, tokens], -100 where none counts",
            )
        classes = int(np.iinfo(np.int64).max) if whole else scores.shape[-1]
        truth = check_labels(labels, classes, self.ignored)
        said = scores if whole else scores.argmax(axis=-1)
        counted = truth != self.ignored
        table = np.stack([((said == truth) & counted).sum(axis=1), counted.sum(axis=1)], axis=1).astype(np.float64)
        broken = np.asarray(np.isnan(scores.reshape(len(scores), -1)).any(axis=1))
        return np.asarray(np.where(broken[:, None], np.nan, table))

    def value(self, rows: Rows) -> float:
        """Right over counted tokens; NaN without any."""
        return totals.of_all(rows, lambda sums: totals.ratio(*sums.T))

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the share [resamples]."""
        return totals.of_resamples(rows, lambda sums: totals.ratio(*sums.T))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes."""
        scores = _scores_or_classes(outputs, self.output)[1]
        return scores if scores.dtype.kind in "iu" else scores.argmax(axis=-1)


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """Edits over the length of the labels, over all samples; lower is better. Rows are (edits, length).

    Scores [b, T, C] have one symbol a position, or the output holds symbols [b, T]; labels are [b, L]. Negative
    numbers are padding on both sides. With scores, positions whose label is padding do not count. A sequence ends
    before ``end``. Symbols are units (words or characters); with ``separator``, the symbols between two separators
    are one word.
    """

    name: str = "cer"
    separator: int | None = None
    end: int | None = None
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = False
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: edits and length."""
        name, scores = _scores_or_classes(outputs, self.output)
        labels = np.asarray(labels)
        aligned = scores.ndim == 3 and labels.ndim == 2 and scores.shape[:2] == labels.shape
        whole = scores.ndim == 2 and scores.dtype.kind in "iu" and len(scores) == len(labels)
        if labels.ndim != 2 or labels.dtype.kind not in "iu" or not (aligned or whole):
            raise InputError(
                f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {self.name}",
                help="give one symbol a position, padded with -1 to the output's length; for CTC frames use ctc_cer",
            )
        said = scores if whole else np.where(labels < 0, PADDING, scores.argmax(axis=-1))
        table = np.array([self._row(a, b) for a, b in zip(said, labels, strict=True)], dtype=np.float64).reshape(-1, 2)
        broken = np.asarray(np.isnan(scores.reshape(len(scores), -1)).any(axis=1))
        return np.asarray(np.where(broken[:, None], np.nan, table))

    def _row(self, said: Array, true: Array) -> tuple[int, int]:
        first, second = self._units(said.tolist()), self._units(true.tolist())
        known = {unit: k for k, unit in enumerate(dict.fromkeys([*first, *second]))}
        return edits([known[u] for u in first], [known[u] for u in second]), len(second)

    def _units(self, symbols: list[int]) -> list[tuple[int, ...]]:
        """Words or single symbols, without padding, up to the end symbol."""
        kept = symbols[: symbols.index(self.end)] if self.end in symbols else symbols
        kept = [s for s in kept if s >= 0]
        if self.separator is None:
            return [(s,) for s in kept]
        words: list[list[int]] = [[]]
        for symbol in kept:
            if symbol == self.separator:
                words.append([])
            else:
                words[-1].append(symbol)
        return [tuple(word) for word in words if word]

    def value(self, rows: Rows) -> float:
        """Edits over length; NaN without symbols."""
        return totals.of_all(rows, lambda sums: totals.ratio(*sums.T))

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the rate [resamples]."""
        return totals.of_resamples(rows, lambda sums: totals.ratio(*sums.T))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's symbols, padded with -1."""
        scores = _scores_or_classes(outputs, self.output)[1]
        return padded((scores if scores.dtype.kind in "iu" else scores.argmax(axis=-1)).tolist())


TOKEN_ACCURACY = TokenAccuracy()
CER = ErrorRate()
WER = ErrorRate(name="wer")
