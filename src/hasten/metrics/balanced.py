"""Balanced accuracy: each class counts alike, however rare it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.errors import InputError
from hasten.metrics import totals
from hasten.metrics.classes import check_labels, class_count, decide, is_binary_head
from hasten.metrics.heads import check_probabilities
from hasten.metrics.pick import Array, Rows, chosen, one_a_sample


@dataclass(frozen=True, kw_only=True)
class BalancedAccuracy:
    """The mean over the labels' classes of the share of right answers. Rows are (right, label)."""

    name: str = "balanced_accuracy"
    output: str | None = None
    threshold: float = 0.5
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: 1.0 for a right answer, and the label."""
        name, scores = chosen(outputs, self.output)
        if scores.ndim > 2:
            raise InputError(
                f"{self.name} needs one answer a sample, not {list(scores.shape)}", help="use miou or pixel_f1"
            )
        if is_binary_head(scores):
            check_probabilities(name, scores, self.threshold, self.name)
        whole = check_labels(one_a_sample(labels, len(scores), self.name), class_count(scores), None)
        right = (decide(scores, self.threshold) == whole).astype(np.float64)
        broken = np.isnan(scores.reshape(len(scores), -1)).any(axis=1)
        return np.stack([np.where(broken, np.nan, right), whole], axis=1)

    def value(self, rows: Rows) -> float:
        """Balanced accuracy of these rows."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to balanced accuracy [resamples]."""
        classes, kind = np.unique(rows[:, 1], return_inverse=True)
        order = np.argsort(kind, kind="stable")
        starts = np.searchsorted(kind[order], np.arange(len(classes)))
        right = rows[order, 0]

        def counted(counts: Rows) -> Rows:
            ordered = np.take(counts, order, axis=1).astype(np.float64)
            hits, seen = (np.add.reduceat(table, starts, axis=1) for table in (ordered * right, ordered))
            return totals.mean_of_defined(totals.ratio(hits, seen))

        return counted

    def strata(self, rows: Rows) -> Array:
        """[n] the label of each row."""
        return rows[:, 1]

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes."""
        return decide(chosen(outputs, self.output)[1], self.threshold)


BALANCED_ACCURACY = BalancedAccuracy()
