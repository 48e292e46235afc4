"""Areas and points of ROC and precision-recall curves: of two classes, or the mean over labels or classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.metrics import totals
from hasten.metrics.classes import IGNORED, decide
from hasten.metrics.heads import flags, two_classes
from hasten.metrics.pick import Array, Rows, chosen

Curve = tuple[Rows, Rows]  # positives and negatives at or above each distinct score [resamples, k], highest first


def _curve(score: Rows, label: Rows) -> Callable[[Rows], Curve]:
    """Counts [resamples, n] of each row to the curve; other labels than 0 and 1 do not count."""
    order = np.argsort(-score, kind="stable")
    ordered_score, ordered_label = score[order], label[order]
    starts = np.flatnonzero(np.append(True, ordered_score[1:] != ordered_score[:-1]))
    ends = np.append(starts[1:], len(score)) - 1

    def counted(counts: Rows) -> Curve:
        ordered = np.take(counts, order, axis=1).astype(np.float64)
        above = (np.cumsum(ordered * (ordered_label == side), axis=1)[:, ends] for side in (1, 0))
        return next(above), next(above)

    return counted


def average_precision(curve: Curve) -> Rows:
    """The sum over distinct scores of precision times the step of recall; NaN without positives."""
    positives, negatives = curve
    precision = totals.ratio(positives, positives + negatives, 0.0)
    steps = np.diff(positives, axis=1, prepend=0)
    return totals.ratio((precision * steps).sum(axis=1), positives[:, -1])


def roc_area(curve: Curve) -> Rows:
    """The chance that a positive scores above a negative, ties half; NaN when only one class occurs."""
    positives, negatives = curve
    steps = np.diff(negatives, axis=1, prepend=0)
    wins = (steps * (positives - np.diff(positives, axis=1, prepend=0) / 2)).sum(axis=1)
    return totals.ratio(wins, positives[:, -1] * negatives[:, -1])


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """Area under the precision-recall curve as a sum of steps, for two classes. Rows are (score, label)."""

    name: str = "ap"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: score and label."""
        return np.stack(two_classes(outputs, self.output, labels, self.name)[:2], axis=1)

    def value(self, rows: Rows) -> float:
        """Average precision; NaN without positives."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to average precision [resamples]."""
        curve = _curve(rows[:, 0], rows[:, 1])
        return lambda counts: average_precision(curve(counts))

    def strata(self, rows: Rows) -> Array:
        """[n] the label of each row."""
        return rows[:, 1]

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes, at a probability of one half."""
        return decide(chosen(outputs, self.output)[1])


@dataclass(frozen=True, kw_only=True)
class SensitivityAt:
    """The highest recall of class 1 over all thresholds that keep ``specificity``. Rows are (score, label)."""

    name: str = "sensitivity_at_specificity_95"
    specificity: float = 0.95
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: score and label."""
        return np.stack(two_classes(outputs, self.output, labels, self.name)[:2], axis=1)

    def value(self, rows: Rows) -> float:
        """The sensitivity; NaN when only one class occurs."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the sensitivity [resamples]."""
        curve = _curve(rows[:, 0], rows[:, 1])

        def counted(counts: Rows) -> Rows:
            positives, negatives = curve(counts)
            both = positives[:, -1] * negatives[:, -1] > 0
            kept = negatives <= (1 - self.specificity + 1e-12) * negatives[:, -1:]
            most = np.where(kept, positives, 0).max(axis=1)
            return np.asarray(np.where(both, totals.ratio(most, positives[:, -1]), np.nan))

        return counted

    def strata(self, rows: Rows) -> Array:
        """[n] the label of each row."""
        return rows[:, 1]

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes, at a probability of one half."""
        return decide(chosen(outputs, self.output)[1])


@dataclass(frozen=True, kw_only=True)
class CurveMean:
    """The mean over labels [b, L], or over classes against the rest for labels [b], of an area under a curve.

    Rows are the scores, then the labels. Columns where the area is not defined are left out.
    """

    name: str = "auc_macro"
    area: str = "roc"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2 L]: a score and a label for each column; a label of -100 does not count."""
        scores, wanted, _ = flags(outputs, self.output, labels, self.name)
        return np.concatenate([scores, wanted], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """The mean area; NaN where no column defines one."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the mean area [resamples]."""
        scores, labels = np.split(rows, 2, axis=1)
        curves = [_curve(s, y) for s, y in zip(scores.T, labels.T, strict=True)]
        area = roc_area if self.area == "roc" else average_precision
        return lambda counts: totals.mean_of_defined(np.stack([area(curve(counts)) for curve in curves], axis=1))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's answers: -100, 0 or 1 for each column."""
        scores = chosen(outputs, self.output)[1]
        return np.asarray(np.where(np.isnan(scores), IGNORED, scores >= 0.5), dtype=np.int64)


AP = AveragePrecision()
SENSITIVITY_AT_90 = SensitivityAt(name="sensitivity_at_specificity_90", specificity=0.9)
SENSITIVITY_AT_95 = SensitivityAt()
SENSITIVITY_AT_99 = SensitivityAt(name="sensitivity_at_specificity_99", specificity=0.99)
AUC_MACRO = CurveMean()
AP_MACRO = CurveMean(name="ap_macro", area="precision_recall")
