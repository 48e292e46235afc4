"""Scores of numbers and masks: mean absolute and squared error, intersection over union, cosine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hasten.errors import InputError
from hasten.metrics.classes import IGNORED
from hasten.metrics.pick import Array, Rows, chosen


def beside(outputs: Mapping[str, Array], output: str | None, labels: Array, metric: str) -> tuple[Rows, Rows]:
    """Output and labels as [b, everything else] float64, once their shapes agree (axes of length 1 apart)."""
    name, values = chosen(outputs, output)
    labels = np.asarray(labels)
    same = [d for d in values.shape[1:] if d != 1] == [d for d in labels.shape[1:] if d != 1]
    if values.shape[:1] != labels.shape[:1] or not same:
        raise InputError(
            f"output {name!r} {list(values.shape)} and labels {list(labels.shape)} do not fit {metric}",
            help="give labels of the output's shape, or name another output",
        )
    if labels.dtype.kind not in "fiub":
        raise InputError(f"labels of type {labels.dtype} are not numbers", help=f"{metric} needs numbers")
    return values.reshape(len(values), -1).astype(np.float64), labels.reshape(len(labels), -1).astype(np.float64)


def counted(values: Rows, wanted: Rows) -> tuple[Rows, Rows]:
    """(labels, weights): a label that is NaN counts 0 and becomes the output, so that no error is left."""
    known = ~np.isnan(wanted)
    return np.where(known, wanted, np.where(np.isnan(values), 0, values)), known.astype(np.float64)


def mean_counted(errors: Rows, weights: Rows) -> Rows:
    """The mean of each sample's errors over the numbers that count; 0 where none does."""
    return np.asarray((errors * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1))


@dataclass(frozen=True, kw_only=True)
class ErrorMean:
    """Mean of ``|output - label| ** power`` over a sample's numbers; lower is better. Labels of NaN do not count."""

    name: str = "mae"
    power: int = 1
    output: str | None = None
    kind: str = "score"
    higher_is_better: bool = False
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """The error of each sample: [b], in the output's unit (squared for mse)."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        wanted, weights = counted(values, wanted)
        return mean_counted(np.abs(values - wanted) ** self.power, weights)

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own output."""
        return chosen(outputs, self.output)[1]


@dataclass(frozen=True, kw_only=True)
class Iou:
    """Intersection over union of the mask from ``threshold`` on and the label's, a sample at a time.

    Two empty masks score 1. Positions labelled -100 do not count.
    """

    name: str = "iou"
    threshold: float = 0.5
    output: str | None = None
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] in [0, 1]."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        known = wanted != IGNORED
        mask, truth = (values >= self.threshold) & known, wanted >= 0.5
        union = (mask | truth).sum(axis=1)
        score = np.where(union > 0, (mask & truth).sum(axis=1) / np.maximum(union, 1), 1.0)
        return np.where(np.isnan(values).any(axis=1), np.nan, score)

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own mask."""
        return np.asarray(chosen(outputs, self.output)[1] >= self.threshold, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Cosine between a sample's output and the float network's, or the label; 1 for the same direction."""

    name: str = "cosine"
    output: str | None = None
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = False
    range: tuple[float, float] = (-1.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] in [-1, 1]; two zero vectors agree, one does not. ``labels`` come from ``reference``."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        norms = np.linalg.norm(values, axis=1) * np.linalg.norm(wanted, axis=1)
        both_zero = ~values.any(axis=1) & ~wanted.any(axis=1)
        cosine = np.clip((values * wanted).sum(axis=1) / np.where(norms == 0, 1, norms), -1, 1)
        return np.asarray(np.where(both_zero, 1.0, cosine))

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own output."""
        return chosen(outputs, self.output)[1]


COSINE_LABELS = Cosine(name="cosine_labels", needs_labels=True)
