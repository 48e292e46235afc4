"""Scores of class decisions, one a sample: top-k, and agreement with the float network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.metrics.pick import Array, Rows, chosen, one_a_sample

IGNORED = -100  # a position with this label does not count (the convention of segmentation and token labels)
MOST_CLASSES = 1 << 31
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


def squeezed(shape: tuple[int, ...]) -> list[int]:
    """Sizes of a shape behind the batch axis, without those of 1."""
    return [d for d in shape[1:] if d != 1]


def class_count(scores: Array) -> int:
    """How many classes there are to choose from; any number where the network chose itself."""
    if scores.dtype.kind in "iub":
        return MOST_CLASSES
    return 2 if is_binary_head(scores) else int(scores.shape[1])


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
        whose = f" of sample {where[0]}" if len(bad) > 1 else ""
        share = f"; {int(bad.sum())} of {bad.size} labels are" if bad.size > 1 else ""
        raise InputError(
            f"label {whole[where]}{whose} is outside the network's {classes} classes (0 to {classes - 1}){share}",
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
        if scores.dtype.kind in "iub":
            return self._chosen(name, decide(scores), labels)
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

    def _chosen(self, name: str, classes: NDArray[np.int64], labels: Array) -> Rows:
        """Classes that the network chose itself, at the place of each label."""
        if squeezed(classes.shape) != squeezed(labels.shape) or len(classes) != len(labels) or self.k != 1:
            raise InputError(
                f"output {name!r} holds classes {list(classes.shape)}, and labels {list(labels.shape)} do not fit",
                help="give a class number for each of its places, and use top1",
            )
        whole = check_labels(labels.reshape(classes.shape), MOST_CLASSES, IGNORED)
        counted = whole != IGNORED
        return _share((classes == whole) & counted, counted)

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
    """The class chosen for each sample or position: the highest score, or the threshold for a binary head.

    Whole numbers are classes that the network chose itself.
    """
    if scores.dtype.kind in "iub":
        return (scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores).astype(np.int64)
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
    if scores.dtype.kind in "iub":
        return np.zeros(decide(scores).shape, bool)
    if is_binary_head(scores):
        return np.isnan(scores.reshape(-1))
    return np.isnan(scores).any(axis=class_axis(scores))
