"""Scores of class decisions: top-k, macro F1, area under the ROC curve, agreement with the float network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.metrics.pick import Array, Rows, chosen, one_a_sample

IGNORED = -100  # a position with this label does not count (the convention of segmentation and token labels)
ROUNDING = 1e-3  # a probability may leave [0, 1] by this much in low precision


def class_axis(scores: Array, labels: Array | None = None) -> int:
    """Which axis of ``scores`` holds the classes: the one whose removal leaves the labels' shape, else a guess.

    The guess: the last for [b, C] and [b, T, C]; for images the shorter of the second and the last.
    """
    fits = [axis for axis in range(1, scores.ndim) if labels is not None and _without(scores, axis) == labels.shape]
    image_axis = 1 if scores.ndim > 3 and scores.shape[1] <= scores.shape[-1] else scores.ndim - 1
    return image_axis if not fits or image_axis in fits else fits[0]


def _without(scores: Array, axis: int) -> tuple[int, ...]:
    return scores.shape[:axis] + scores.shape[axis + 1 :]


def is_binary_head(scores: Array) -> bool:
    """True for one number a sample: [b] or [b, 1]."""
    return scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)


def check_labels(labels: Array, classes: int, ignored: int | None = IGNORED) -> NDArray[np.int64]:
    """``labels`` as integers within [0, classes).

    Raises:
        InputError: they are not whole numbers, or some are out of range (with the count and the first index).
    """
    numbers = np.asarray(labels)
    if numbers.dtype.kind not in "iub" and not (numbers.dtype.kind == "f" and (numbers == np.round(numbers)).all()):
        raise InputError(f"labels of type {numbers.dtype} are not class numbers", help="give whole numbers from 0")
    whole = numbers.astype(np.int64)
    bad = (whole < 0) | (whole >= classes)
    if ignored is not None:
        bad &= whole != ignored
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        off_by_one = whole.min() == 1 and whole.max() == classes
        raise InputError(
            f"label {whole[where]} of sample {where[0]} is outside the network's {classes} classes "
            f"(0 to {classes - 1}); {int(bad.sum())} of {bad.size} labels are",
            cause="the labels seem to count from 1" if off_by_one else "",
            help="subtract 1 from every label" if off_by_one else "check which output is scored and the label order",
        )
    return whole


@dataclass(frozen=True, kw_only=True)
class TopK:
    """Share of samples whose label is among the ``k`` highest scores; ties count against the network.

    Scores [b, C] with labels [b]. One number a sample ([b] or [b, 1]) is a probability of class 1, and class 1 is
    chosen from ``threshold`` on. Scores per position ([b, T, C], [b, C, H, W]) give each sample its share of right
    positions.
    """

    name: str = "top1"
    k: int = 1
    output: str | None = None
    threshold: float = 0.5
    kind: str = "binary"
    higher_is_better: bool = True
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """1.0 or 0.0 a sample, or the share of right positions: [b]."""
        name, scores = chosen(outputs, self.output)
        labels = np.asarray(labels)
        if is_binary_head(scores):
            return self._binary(name, scores.reshape(-1), labels)
        axis = class_axis(scores, labels)
        if _without(scores, axis) != labels.shape:
            if labels.ndim == 2 and labels.shape[1] == 1 and scores.ndim == 2:
                labels = labels[:, 0]
            else:
                raise InputError(
                    f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {self.name}",
                    help="give one class number a sample [b], or one a position",
                )
        whole = check_labels(labels, scores.shape[axis], IGNORED if scores.ndim > 2 else None)
        right = _within(np.moveaxis(scores, axis, -1), whole, self.k)
        counted = whole != IGNORED
        return _share(right & counted, counted)

    def _binary(self, name: str, scores: Array, labels: Array) -> Rows:
        whole = check_labels(one_a_sample(labels, len(scores), self.name), 2, None)
        outside = (scores < -ROUNDING) | (scores > 1 + ROUNDING)
        if outside.any() and self.threshold == 0.5:
            raise InputError(
                f"output {name!r} gives {scores[outside][0]:.3g} for a sample: not a probability",
                cause=f"{self.name} chooses class 1 from 0.5 on",
                help="use auc, or a metric with threshold=0.0 when these are logits",
            )
        return np.asarray((scores >= self.threshold) == (whole == 1), dtype=np.float64)

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own classes, for use without labels."""
        return decide(chosen(outputs, self.output)[1], self.threshold)


def _within(scores: Array, labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the label is among the k highest of the last axis. Equal scores go to the lower index, as argmax does."""
    safe = np.where(labels == IGNORED, 0, labels)[..., None]
    own = np.take_along_axis(scores, safe, axis=-1)
    index = np.arange(scores.shape[-1])
    ahead = (scores > own) | ((scores == own) & (index < safe))
    return np.asarray(((ahead | np.isnan(scores)).sum(axis=-1) < k) & ~np.isnan(own[..., 0]))


def _share(right: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Rows:
    axes = tuple(range(1, right.ndim))
    return np.asarray(right.sum(axis=axes) / np.maximum(counted.sum(axis=axes), 1), dtype=np.float64)


def decide(scores: Array, threshold: float = 0.5) -> NDArray[np.int64]:
    """The class chosen for each sample or position: the highest score, or the threshold for a binary head."""
    if is_binary_head(scores):
        return np.asarray(scores.reshape(-1) >= threshold, dtype=np.int64)
    return np.asarray(scores.argmax(axis=class_axis(scores)), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Share of answers equal to the float network's. No accuracy can drop by more than what is missing to 1."""

    name: str = "agreement"
    output: str | None = None
    threshold: float = 0.5
    kind: str = "binary"
    higher_is_better: bool = True
    needs_labels: bool = False

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """1.0 where the class is the same as in ``labels``, which ``reference`` made: [b]."""
        name, scores = chosen(outputs, self.output)
        classes = decide(scores, self.threshold)
        if classes.shape != np.shape(labels):
            raise InputError(f"output {name!r} decides {list(classes.shape)}, the reference {list(np.shape(labels))}")
        same = (classes == labels) & ~_undefined(scores)
        return _share(same, np.ones_like(same))

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes: [b], or one a position."""
        return decide(chosen(outputs, self.output)[1], self.threshold)


def _undefined(scores: Array) -> Any:
    """NaN anywhere among a position's scores: no answer, so no agreement."""
    if is_binary_head(scores):
        return np.isnan(scores.reshape(-1))
    return np.isnan(scores).any(axis=class_axis(scores))


@dataclass(frozen=True, kw_only=True)
class F1:
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
        classes = 2 if is_binary_head(scores) else scores.shape[1]
        whole = check_labels(one_a_sample(labels, len(scores), self.name), classes, None)
        return np.stack([decide(scores, self.threshold), whole], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """Macro F1 of these rows."""
        return self.weighted(rows)(np.ones(len(rows), dtype=np.intp))

    def weighted(self, rows: Rows) -> Callable[[NDArray[np.intp]], float]:
        """Counts of each row to macro F1."""
        pairs = rows.astype(np.int64)
        classes = int(pairs.max()) + 1

        def counted(counts: NDArray[np.intp]) -> float:
            matrix = np.bincount(pairs[:, 0] * classes + pairs[:, 1], counts, classes**2).reshape(classes, classes)
            sizes = matrix.sum(axis=0) + matrix.sum(axis=1)
            return float((2 * np.diag(matrix)[sizes > 0] / sizes[sizes > 0]).mean())

        return counted

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes."""
        return decide(chosen(outputs, self.output)[1], self.threshold)


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

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: score and label."""
        name, scores = chosen(outputs, self.output)
        if not (is_binary_head(scores) or (scores.ndim == 2 and scores.shape[1] == 2)):
            raise InputError(
                f"auc needs a score for two classes; output {name!r} is {list(scores.shape)}", help="use top1 or f1"
            )
        flat = scores.reshape(-1) if is_binary_head(scores) else scores[:, 1].astype(np.float64) - scores[:, 0]
        whole = check_labels(one_a_sample(labels, len(flat), self.name), 2, None)
        return np.stack([flat, whole], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """The area; NaN when only one class occurs."""
        return self.weighted(rows)(np.ones(len(rows), dtype=np.intp))

    def weighted(self, rows: Rows) -> Callable[[NDArray[np.intp]], float]:
        """Counts of each row to the area; the scores are sorted once."""
        order = np.argsort(rows[:, 0], kind="stable")
        score, positive = rows[order, 0], rows[order, 1] > 0.5
        starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))

        def counted(counts: NDArray[np.intp]) -> float:
            sorted_counts = counts[order]
            positives = np.add.reduceat(np.where(positive, sorted_counts, 0), starts)
            negatives = np.add.reduceat(np.where(positive, 0, sorted_counts), starts)
            pairs = float(positives.sum()) * float(negatives.sum())
            wins = float(positives @ (np.cumsum(negatives) - negatives / 2))
            return wins / pairs if pairs else float("nan")

        return counted

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's classes, at a probability of one half."""
        return decide(chosen(outputs, self.output)[1])
