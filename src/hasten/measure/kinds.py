"""The kind of an output, guessed from a few answers and their labels; ``--output-kind`` overrules the guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.compare import kind as kind_of
from hasten.metrics.classes import class_axis, is_binary_head
from hasten.protocols import Array

CLASSES = ("logits", "probabilities")  # the highest score decides
YES_OR_NO = ("flags", "mask")  # a threshold decides: for each number a sample, or for each position
DECISIONS = (*CLASSES, *YES_OR_NO)
WHOLE, LISTED = "indices", "list"
NUMBERS = ("quantity", "embedding", "boxes")
KINDS = (*DECISIONS, *NUMBERS, WHOLE, LISTED)
EMBEDDED = 64  # columns, beyond which a vector without labels is no list of quantities
ORDERED = 8  # entries, from which on falling scores are a sorted list
UNEVEN = 10.0  # times the spread or size of another column: no scores of classes
STEADY = 0.98  # of the answers: what the same column decides so often is no choice of a class


def guess(name: str, arrays: Sequence[Array], labels: Array | None, fixed_inputs: bool) -> tuple[str, bool]:
    """The kind of one output, and whether labels settle it. ``arrays`` are of several samples, with a batch axis."""
    arrays = [np.asarray(a) for a in arrays]
    if not any(a.size for a in arrays):
        return "quantity", False
    if kind_of(arrays[0].dtype) != "number":
        listed = len({a.shape[1:] for a in arrays}) > 1 and fixed_inputs
        return LISTED if listed and arrays[0].dtype.kind in "iufb" else WHOLE, False
    if arrays[0].dtype.kind == "c":
        return "quantity", False
    arrays = [_finite(a) for a in arrays]
    if len({a.ndim for a in arrays}) > 1 or (fixed_inputs and len({a.shape[1:] or a.shape for a in arrays}) > 1):
        return LISTED, False
    joined = np.concatenate([np.atleast_1d(a) for a in arrays]) if len({a.shape[1:] for a in arrays}) == 1 else None
    if joined is not None and labels is not None and (by_labels := _by_labels(joined, labels)):
        return by_labels, True
    if joined is None:
        flat = np.concatenate([np.moveaxis(a, _last(a), -1).reshape(-1, a.shape[_last(a)]) for a in arrays if a.size])
        return (_scores(flat) if _sums_to_one(flat) else "quantity"), False
    return _by_numbers(name, joined), False


def _finite(array: Array) -> Array:
    """As float64, with zeros for what is no number."""
    wide = np.asarray(array, np.float64)
    return np.where(np.isfinite(wide), wide, 0.0)


def _last(array: Array) -> int:
    return array.ndim - 1


def _by_labels(scores: Array, labels: Array) -> str | None:
    """What labels say an output is; None where they belong to another one."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iubf" or len(labels) != len(scores):
        return None
    squeezed = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if not squeezed.size:
        return None
    counted = squeezed[np.isfinite(squeezed)] if squeezed.dtype.kind == "f" else squeezed
    whole = bool((counted == np.round(counted)).all())
    axis = class_axis(scores, squeezed) if scores.ndim > 1 else 0
    fits = scores.ndim > 1 and scores.shape[:axis] + scores.shape[axis + 1 :] == squeezed.shape
    if whole and fits and scores.shape[axis] > 1:
        return _scores(np.moveaxis(scores, axis, -1).reshape(-1, scores.shape[axis]))
    same = [d for d in scores.shape if d != 1] == [d for d in squeezed.shape if d != 1]
    if not same:
        return None
    if set(np.unique(counted[:100_000]).tolist()) <= {0, 1} or _is_255(counted):
        return "mask" if scores.ndim > 2 else "flags"
    return "quantity"


def _is_255(labels: Array) -> bool:
    return labels.dtype == np.uint8 and set(np.unique(labels[:100_000]).tolist()) == {0, 255}


def _by_numbers(name: str, a: Array) -> str:
    """The same from the numbers alone."""
    inside = bool((a >= 0).all() and (a <= 1 + 1e-3).all())
    if a.ndim == 1 or (a.ndim == 2 and a.shape[1] == 1):
        return "flags" if inside and float(a.min()) < 0.5 <= float(a.max()) else "quantity"
    if _sorted(a):
        return LISTED
    if boxes_axis(name, a) is not None:
        return "boxes"
    axis = class_axis(a)
    table = np.moveaxis(a, axis, -1).reshape(-1, a.shape[axis])
    if table.shape[1] > 1 and _sums_to_one(table):
        return "probabilities"
    if a.ndim > 2:
        return "mask" if inside and float(a.min()) < 0.5 <= float(a.max()) else "quantity"
    if inside:
        return "flags" if float(a.max()) >= 0.5 else "quantity"
    if np.allclose(np.linalg.norm(a, axis=1), 1, atol=1e-3):
        return "embedding"
    if _exchangeable(table):
        return "logits"
    return "embedding" if a.shape[1] > EMBEDDED else "quantity"


def _scores(table: Array) -> str:
    return "probabilities" if _sums_to_one(table) else "logits"


def _sums_to_one(table: Array) -> bool:
    return bool(table.size and (table >= 0).all() and np.allclose(table.sum(-1), 1, atol=1e-2))


def _exchangeable(table: Array) -> bool:
    """Columns of one scale of which none always wins: they may be scores of classes."""
    spreads, sizes = table.std(0), np.abs(table).mean(0)
    if (table >= 0).all() or not spreads.min() > 0:
        return False
    if max(spreads.max() / spreads.min(), sizes.max() / max(sizes.min(), 1e-30)) > UNEVEN:
        return False
    counts = np.bincount(table.argmax(1), minlength=table.shape[1])
    return float(counts.max()) <= STEADY * len(table)


def _sorted(a: Array) -> bool:
    """A list that its network sorts by score: places in it say nothing of what stands there."""
    table = a if a.ndim == 2 else None
    if a.ndim == 3 and a.shape[1] >= ORDERED:
        steps = np.diff(a, axis=1)
        return bool(((steps <= 0).all(axis=(0, 1)) & (steps < 0).any(axis=(0, 1))).any())
    if table is None or table.shape[1] < ORDERED:
        return False
    steps = np.diff(table, axis=1)
    return bool((steps <= 0).all() and (steps < 0).any())


def boxes_axis(name: str, a: Array) -> int | None:
    """The axis of the columns of boxes: four coordinates, then scores in [0, 1]; None where there are no boxes."""
    if a.ndim != 3:
        return None
    for axis in (2, 1):
        size, count = a.shape[axis], a.shape[3 - axis]
        if size < 4 or count < 2 or (axis == 1 and count <= size):
            continue
        table = np.moveaxis(a, axis, -1).reshape(-1, size)
        box, rest = table[:, :4], table[:, 4:]
        scored = bool(rest.size and (rest >= 0).all() and (rest <= 1 + 1e-3).all())
        if (scored or (size == 4 and "box" in name.lower())) and (_corners(box) or _centers(box)):
            return axis
    return None


def _corners(box: Array) -> bool:
    return bool(np.mean((box[:, 2] >= box[:, 0]) & (box[:, 3] >= box[:, 1])) > 0.99)


def _centers(box: Array) -> bool:
    return bool(np.mean((box[:, 2] > 0) & (box[:, 3] > 0)) > 0.99)


def as_corners(box: Array) -> Array:
    """Boxes [n, 4] as (left, top, right, bottom), from those or from (middle, size)."""
    if _corners(box):
        return box
    half = box[:, 2:] / 2
    return np.concatenate([box[:, :2] - half, box[:, :2] + half], axis=1)


def axis_of(kind: str, arrays: Sequence[Array], labels: Array | None) -> int | None:
    """The axis of columns or classes."""
    first = arrays[0]
    if kind == "boxes" and first.ndim == 3:
        found = boxes_axis("boxes", np.concatenate(arrays)) if len({a.shape[1:] for a in arrays}) == 1 else None
        return found or 2
    if first.ndim < 2 or kind == LISTED:
        return None
    if kind in CLASSES:
        one = len({a.shape[1:] for a in arrays}) == 1
        joined = np.concatenate(arrays) if one else first
        truth = None if labels is None else np.asarray(labels)
        if truth is not None and truth.ndim == 2 and truth.shape[1] == 1:
            truth = truth[:, 0]
        return class_axis(joined, truth if one and truth is not None and len(truth) == len(joined) else None)
    if is_binary_head(first):
        return None
    return class_axis(first)


def threshold_of(arrays: Sequence[Array]) -> float:
    """Where yes begins: 0.5 for probabilities, 0 for logits."""
    outside = any(bool((a < -1e-3).any() or (a > 1 + 1e-3).any()) for a in arrays if a.dtype.kind == "f")
    return 0.0 if outside else 0.5
