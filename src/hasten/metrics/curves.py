"""Areas and points of ROC and precision-recall curves: of two classes, or the mean over labels or classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.errors import InputError
from hasten.metrics import totals
from hasten.metrics.classes import IGNORED, check_labels, decide, squeezed
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


AREAS = {"roc": roc_area, "precision_recall": average_precision}


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
        area = AREAS[self.area]
        return lambda counts: totals.mean_of_defined(np.stack([area(curve(counts)) for curve in curves], axis=1))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's answers: -100, 0 or 1 for each column."""
        scores = chosen(outputs, self.output)[1]
        return np.asarray(np.where(np.isnan(scores), IGNORED, scores >= 0.5), dtype=np.int64)


def _positions(outputs: Mapping[str, Array], output: str | None, labels: Array, metric: str) -> tuple[Rows, Rows]:
    """(score, label) [b, positions] of a map of one number a position, or of two classes; -100 does not count.

    Raises:
        InputError: the shapes do not fit.
    """
    name, scores = chosen(outputs, output)
    labels = np.asarray(labels)
    if scores.ndim > 2 and scores.shape[1] == 2 and squeezed(scores.shape) != squeezed(labels.shape):
        scores = scores[:, 1].astype(np.float64) - scores[:, 0]
    if len(scores) != len(labels) or squeezed(scores.shape) != squeezed(labels.shape):
        raise InputError(
            f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {metric}",
            help="give a 0 or 1 for each position; -100 where none counts",
        )
    whole = check_labels(labels, 2)
    return scores.reshape(len(scores), -1).astype(np.float64), whole.reshape(len(whole), -1).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class DenseCurve:
    """An area under a curve over all positions of all samples. Rows are the scores, then the labels."""

    name: str = "auc_pooled"
    area: str = "roc"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2 positions]."""
        return np.concatenate(_positions(outputs, self.output, labels, self.name), axis=1)

    def value(self, rows: Rows) -> float:
        """The area; NaN where it is not defined."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the area [resamples]; one resample at a time, for memory."""
        scores, labels = np.split(rows, 2, axis=1)
        curve, area = _curve(scores.reshape(-1), labels.reshape(-1)), AREAS[self.area]
        each = scores.shape[1]
        return lambda counts: np.concatenate([area(curve(np.repeat(one[None], each, axis=1))) for one in counts])

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's mask, at a probability of one half."""
        return np.asarray(chosen(outputs, self.output)[1] >= 0.5, np.int64)


@dataclass(frozen=True, kw_only=True)
class CurvePerSample:
    """An area under a curve over the positions of each sample; 1 where a sample has one class only."""

    name: str = "auc_sample"
    area: str = "roc"
    output: str | None = None
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] in [0, 1]."""
        found = []
        for score, label in zip(*_positions(outputs, self.output, labels, self.name), strict=True):
            one = float(AREAS[self.area](_curve(score, label)(np.ones((1, len(score)))))[0])
            found.append(np.nan if np.isnan(score).any() else 1.0 if np.isnan(one) else one)
        return np.asarray(found)

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's mask, at a probability of one half."""
        return np.asarray(chosen(outputs, self.output)[1] >= 0.5, np.int64)


AUC_POOLED = DenseCurve()
AP_POOLED = DenseCurve(name="ap_pooled", area="precision_recall")
AUC_SAMPLE = CurvePerSample()
AP_SAMPLE = CurvePerSample(name="ap_sample", area="precision_recall")
AP = AveragePrecision()
SENSITIVITY_AT_90 = SensitivityAt(name="sensitivity_at_specificity_90", specificity=0.9)
SENSITIVITY_AT_95 = SensitivityAt()
SENSITIVITY_AT_99 = SensitivityAt(name="sensitivity_at_specificity_99", specificity=0.99)
AUC_MACRO = CurveMean()
AP_MACRO = CurveMean(name="ap_macro", area="precision_recall")
