"""Rates of decisions between two classes: precision, recall, specificity, F1 of class 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.metrics import totals
from hasten.metrics.classes import decide
from hasten.metrics.heads import check_probabilities, two_classes
from hasten.metrics.pick import Array, Rows, chosen

FORMULAS: Mapping[str, Callable[[Rows, Rows, Rows, Rows], Rows]] = {  # of tp, fp, fn, tn
    "precision": lambda tp, fp, fn, tn: totals.ratio(tp, tp + fp, 0.0),
    "recall": lambda tp, fp, fn, tn: totals.ratio(tp, tp + fn),
    "specificity": lambda tp, fp, fn, tn: totals.ratio(tn, tn + fp),
    "f1": lambda tp, fp, fn, tn: totals.ratio(2 * tp, 2 * tp + fp + fn),
}


@dataclass(frozen=True, kw_only=True)
class BinaryRate:
    """A rate of class 1 against class 0. Rows are true and false positives, false and true negatives.

    One number a sample chooses class 1 from ``threshold`` on; of two, the higher counts, and class 0 at a tie.
    Without a chosen positive, precision is 0; recall without positives and specificity without negatives are NaN.
    """

    name: str = "recall"
    rate: str = "recall"
    output: str | None = None
    threshold: float = 0.5
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 4]: true positive, false positive, false negative, true negative."""
        score, label, name = two_classes(outputs, self.output, labels, self.name)
        scores = chosen(outputs, name)[1]
        single = scores.ndim == 1 or scores.shape[1] == 1
        if single:
            check_probabilities(name, scores, self.threshold, self.name)
        said = score >= self.threshold if single else score > 0
        true = label == 1
        table = np.stack([said & true, said & ~true, ~said & true, ~said & ~true], axis=1).astype(np.float64)
        return np.asarray(np.where(np.isnan(score)[:, None], np.nan, table))

    def value(self, rows: Rows) -> float:
        """The rate of these rows; NaN where it is not defined."""
        return totals.of_all(rows, self._rate)

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the rate [resamples]."""
        return totals.of_resamples(rows, self._rate)

    def strata(self, rows: Rows) -> Array:
        """[n] the label of each row."""
        return np.asarray((rows[:, 0] + rows[:, 2]) > 0)

    def _rate(self, sums: Rows) -> Rows:
        return FORMULAS[self.rate](*sums.T)

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes."""
        return decide(chosen(outputs, self.output)[1], self.threshold)


PRECISION = BinaryRate(name="precision", rate="precision")
RECALL = BinaryRate()
SPECIFICITY = BinaryRate(name="specificity", rate="specificity")
F1_BINARY = BinaryRate(name="f1_binary", rate="f1")
