"""Operators that move, pick, repeat or make elements and compute nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import DAMAGED, Call, Translate
from hasten.frontends.tflite_file import number_type


def reshape(call: Call) -> ir.Value:
    """The new shape is the second input, or an option in old files. One that only adds or drops axes of size 1 is
    written so: those let the order of axes pass."""
    x, before, after = call.real(0), call.tensor(0).dims, call.out().dims
    if call.given(1) and call.tensor(1).data is None:
        return call.emit("Reshape", x, call.index(1))
    option = call.option("newShape", None)
    wanted = call.ints(1) if call.given(1) else [] if option is None else [int(n) for n in option]
    agreed = len(wanted) == len(after) and all(w in (-1, n) for w, n in zip(wanted, call.out().shape, strict=True))
    axes = _ones(*sorted((before, after), key=len, reverse=True)) if agreed and len(before) != len(after) else []
    if axes:
        return call.emit("Squeeze" if len(after) < len(before) else "Unsqueeze", x, call.fixed(np.array(axes)))
    return call.emit("Reshape", x, call.fixed(np.array(wanted, np.int64)), allowzero=1 if 0 in wanted else None)


def _ones(longer: tuple[int | None, ...], shorter: tuple[int | None, ...]) -> list[int]:
    """The axes of size 1 without which ``longer`` is ``shorter``; none when there is more to it."""
    axes, k = [], 0
    for i, size in enumerate(longer):
        if k < len(shorter) and size == shorter[k] and (size is not None or i == k == 0):
            k += 1
        elif size == 1:
            axes.append(i)
        else:
            return []
    return axes if k == len(shorter) else []


def transpose(call: Call) -> ir.Value:
    perm = [call.within(a, call.rank()) for a in call.ints(1)]
    if sorted(perm) != list(range(call.rank())):
        raise call.refuse(f"it orders {call.rank()} axes as {perm}", DAMAGED)
    return call.emit("Transpose", call.real(0), perm=perm)


def squeeze(call: Call) -> ir.Value:
    named = call.option("squeezeDims", None)
    axes = [] if named is None else [call.within(int(a), call.rank()) for a in named]
    axes = axes or [i for i, n in enumerate(call.tensor(0).dims) if n == 1]
    return call.emit("Squeeze", call.real(0), call.fixed(np.array(axes, np.int64)))


def expand_dims(call: Call) -> ir.Value:
    return call.emit("Unsqueeze", call.real(0), call.fixed(np.array([call.axis(1, call.rank() + 1)])))


def concatenation(call: Call) -> ir.Value:
    axis = call.within(int(call.option("axis", 0)), call.rank())
    parts = [call.real(k) for k in range(len(call.operator.inputs))]
    return call.activated(call.emit("Concat", *parts, axis=axis))


def pack(call: Call) -> ir.Value:
    axis = call.within(int(call.option("axis", 0)), call.rank() + 1)
    place = call.fixed(np.array([axis]))
    parts = [call.emit("Unsqueeze", call.real(k), place) for k in range(len(call.operator.inputs))]
    return call.emit("Concat", *parts, axis=axis)


def reverse_sequence(call: Call) -> ir.Value:
    """Inputs: x, and how many steps of each sequence to turn round."""
    axes = {"time_axis": int(call.option("seqDim", 0)), "batch_axis": int(call.option("batchDim", 0))}
    if sorted(axes.values()) != [0, 1]:
        raise call.refuse(f"time runs along axis {axes['time_axis']} and the batch along {axes['batch_axis']}")
    return call.emit("ReverseSequence", call.real(0), call.index(1), **axes)


def tile(call: Call) -> ir.Value:
    return call.emit("Tile", call.real(0), call.index(1))


def broadcast_to(call: Call) -> ir.Value:
    return call.emit("Expand", call.real(0), call.index(1))


def fill(call: Call) -> ir.Value:
    """Inputs: the shape and the number."""
    return call.emit("Expand", call.real(1), call.index(0))


def arange(call: Call) -> ir.Value:
    """Inputs: first number, limit, step."""
    return call.emit("Range", *(call.shaped(k, []) for k in range(3)))


def shape(call: Call) -> ir.Value:
    return call.as_declared(call.emit("Shape", call.code(0)))


def rank(call: Call) -> ir.Value:
    return call.emit("Identity", call.fixed(np.array(call.rank(), number_type(call.out().dtype))))


def where(call: Call) -> ir.Value:
    """One row a place that is not zero."""
    return call.as_declared(call.emit("Transpose", call.emit("NonZero", call.code(0)), perm=[1, 0]))


TABLE: dict[str, Translate] = {
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "EXPAND_DIMS": expand_dims,
    "FILL": fill,
    "PACK": pack,
    "RANGE": arange,
    "RANK": rank,
    "RESHAPE": reshape,
    "REVERSE_SEQUENCE": reverse_sequence,
    "SHAPE": shape,
    "SQUEEZE": squeeze,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "WHERE": where,
}
