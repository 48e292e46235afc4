"""Several yes-or-no answers a sample: F1 over labels or pooled, share of right labels, exact sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.metrics import totals
from hasten.metrics.classes import IGNORED
from hasten.metrics.heads import Flags, check_probabilities, flags
from hasten.metrics.pick import Array, Rows, chosen


def _decided(
    outputs: Mapping[str, Array], output: str | None, labels: Array, threshold: float, metric: str
) -> tuple[Flags, Flags, Flags, Flags]:
    """(answered yes, labelled yes, counted) [b, L] and (broken) [b].

    Where labels are class numbers [b], only the highest score answers yes.
    """
    scores, wanted, name = flags(outputs, output, labels, metric)
    if np.size(labels) == len(scores) and scores.shape[1] > 1:
        yes = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    else:
        check_probabilities(name, scores, threshold, metric)
        yes = scores >= threshold
    return yes, wanted == 1, wanted != IGNORED, np.asarray(np.isnan(scores).any(axis=1))


@dataclass(frozen=True, kw_only=True)
class MultiLabelF1:
    """F1 of labels [b, L]: the mean over the labels that occur (in labels or answers), or of all pooled (``micro``).

    Rows are true positives, false positives and false negatives of each label, or of all where pooled.
    """

    name: str = "f1_multilabel"
    micro: bool = False
    output: str | None = None
    threshold: float = 0.5
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 3 L], or [b, 3] where pooled."""
        yes, true, counted, broken = _decided(outputs, self.output, labels, self.threshold, self.name)
        kinds = [yes & true & counted, yes & ~true & counted, ~yes & true & counted]
        parts = [k.sum(axis=1, keepdims=True) if self.micro else k for k in kinds]
        table = np.concatenate(parts, axis=1).astype(np.float64)
        return np.asarray(np.where(broken[:, None], np.nan, table))

    def value(self, rows: Rows) -> float:
        """F1 of these rows; NaN where no label and no answer is yes."""
        return totals.of_all(rows, _f1)

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to F1 [resamples]."""
        return totals.of_resamples(rows, _f1)

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's answers, 0 or 1."""
        return np.asarray(chosen(outputs, self.output)[1] >= self.threshold, dtype=np.int64)


def _f1(sums: Rows) -> Rows:
    right, wrong, missed = np.split(sums, 3, axis=1)
    return totals.mean_of_defined(totals.ratio(2 * right, 2 * right + wrong + missed))


@dataclass(frozen=True, kw_only=True)
class MultiLabelAccuracy:
    """A sample's share of right labels (1 - Hamming loss), or 1.0 where all are right (``exact``)."""

    name: str = "accuracy_multilabel"
    exact: bool = False
    output: str | None = None
    threshold: float = 0.5
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] in [0, 1]; a sample without counted labels is right."""
        yes, true, counted, broken = _decided(outputs, self.output, labels, self.threshold, self.name)
        wrong = ((yes != true) & counted).sum(axis=1).astype(np.float64)
        seen = counted.sum(axis=1).astype(np.float64)
        score = (wrong == 0).astype(np.float64) if self.exact else 1 - totals.ratio(wrong, seen, 0.0)
        return np.asarray(np.where(broken, np.nan, score))

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's answers, 0 or 1."""
        return np.asarray(chosen(outputs, self.output)[1] >= self.threshold, dtype=np.int64)


F1_MULTILABEL = MultiLabelF1()
F1_MICRO = MultiLabelF1(name="f1_micro", micro=True)
ACCURACY_MULTILABEL = MultiLabelAccuracy()
EXACT_MULTILABEL = MultiLabelAccuracy(name="exact_multilabel", exact=True, kind="binary")
