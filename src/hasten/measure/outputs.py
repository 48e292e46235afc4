"""What each output of a network is, from the network's own answers: its kind, its columns, its best constant answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hasten.measure.kinds import CLASSES, DECISIONS, LISTED, WHOLE, axis_of, guess, threshold_of
from hasten.protocols import Array

F64 = NDArray[np.float64]
COLUMNS = 64  # an output of so many columns at most is kept column by column: each may mean something of its own
NAMED = 6  # columns that a line names one by one
STILL = 1e-3  # of its size: what varies less counts as constant; chosen, far above float32 rounding
DEAD = 1e-6  # of the whole output's spread: a column that varies less counts as constant


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output as the network itself answers it.

    ``axis`` is the axis of its columns or classes in an array with the batch axis. ``center`` is the constant answer
    with the smallest squared error: a mean at each position where all samples have one shape, else for each column.
    ``sizes`` and ``spreads`` have an entry a column: the root mean square, and that of the distance from ``center``.
    ``classes`` are the values of an output of whole numbers or text. ``commonest`` is the decision that most positions
    have. ``sure`` says that labels or the user named the kind.
    """

    name: str
    kind: str
    axis: int | None = None
    threshold: float = 0.5
    center: F64
    sizes: F64
    spreads: F64
    classes: tuple[str, ...] = ()
    commonest: int = 0
    share: float = 1.0  # of positions with the commonest decision
    sure: bool = False
    lengths: tuple[int, int] = (0, 0)  # of a list

    @property
    def still(self) -> NDArray[np.bool_]:
        """Columns that are constant, so far as these answers show."""
        most = float(self.spreads.max(initial=0.0))
        return np.asarray(self.spreads <= np.maximum(STILL * self.sizes, DEAD * most))

    def __str__(self) -> str:
        """``control: 2 quantities, [0] spread 0.21, [1] spread 3.4``."""
        return f"{self.name}: {_words(self)}"


def describe(
    answers: Mapping[str, Sequence[Array]],
    *,
    labels: Array | None = None,
    kinds: Mapping[str, str] | None = None,
    fixed_inputs: bool = True,
) -> tuple[Output, ...]:
    """Each output of ``answers``: arrays of several samples by output name, with their batch axis.

    ``labels`` [b, ...] are of the same samples. ``kinds`` are those that the user names. ``fixed_inputs`` says that all
    inputs have one shape, so that an output of varying length is a list.
    """
    found = []
    for name, arrays in answers.items():
        named = (kinds or {}).get(name)
        kind, sure = (named, True) if named else guess(name, arrays, labels, fixed_inputs)
        found.append(_described(name, kind, [np.asarray(a) for a in arrays], labels, sure=sure))
    return tuple(found)


def _described(name: str, kind: str, arrays: Sequence[Array], labels: Array | None, *, sure: bool) -> Output:
    empty = Output(
        name=name, kind=kind, center=np.zeros(()), sizes=np.zeros(1), spreads=np.zeros(1), sure=sure
    )  # fmt: skip
    if not arrays or not sum(a.size for a in arrays):
        return empty
    if kind == WHOLE:
        found, counts = np.unique(np.concatenate([a.reshape(-1).astype(str) for a in arrays]), return_counts=True)
        top = int(counts.argmax())
        return replace(
            empty, classes=tuple(found.tolist()), commonest=top, share=float(counts[top] / counts.sum())
        )  # fmt: skip
    axis = axis_of(kind, arrays, labels)
    output = replace(empty, axis=axis, threshold=threshold_of(arrays))
    if kind == LISTED:
        sizes = [a.shape[length_axis(a)] if a.ndim else 1 for a in arrays]
        output = replace(output, lengths=(min(sizes), max(sizes)))
    if kind in DECISIONS:
        decided = np.concatenate([decisions(output, a).reshape(-1) for a in arrays])
        counts = np.bincount(decided)
        output = replace(output, commonest=int(counts.argmax()), share=float(counts.max() / counts.sum()))
    return _measured(output, [values(output, a) for a in arrays])


def _measured(output: Output, arrays: Sequence[F64]) -> Output:
    """With its center, and the size and spread of each column."""
    same = len({a.shape[1:] for a in arrays}) == 1 and output.kind != "boxes"
    tables = [columns(output, a) for a in arrays]  # [positions, columns]
    joined = np.concatenate(tables)
    with np.errstate(all="ignore"):
        count = np.maximum(np.isfinite(joined).sum(0), 1)
        sizes = np.sqrt(np.nansum(np.where(np.isfinite(joined), joined, 0.0) ** 2, 0) / count)
        if same:
            stacked = np.concatenate(arrays) if arrays[0].ndim else np.stack(arrays)
            usable = np.where(np.isfinite(stacked), stacked, np.nan)
            center = np.nan_to_num(np.nanmean(usable, 0)) if np.isfinite(stacked).any() else np.zeros(stacked.shape[1:])
        else:
            means = np.where(np.isfinite(joined), joined, 0.0).sum(0) / count
            shape = [1] * (arrays[0].ndim - 1)
            if output.axis is not None and shape:
                shape[output.axis - 1] = -1
            center = means.reshape(shape)
        output = replace(output, center=np.asarray(center))
        off = np.concatenate([columns(output, a - output.center) for a in arrays])
        spreads = np.sqrt(np.square(np.where(np.isfinite(off), off, 0.0)).sum(0) / count)
    return replace(output, sizes=sizes, spreads=spreads)


def values(output: Output, array: Array) -> F64:
    """The numbers whose variance is kept: of class scores the probabilities, of a list its length and its means."""
    wide = real(array)
    if output.kind == "logits" and output.sure:
        return np.moveaxis(softmax(np.moveaxis(wide, output.axis or -1, -1)), -1, output.axis or -1)
    return summary(output, wide) if output.kind == LISTED else wide


def summary(output: Output, array: F64) -> F64:
    """A list without its order: how long it is, and the mean of each column [1, columns + 1]."""
    if not array.ndim:
        return np.asarray([[1.0, float(array)]])
    axis = length_axis(array)
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    means = rows.mean(0) if len(rows) else np.zeros(rows.shape[1])
    return np.concatenate([[float(array.shape[axis])], np.nan_to_num(means[:COLUMNS])])[None]


def length_axis(array: Array) -> int:
    """The axis of a list's entries: behind a batch axis of one, else the first."""
    return 1 if array.ndim > 1 and array.shape[0] == 1 else 0


def decisions(output: Output, array: Array) -> NDArray[np.int64]:
    """The class of each position, or 0 and 1 for what is decided by a threshold."""
    if output.kind in CLASSES:
        return np.asarray(np.argmax(real(array), axis=output.axis), np.int64)
    return np.asarray(real(array) >= output.threshold, np.int64)


def softmax(scores: F64) -> F64:
    """Probabilities along the last axis."""
    top = scores.max(axis=-1, keepdims=True)
    shifted = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    return np.asarray(shifted / np.maximum(shifted.sum(axis=-1, keepdims=True), 1e-300))


def real(array: Array) -> F64:
    """Numbers as float64; the complex ones as their real and imaginary parts along a last axis."""
    if array.dtype.kind == "c":
        wide = array.astype(np.complex128)
        return np.stack([wide.real, wide.imag], -1)
    return np.asarray(array, np.float64)


def columns(output: Output, array: F64) -> F64:
    """[positions, columns]; one column where the output has none of its own, or more than ``COLUMNS``."""
    axis = 1 if output.kind == LISTED else output.axis
    together = output.kind == "probabilities" or (output.kind == "logits" and output.sure)
    if axis is None or array.ndim <= axis or array.shape[axis] > COLUMNS or together:
        return array.reshape(-1, 1)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def _words(o: Output) -> str:
    """What it is, in words."""
    if o.kind == LISTED:
        return f"list of {o.lengths[0]} to {o.lengths[1]} entries, in any order"
    if o.kind == WHOLE:
        always = f"the commonest in {o.share:.0%} of places" if len(o.classes) > 1 else "the same everywhere"
        return f"indices, {len(o.classes)} values, {always}"
    if o.kind in DECISIONS:
        places = "answers" if o.center.ndim < 2 else "places"
        many = f" of {o.center.shape[o.axis - 1]} classes" if o.kind in CLASSES and o.axis and o.center.ndim else ""
        return f"{o.kind}{many}, the commonest decision in {o.share:.0%} of {places}"
    if len(o.spreads) == 1:
        return f"{o.kind}, {'constant' if o.still[0] else f'spread {o.spreads[0]:.2g}'}"
    named = [
        f"[{k}] {'constant' if s else f'spread {v:.2g}'}"
        for k, (s, v) in enumerate(zip(o.still, o.spreads, strict=True))
    ]
    if len(named) <= NAMED:
        return f"{o.kind} of {len(named)} columns, {', '.join(named)}"
    moving = o.spreads[~o.still]
    span = f"spread {moving.min():.2g} to {moving.max():.2g}" if len(moving) else "all constant"
    quiet = f", {int(o.still.sum())} of them constant" if 0 < o.still.sum() < len(named) else ""
    return f"{o.kind} of {len(named)} columns, {span}{quiet}"
