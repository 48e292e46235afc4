"""Slices, splits and padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.frontends.tflite_call import DAMAGED, Call, Translate

FAR = (1 << 31) - 1  # past the end of any axis
Bounds = NDArray[np.int64] | ir.Value  # one number an axis: known now, or computed


def cut(call: Call, x: ir.Value, axis: int, start: int, end: int, step: int = 1) -> ir.Value:
    return call.emit("Slice", x, *(call.fixed(np.array([n])) for n in (start, end, axis, step)))


def reverse(call: Call) -> ir.Value:
    x = call.real(0)
    for a in call.ints(1):
        x = cut(call, x, call.within(a, call.rank()), -1, -FAR, -1)
    return x


def split(call: Call) -> list[ir.Value]:
    """Inputs: the axis, and what is cut into equal parts."""
    axis, count = call.axis(0, call.rank(1)), len(call.operator.outputs)
    size = call.tensor(1).dims[axis]
    if size is None or size % count:
        raise call.refuse(f"axis {axis} of size {size} is cut into {count} parts")
    return _split(call, call.real(1), [size // count] * count, axis)


def split_v(call: Call) -> list[ir.Value]:
    """Inputs: what is cut, the sizes, of which one may be -1 for the rest, and the axis."""
    axis, sizes = call.axis(2, call.rank()), call.ints(1)
    if -1 in sizes:
        whole = call.tensor(0).dims[axis]
        if whole is None:
            raise call.refuse(f"it takes the rest of axis {axis}, whose size is free")
        sizes = [whole - sum(s for s in sizes if s >= 0) if s < 0 else s for s in sizes]
    if len(sizes) != len(call.operator.outputs) or min(sizes) < 0:
        raise call.refuse(f"it cuts into parts of {sizes} and has {len(call.operator.outputs)} outputs", DAMAGED)
    return _split(call, call.real(0), sizes, axis)


def _split(call: Call, x: ir.Value, sizes: list[int], axis: int) -> list[ir.Value]:
    if len(sizes) == 1:
        return [call.emit("Identity", x)]
    return call.emit_many("Split", x, call.fixed(np.array(sizes)), outputs=len(sizes), axis=axis)


def unpack(call: Call) -> list[ir.Value]:
    axis, count = call.within(int(call.option("axis", 0)), call.rank()), len(call.operator.outputs)
    parts = _split(call, call.real(0), [1] * count, axis)
    return [call.emit("Squeeze", p, call.fixed(np.array([axis]))) for p in parts]


def pad(call: Call) -> ir.Value:
    """Inputs: x, [axes, 2] of how much before and behind, and what to fill with (0)."""
    fill = call.shaped(2, []) if call.given(2) else None
    if call.tensor(1).data is not None:
        amounts = call.fixed(_amounts(call).T.reshape(-1))
    else:
        turned = call.emit("Transpose", call.index(1), perm=[1, 0])
        amounts = call.emit("Reshape", turned, call.fixed(np.array([-1])))
    return call.emit("Pad", call.real(0), amounts, fill)


def _amounts(call: Call) -> NDArray[np.int64]:
    amounts = call.known(1).astype(np.int64)
    if amounts.shape != (call.rank(), 2) or (amounts < 0).any() or (amounts >= FAR).any():
        raise call.refuse(f"it pads {call.rank()} axes by {amounts.tolist()}", DAMAGED)
    return amounts


def mirror_pad(call: Call) -> ir.Value:
    """REFLECT leaves the edge out; SYMMETRIC repeats it, for which ONNX has no mode: slices, turned round."""
    amounts, x = _amounts(call), call.real(0)
    if call.option("mode", 0) == 0:
        return call.emit("Pad", x, call.fixed(amounts.T.reshape(-1)), mode="reflect")
    for axis, (before, behind) in enumerate(amounts.tolist()):
        parts = [x]
        if before:
            parts.insert(0, cut(call, x, axis, before - 1, -FAR, -1))
        if behind:
            parts.append(cut(call, x, axis, -1, -behind - 1, -1))
        x = call.emit("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return x


def slice_(call: Call) -> ir.Value:
    """Inputs: x, where to begin and how many to take along each axis; -1 takes the rest."""
    steps = [1] * call.rank()
    starts, sizes = (_picked(call, k, list(range(call.rank()))) for k in (1, 2))
    return _cut(call, starts, _ends(call, starts, sizes), list(range(call.rank())), steps)


def _ends(call: Call, starts: Bounds, sizes: Bounds) -> Bounds:
    if isinstance(starts, np.ndarray) and isinstance(sizes, np.ndarray):
        return np.where(sizes < 0, FAR, starts + sizes)
    rest = call.emit("Less", _value(call, sizes), call.fixed(np.int64(0)))
    sums = call.emit("Add", _value(call, starts), _value(call, sizes))
    return call.emit("Where", rest, call.fixed(np.int64(FAR)), sums)


def strided_slice(call: Call) -> ir.Value:
    """numpy's x[begin:end:stride], a bit a position in each mask: from the start, to the end, drop, insert, dots."""
    masks = {m: int(call.option(f"{m}Mask", 0)) for m in ("begin", "end", "ellipsis", "newAxis", "shrinkAxis")}
    steps, rank = call.ints(3), call.rank()

    def marked(mask: str, i: int) -> bool:
        return bool(masks[mask] >> i & 1)

    dots = next((i for i in range(len(steps)) if marked("ellipsis", i)), len(steps))
    new = [i for i in range(len(steps)) if marked("newAxis", i) and i != dots]
    at = [i for i in range(len(steps)) if i != dots and i not in new]
    skipped = rank - len(at)
    if skipped < 0 or 0 in steps:
        raise call.refuse(f"it takes {len(at)} slices of {rank} axes in steps of {steps}", DAMAGED)
    axes = {i: i - sum(k < i for k in new) + (skipped - 1 if i > dots else 0) for i in at}
    dropped = [i for i in at if marked("shrinkAxis", i)]
    x = call.real(0)
    if at:
        starts, ends = _bounds(call, at, marked, steps)
        x = _cut(call, starts, ends, list(axes.values()), [steps[i] for i in at])
    if dropped:
        x = call.emit("Squeeze", x, call.fixed(np.array([axes[i] for i in dropped])))
    if new:
        places = [i - sum(k < i for k in dropped) + (skipped - 1 if i > dots else 0) for i in new]
        x = call.emit("Unsqueeze", x, call.fixed(np.array(places)))
    return x


def _bounds(call: Call, at: list[int], marked: Callable[[str, int], bool], steps: list[int]) -> tuple[Bounds, Bounds]:
    """Starts and ends of the slices at the positions ``at``."""
    signs = np.sign([steps[i] for i in at])
    begins, ends = _picked(call, 1, at), _picked(call, 2, at)
    starts = _choose(call, [marked("begin", i) for i in at], np.where(signs > 0, 0, FAR), begins)
    if call.option("offset", False):
        ends = _sum(call, starts, ends)
    ends = _choose(call, [marked("end", i) for i in at], np.where(signs > 0, FAR, -FAR), ends)
    single = [marked("shrinkAxis", i) for i in at]
    return starts, _choose(call, single, _next(call, starts), ends) if any(single) else ends


def _next(call: Call, starts: Bounds) -> Bounds:
    """One behind the start; behind -1, the last, comes the end."""
    if isinstance(starts, np.ndarray):
        return np.where(starts == -1, FAR, starts + 1)
    last = call.emit("Equal", starts, call.fixed(np.int64(-1)))
    return call.emit("Where", last, call.fixed(np.int64(FAR)), _value(call, _sum(call, starts, np.array([1]))))


def _sum(call: Call, a: Bounds, b: Bounds) -> Bounds:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(a + b)
    return call.emit("Add", _value(call, a), _value(call, b))


def _choose(call: Call, mask: list[bool], these: Bounds, others: Bounds) -> Bounds:
    if isinstance(these, np.ndarray) and isinstance(others, np.ndarray):
        return np.where(mask, these, others)
    if not any(mask):
        return others
    return call.emit("Where", call.fixed(np.array(mask)), _value(call, these), _value(call, others))


def _picked(call: Call, k: int, at: list[int]) -> Bounds:
    """The entries ``at`` of input ``k``."""
    if call.tensor(k).data is not None:
        return np.array(call.ints(k), np.int64)[at]
    return call.emit("Gather", call.index(k), call.fixed(np.array(at)))


def _value(call: Call, bounds: Bounds) -> ir.Value:
    return call.fixed(bounds.astype(np.int64)) if isinstance(bounds, np.ndarray) else bounds


def _cut(call: Call, starts: Bounds, ends: Bounds, axes: list[int], steps: list[int]) -> ir.Value:
    return call.emit("Slice", call.real(0), *(_value(call, b) for b in (starts, ends, np.array(axes), np.array(steps))))


TABLE: dict[str, Translate] = {
    "MIRROR_PAD": mirror_pad,
    "PAD": pad,
    "PADV2": pad,
    "REVERSE_V2": reverse,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "STRIDED_SLICE": strided_slice,
    "UNPACK": unpack,
}
