"""Labels as people have them: which of the usual notations they are in, and how they become the one that metrics read.

Class numbers count from 0, masks and yes-or-no answers are 0 and 1, -100 marks what does not count, and NaN a number
that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.metrics.classes import IGNORED, is_binary_head, squeezed
from hasten.metrics.heads import VOID
from hasten.metrics.pick import Array

MANY = 4096  # distinct values of labels that are looked at
HOLES = 0.01  # the least share of zeros in a dense target that may be holes (chosen)
FAR = 0.05  # of the median: no number that was measured lies between 0 and this where 0 marks holes (chosen)
ANSWERS = 0.2  # of the median: what the network itself answers at a hole, at least (chosen)
CLASSES_FILE = "classes.txt"
NUMBERS = ("mae", "mse", "rmse", "mape", "r2", "pearson", "quantile", "cosine")  # metrics that read numbers as they are
FLAGS = ("multilabel", "macro", "micro", "iou", "dice", "ap", "auc", "recall_at", "mrr", "ndcg")

Change = Callable[[Array], Array]


@dataclass(frozen=True)
class Seen:
    """What labels hold: distinct values (None: too many), how they are stored, the shape of one, missing numbers."""

    values: frozenset[Any] | None
    kind: str
    shape: tuple[int, ...] | None  # None where shapes differ
    missing: bool


@dataclass(frozen=True)
class Reading:
    """How labels are read: a sentence, and what it does to the labels of one sample."""

    told: str
    change: Change


def seen(labels: Iterable[Array]) -> Seen:
    """Look at labels, one a sample."""
    values: set[Any] = set()
    shapes, kinds, missing = set[tuple[int, ...]](), set[str](), False
    for label in labels:
        array = np.asarray(label)
        shapes.add(array.shape)
        kinds.add(array.dtype.kind)
        if array.dtype.kind == "f":
            missing = missing or bool(np.isnan(array).any())
            array = array[~np.isnan(array)] if array.ndim else array[None][~np.isnan(array)[None]]
        if len(values) <= MANY:
            values.update(np.unique(array).tolist())
    kind = kinds.pop() if len(kinds) == 1 else "U" if "U" in kinds else "f"
    shape = shapes.pop() if len(shapes) == 1 else None
    return Seen(frozenset(values) if len(values) <= MANY else None, kind, shape, missing)


def reading(
    found: Seen, scores: Array, sample: Array, metric: str | None, names: Sequence[str] = ()
) -> tuple[Reading, ...]:
    """How to read labels beside the output ``scores`` [b, ...]; one after another, none where they are as metrics want.

    ``sample`` holds the labels of the same samples [b, ...], ``metric`` is the name of the user's, ``names`` lists the
    classes in the order of the network.

    Raises:
        InputError: they are text that the network's classes do not match.
    """
    if found.kind == "U":
        return (_named(found, scores, names),)
    if found.values is None or _as_numbers(metric):
        return _holes(found, scores, sample)
    steps: list[Reading] = []
    axis = _one_hot_axis(scores, sample, metric)
    if axis is not None:
        told = "labels are one-hot: the class is the place of the 1"
        return (Reading(told, lambda label: np.asarray(label.argmax(axis=axis - sample.ndim), np.int64)),)
    classes = _classes(scores, sample)
    if classes is None:
        return _holes(found, scores, sample)
    step = _values(found, classes, dense=sample.ndim > 2 or (sample.ndim == 2 and scores.ndim == 3))
    if step is not None:
        steps.append(step)
    elif found.kind == "f" and (classes > 2 or found.values <= {0, 1}):
        what = "class numbers" if classes > 2 else "0 and 1"
        steps.append(Reading(f"labels are {what} written as floats", lambda label: label.astype(np.int64)))
    return tuple(steps)


def _as_numbers(metric: str | None) -> bool:
    return metric is not None and metric.startswith(NUMBERS)


def _named(found: Seen, scores: Array, names: Sequence[str]) -> Reading:
    """Names of classes to their numbers: in the order of the class list, else of the alphabet."""
    here = sorted(map(str, found.values or ()))
    if not here or len(here) > MANY:
        raise InputError("the labels are text of many kinds", help="give class numbers, or names of classes")
    listed = list(names) or here
    width = 2 if is_binary_head(scores) else scores.shape[1] if scores.ndim == 2 else None
    unknown = [name for name in here if name not in listed]
    if unknown or (width is not None and len(listed) != width):
        seen_here = ", ".join(here[:5]) + (", ..." if len(here) > 5 else "")
        what = f"the labels name {len(here)} classes, and the network has {width or scores.shape[-1]}"
        if unknown and names:
            what = f"label {unknown[0]!r:.60} is not in the list of classes"
        order = f"write {CLASSES_FILE} beside the data: a class a line, in the order of the network's scores"
        raise InputError(what, cause=f"labels: {seen_here}"[:200], help=order)
    number = {name: k for k, name in enumerate(listed)}
    by = f"as {CLASSES_FILE} lists them" if names else "by the alphabet"
    told = ", ".join(f"{name}={k}" for name, k in list(number.items())[:5]) + (", ..." if len(number) > 5 else "")

    def change(label: Array) -> Array:
        flat = [number[str(one)] for one in label.reshape(-1).tolist()]
        return np.asarray(flat, np.int64).reshape(label.shape)

    return Reading(f"labels are names of classes, numbered {by}: {told}", change)


def _one_hot_axis(scores: Array, sample: Array, metric: str | None) -> int | None:
    """The axis of labels of the output's shape along which exactly one of several is 1 and the others 0; or None."""
    if sample.shape != scores.shape or sample.ndim < 2 or (metric is not None and metric.endswith(FLAGS)):
        return None
    if metric is not None and any(name in metric for name in FLAGS[:3]):
        return None
    for axis in dict.fromkeys((1, sample.ndim - 1)):
        if sample.shape[axis] > 1 and np.isin(sample, (0, 1)).all() and (sample.sum(axis=axis) == 1).all():
            return axis
    return None


def _classes(scores: Array, sample: Array) -> int | None:
    """How many classes the labels are numbers of: 2 for yes-or-no; None where they are quantities."""
    one = squeezed(sample.shape)
    whole = sample.dtype.kind in "iub" or bool((sample[~np.isnan(sample)] % 1 == 0).all())
    if not whole:
        return None
    if scores.dtype.kind in "iu" and squeezed(scores.shape) == one:
        return VOID
    if squeezed(scores.shape) == one:
        return 2
    fits = [a for a in range(1, scores.ndim) if squeezed((*scores.shape[:a], *scores.shape[a + 1 :])) == one]
    wide = [a for a in fits if scores.shape[a] > 1]
    at = [a for a in (1, scores.ndim - 1) if a in wide]
    return scores.shape[at[0]] if at else None


def _values(found: Seen, classes: int, *, dense: bool) -> Reading | None:
    """The notation of class numbers, by the values that occur."""
    values = frozenset(found.values or ())
    if classes == 2 and values == {0, VOID}:
        return Reading("labels are 0 and 255: 255 is read as 1", lambda a: (a > 0).astype(np.uint8))
    if classes == 2 and values in ({-1, 1}, {-1}):
        return Reading("labels are -1 and 1: -1 is read as 0", lambda a: (a > 0).astype(np.uint8))
    if classes == 2 and values == {1, 2}:
        return Reading("labels are 1 and 2: they are read as 0 and 1", lambda a: a.astype(np.int64) - 1)
    if classes == 2 and values == {-1, 0, 1} and not dense:
        told = "labels are -1, 0 and 1: -1 is read as unknown and does not count"
        return Reading(told, lambda a: np.where(a == -1, IGNORED, a).astype(np.int64))
    marks = {v for v in values if v in (-1, VOID) and not 0 <= v < classes} if dense else set()
    inside = values - marks - {IGNORED}
    first = 1 if inside and min(inside) >= 1 and max(inside) == classes and classes < VOID else 0
    said: list[str] = []
    if marks:
        named = " and ".join(str(int(v)) for v in sorted(marks))
        said.append(f"{named} in the labels marks positions that do not count")
    if first:
        said.append(f"labels count from 1 to {classes}: 1 is subtracted")
    if not said:
        return None

    def change(label: Array) -> Array:
        out = np.isin(label, (*marks, IGNORED)) | (np.isnan(label) if label.dtype.kind == "f" else False)
        return np.where(out, IGNORED, np.where(out, 0, label).astype(np.int64) - first).astype(np.int16)

    return Reading("; ".join(said), change)


def _holes(found: Seen, scores: Array, sample: Array) -> tuple[Reading, ...]:
    """Numbers that are missing in a target: NaN, or 0 where none was measured and the network answers others."""
    if sample.dtype.kind != "f" or squeezed(scores.shape) != squeezed(sample.shape):
        return ()
    if found.missing:
        return (Reading("NaN in the labels marks numbers that do not count", lambda label: label),)
    zeros = sample == 0
    if sample.ndim < 3 or not HOLES <= float(zeros.mean()) < 1 or (sample < 0).any():
        return ()
    middle = float(np.median(sample[~zeros]))
    answers = scores.reshape(sample.shape)
    if float(sample[~zeros].min()) < FAR * middle or float(np.median(answers[zeros])) < ANSWERS * middle:
        return ()
    told = f"0 in the labels marks numbers that do not count: the others begin at {sample[~zeros].min():.3g}"
    return (Reading(told, lambda label: np.where(label == 0, np.nan, label)),)


def described(found: Seen, outputs: Mapping[str, Array]) -> str:
    """Labels and outputs in one line, for messages."""
    shape = "of different shapes" if found.shape is None else str(list(found.shape))
    values = "many values"
    if found.values is not None and len(found.values) <= 6:
        values = "values " + ", ".join(str(v) for v in sorted(found.values, key=str))
    ends = ", ".join(f"{n} {list(np.shape(a)[1:])}" for n, a in outputs.items())
    return f"a label is {shape} with {values}; outputs a sample: {ends}"
