"""Masks and class maps: Dice, intersection over union and F1 of each class, pooled or a sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.metrics import totals
from hasten.metrics.classes import IGNORED, check_labels, class_axis, decide, squeezed
from hasten.metrics.heads import VOID, check_probabilities
from hasten.metrics.pick import Array, Rows, chosen

Counts = NDArray[np.float64]  # [b, 3, classes]: right, chosen, labelled positions
OWN_CLASSES = 256
BLOCK = 1 << 14  # positions whose scores are compared at once


def highest(scores: Array, axis: int) -> tuple[NDArray[np.int16], bool]:
    """The class with the highest score at each position, lower index first, and whether a score is NaN.

    A walk over the classes in blocks that fit the cache; ``argmax`` over an inner axis is far slower.
    """
    planes = np.moveaxis(scores, axis, 0)
    flat = planes.reshape(len(planes), -1)
    index, broken = np.zeros(flat.shape[1], dtype=np.int16), False
    for start in range(0, flat.shape[1], BLOCK):
        block, chosen_here = flat[:, start : start + BLOCK], index[start : start + BLOCK]
        best = block[0].copy()
        for k in range(1, len(block)):
            np.putmask(chosen_here, block[k] > best, k)
            np.maximum(best, block[k], out=best)
        broken = broken or bool(np.isnan(best).any())
    return index.reshape(planes.shape[1:]), broken


def _positions(
    outputs: Mapping[str, Array], output: str | None, labels: Array, threshold: float, void: int | None, metric: str
) -> tuple[Array, Array, int, bool]:
    """(chosen class, label) [b, positions] with -100 where a position does not count, classes, and "a score is NaN".

    A map of one number a position is a mask: class 1 from ``threshold`` on.
    """
    name, scores = chosen(outputs, output)
    labels = np.asarray(labels)
    b = len(scores)
    answer: Array
    if scores.dtype.kind in "iu" and len(labels) == b and squeezed(scores.shape) == squeezed(labels.shape):
        answer, classes, broken = _own_classes(name, scores), OWN_CLASSES, False
    elif scores.ndim > 1 and len(labels) == b and squeezed(scores.shape) == squeezed(labels.shape):
        check_probabilities(name, scores, threshold, metric)
        answer, classes, broken = np.asarray(scores >= threshold), 2, bool(np.isnan(scores).any())
    else:
        axis = class_axis(scores, labels)
        if axis == 0 or scores.shape[:axis] + scores.shape[axis + 1 :] != _without_ones(labels, scores.ndim - 1):
            raise InputError(
                f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {metric}",
                help="give a class number for each position [b, H, W], or a mask of the output's shape",
            )
        answer, broken = highest(scores, axis)
        classes = scores.shape[axis]
    truth = _truth(labels, classes, void)
    return answer.reshape(b, -1), truth.reshape(b, -1), classes, broken


def _own_classes(name: str, answer: Array) -> Array:
    """Classes that the network chose itself; how many there are no single answer shows."""
    if answer.size and not 0 <= answer.min() <= answer.max() < OWN_CLASSES:
        what = f"output {name!r} holds {answer.max()}, beyond {OWN_CLASSES} classes"
        raise InputError(what, help="score the output before its ArgMax, or use top1")
    return answer


def _without_ones(labels: Array, dims: int) -> tuple[int, ...]:
    """The labels' shape, without an axis of 1 behind the batch where it has one axis too many."""
    shape = labels.shape
    return (shape[0], *shape[2:]) if len(shape) == dims + 1 and shape[1] == 1 else shape


def _truth(labels: Array, classes: int, void: int | None) -> Array:
    """Labels with -100 where a position does not count; without ``void``, a mask is what is not 0."""
    if void is None and classes == 2:
        return (labels > 0).astype(np.int8)
    if labels.dtype.kind == "b" or (labels.dtype == np.uint8 and (void is None or labels.max(initial=0) < classes)):
        return np.asarray(check_labels(labels, classes)) if labels.max(initial=0) >= classes else labels
    if void is not None and classes <= void:
        labels = np.where(labels == void, np.asarray(IGNORED, np.int16), labels)
    return check_labels(labels, classes)


def _counts(answer: Array, truth: Array, classes: int) -> Counts:
    """Right, chosen and labelled positions of each class for each sample, where the label counts."""
    table = np.zeros((len(answer), 3, classes))
    for row, said, true in zip(table, answer, truth, strict=True):
        pairs = true.astype(np.int32) * classes + said
        if true.dtype.kind == "i" and true.min(initial=0) < 0:
            pairs = pairs[true >= 0]
        matrix = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        row[:] = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    return table


def _by_class(counts: Rows, score: str) -> Rows:
    """Dice or IoU of each class [..., classes] from counts [..., 3, classes]; NaN where a class does not occur."""
    right, said, true = np.moveaxis(counts, -2, 0)
    return totals.ratio(2 * right, said + true) if score == "dice" else totals.ratio(right, said + true - right)


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Dice or IoU over all positions of all samples: the mean over the classes that occur.

    Scores are [b, C, H, W] with labels [b, H, W], or a mask of the output's shape, which counts class 1 alone.
    ``background`` counts class 0 of several, ``only`` leaves one class. Positions labelled -100 or ``void`` do not
    count. Rows are the right, chosen and labelled positions of each class.
    """

    name: str = "miou"
    score: str = "iou"
    background: bool = True
    only: int | None = None
    output: str | None = None
    threshold: float = 0.5
    void: int | None = VOID
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 3 classes]."""
        return _rows(self, outputs, labels)[0].reshape(len(labels), -1)

    def by_class(self, rows: Rows) -> Rows:
        """The value of each counted class, NaN where it does not occur."""
        return _by_class(rows.sum(axis=0).reshape(3, -1), self.score)

    def value(self, rows: Rows) -> float:
        """The mean over classes; NaN where none occurs."""
        return totals.of_all(rows, self._mean)

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the mean over classes [resamples]."""
        return totals.of_resamples(rows, self._mean)

    def _mean(self, sums: Rows) -> Rows:
        return totals.mean_of_defined(_by_class(sums.reshape(len(sums), 3, -1), self.score))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own map."""
        return _own_map(outputs, self.output, self.threshold)


@dataclass(frozen=True, kw_only=True)
class RegionsPerSample:
    """Dice or IoU of each sample: the mean over the classes that occur in its label or answer; 1 where none does.

    Options are those of ``Regions``.
    """

    name: str = "dice"
    score: str = "dice"
    background: bool = False
    only: int | None = None
    output: str | None = None
    threshold: float = 0.5
    void: int | None = VOID
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] in [0, 1]."""
        counts, broken = _rows(self, outputs, labels)
        found = totals.mean_of_defined(_by_class(counts, self.score))
        return np.full_like(found, np.nan) if broken else np.where(np.isnan(found), 1.0, found)

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own map."""
        return _own_map(outputs, self.output, self.threshold)


def _rows(metric: Regions | RegionsPerSample, outputs: Mapping[str, Array], labels: Array) -> tuple[Counts, bool]:
    """Counts [b, 3, counted classes], NaN where a score is NaN."""
    answer, truth, classes, broken = _positions(
        outputs, metric.output, labels, metric.threshold, metric.void, metric.name
    )
    counts = _counts(answer, truth, classes)
    scores = chosen(outputs, metric.output)[1]
    mask = scores.dtype.kind == "f" and squeezed(scores.shape) == squeezed(np.shape(labels))
    if metric.only is not None and metric.only >= classes:
        raise InputError(
            f"{metric.name} counts class {metric.only}, and there are {classes}", help="classes start at 0"
        )
    if metric.only is not None:
        counts = counts[..., metric.only : metric.only + 1]
    elif mask or not metric.background:
        counts = counts[..., 1:]
    return np.full_like(counts, np.nan) if broken else counts, broken


def _own_map(outputs: Mapping[str, Array], output: str | None, threshold: float) -> Array:
    scores = chosen(outputs, output)[1]
    if scores.dtype.kind in "iu":
        return decide(scores)
    several = scores.ndim > 2 and scores.shape[class_axis(scores)] > 1
    return decide(scores) if several else np.asarray(scores >= threshold, dtype=np.int64)


MIOU = Regions()
MIOU_SAMPLE = RegionsPerSample(name="miou_sample", score="iou", background=True)
DICE = RegionsPerSample()
DICE_POOLED = Regions(name="dice_pooled", score="dice", background=False)
PIXEL_F1 = Regions(name="pixel_f1", score="dice")
