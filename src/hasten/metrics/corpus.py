"""Scores of class decisions that exist only for many samples together: macro F1, area under the ROC curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hasten.errors import InputError
from hasten.metrics.classes import check_labels, class_count, decide, is_binary_head
from hasten.metrics.pick import Array, Rows, chosen, one_a_sample


@dataclass(frozen=True, kw_only=True)
class MacroF1:
    """Macro F1: the mean over the classes that occur of 2 TP / (2 TP + FP + FN). Rows are (chosen, label)."""

    name: str = "f1"
    output: str | None = None
    threshold: float = 0.5
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: chosen class and label."""
        _, scores = chosen(outputs, self.output)
        if scores.ndim > 2:
            raise InputError(f"f1 needs one answer a sample, not {list(scores.shape)}", help="use top1")
        whole = check_labels(one_a_sample(labels, len(scores), self.name), class_count(scores), None)
        return np.stack([decide(scores, self.threshold), whole], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """Macro F1 of these rows."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to macro F1 [resamples]."""
        chosen_class, label = rows.astype(np.int64).T
        classes = int(rows.max()) + 1
        hit = np.where(chosen_class == label, label, classes)  # a column of misses, left out below
        tables = [sparse.csr_array((np.ones(len(rows)), (range(len(rows)), c))) for c in (hit, chosen_class, label)]

        def counted(counts: Rows) -> Rows:
            right, named, true = (_to_width(counts @ table, classes) for table in tables)
            sizes = named + true
            scores = np.where(sizes > 0, 2 * right / np.maximum(sizes, 1), 0)
            return np.asarray(scores.sum(axis=1) / np.maximum((sizes > 0).sum(axis=1), 1))

        return counted

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes."""
        return decide(chosen(outputs, self.output)[1], self.threshold)


def _instead(scores: tuple[int, ...], labels: tuple[int, ...]) -> str:
    """The metric that fits where AUC does not."""
    own = "score it with a function of your own: --metric package.module:function"
    if len(scores) == 2:
        return (
            "use top1 or f1" if len(labels) == 1 or labels[1:] == (1,) else "for several labels a sample use auc_macro"
        )
    if [d for d in scores if d != 1] == [d for d in labels if d != 1]:
        return "for masks use auc_pooled, auc_sample, iou or dice"
    if any(scores[:axis] + scores[axis + 1 :] == labels for axis in range(1, len(scores))):
        return f"for a class at each position use top1 or miou; for an area under a curve, {own}"
    return f"name another output with --output, or {own}"


def _to_width(table: Rows, width: int) -> Rows:
    """``table`` [r, k] cut or filled up with zeros to ``width`` columns."""
    return np.pad(table[:, :width], ((0, 0), (0, max(0, width - table.shape[1]))))


@dataclass(frozen=True, kw_only=True)
class Auc:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half. Rows are (score, label).

    Scores [b], [b, 1], or [b, 2], where the second minus the first is used.
    """

    name: str = "auc"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: score and label."""
        name, scores = chosen(outputs, self.output)
        if not (is_binary_head(scores) or (scores.ndim == 2 and scores.shape[1] == 2)):
            raise InputError(
                f"auc needs a score for two classes; output {name!r} is {list(scores.shape)}",
                help=_instead(scores.shape, np.shape(labels)),
            )
        flat = scores.reshape(-1) if is_binary_head(scores) else scores[:, 1].astype(np.float64) - scores[:, 0]
        whole = check_labels(one_a_sample(labels, len(flat), self.name), 2, None)
        return np.stack([flat, whole], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """The area; NaN when only one class occurs."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the area [resamples]; the scores are sorted once."""
        order = np.argsort(rows[:, 0], kind="stable")
        score, positive = rows[order, 0], rows[order, 1] > 0.5
        starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))

        def counted(counts: Rows) -> Rows:
            ordered = np.take(counts, order, axis=1)
            positives, negatives = ordered * positive, ordered * ~positive
            if len(starts) < len(score):
                positives = np.add.reduceat(positives, starts, axis=1)
                negatives = np.add.reduceat(negatives, starts, axis=1)
            pairs = positives.sum(axis=1) * negatives.sum(axis=1)
            wins = (positives * (np.cumsum(negatives, axis=1) - negatives / 2)).sum(axis=1)
            return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)

        return counted

    def strata(self, rows: Rows) -> Array:
        """[n] the class of each row: a resample holds as many of each."""
        return rows[:, 1] > 0.5

    def parts(self, rows: Rows) -> Rows:
        """[m] independent values whose mean is expected to be the area; m counts the rarer class.

        Each row of the rarer class meets a block of its own of the other class, dealt out in the order of a fixed
        shuffle; no row is used twice, so that the values are independent (Hoeffding, JASA 58:13 (1963), section 5).
        """
        positive = rows[:, 1] > 0.5
        order = np.random.default_rng(len(rows)).permutation(len(rows))
        rare, other = sorted((order[positive[order]], order[~positive[order]]), key=len)
        if not len(rare):
            return np.empty(0)
        size = len(other) // len(rare)
        blocks = rows[other[: size * len(rare)], 0].reshape(len(rare), size)
        above = (
            np.sign(rows[rare, 0][:, None] - blocks) if positive[rare[0]] else np.sign(blocks - rows[rare, 0][:, None])
        )
        return np.asarray((1 + above).mean(axis=1) / 2)

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes, at a probability of one half."""
        return decide(chosen(outputs, self.output)[1])
