"""Places that count from the end: ONNX takes negative ones, LiteRT refuses them or finds nothing there.

Gather(x, i)       =>  Gather(x, i mod size)
OneHot(i, depth)   =>  OneHot(where(i < 0, i + depth, i), depth)       (a place further out stays out)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.export.tflite_site import Site
from hasten.graph import walk

# one input, one output with the same numbers in another order or place
MOVES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten", "Expand"})
COUNTS = frozenset({"ArgMax", "ArgMin", "NonZero", "Shape", "Size", "Abs"})
DEEP = 16


def never_negative(value: ir.Value | None) -> bool:
    """True for numbers that are certainly zero or more."""
    for _ in range(DEEP):
        known = walk.constant(value)
        if known is not None:
            return bool((known >= 0).all())
        if value is not None and value.dtype is not None and value.dtype.name.startswith("UINT"):
            return True
        node = value.producer() if value is not None else None
        if node is None or value is None or node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type in COUNTS or (node.op_type == "TopK" and value is node.outputs[1]):
            return True
        if node.op_type in ("Mod", "Clip", "Max"):
            end = node.inputs[1] if len(node.inputs) > 1 else None
            return walk.attribute(node, "fmod", 0) == 0 and end is not None and never_negative(end)
        if node.op_type not in MOVES or _narrows(node):
            return False
        value = node.inputs[0]
    return False


def _narrows(node: ir.Node) -> bool:
    """A Cast of anything but integers to ones as wide may turn the sign."""
    source = node.inputs[0]
    before, after = source.dtype if source is not None else None, node.outputs[0].dtype
    whole = (ir.DataType.INT32, ir.DataType.INT64)
    kept = before in whole and after in whole and (before == after or after == ir.DataType.INT64)
    return node.op_type == "Cast" and not kept


def gather(s: Site) -> ir.Value | None:
    """A computed place, or a stored one on an axis of free size."""
    places, own = s.x(1), walk.dims(s.x())
    axis = s.attr("axis", 0) % max(1, s.rank())
    if own is None or places is None or never_negative(places):
        return None
    if walk.constant(places) is not None and isinstance(own[axis], int):
        return None  # settled when it is written
    scalar = walk.rank(places) == 0
    size = s.ints(own[axis]) if isinstance(own[axis], int) else s.add("Shape", s.x(), start=axis, end=axis + 1)
    return s.add("Gather", s.x(), _wrapped(s, places, s.add("Squeeze", size, s.ints(0)) if scalar else size), axis=axis)


def _wrapped(s: Site, places: ir.Value, sizes: ir.Value) -> ir.Value:
    if places.dtype == ir.DataType.INT32:
        places = s.add("Cast", places, to=ir.DataType.INT64.value)
    return s.add("Mod", places, sizes)


def nd(s: Site) -> ir.Value | None:
    """GatherND and ScatterND: a place is a row of numbers, one an axis."""
    places, own, shared = s.x(1), walk.dims(s.x()), s.attr("batch_dims", 0)
    width = (walk.dims(places) or [None])[-1]
    if own is None or places is None or not isinstance(width, int) or never_negative(places):
        return None
    sizes = own[shared : shared + width]
    known = [size for size in sizes if isinstance(size, int)]
    ends = s.ints(*known) if len(known) == width else s.add("Shape", s.x(), start=shared, end=shared + width)
    attributes = {name: a.value for name, a in s.node.attributes.items()}
    return s.add(s.node.op_type, s.x(), _wrapped(s, places, ends), *s.node.inputs[2:], **attributes)


def one_hot(s: Site) -> ir.Value | None:
    """LiteRT reads 32 bits of a place: those that lie further out are brought near first."""
    places, depth = s.x(), walk.scalar(s.x(1))
    kind = places.dtype if places is not None else None
    if places is None or depth is None or kind not in (ir.DataType.INT32, ir.DataType.INT64) or _ended(places):
        return None
    if walk.produced_by(places, "ArgMax", "ArgMin") is not None:
        return None
    zero, classes, below = (s.fixed(np.array(n, kind.numpy())) for n in (0, int(depth), -int(depth) - 1))
    if kind == ir.DataType.INT64:
        places = s.add("Max", s.add("Min", places, classes), below)
    behind = s.add("Where", s.add("Less", places, zero), s.add("Add", places, classes), places)
    attributes = {name: a.value for name, a in s.node.attributes.items()}
    return s.add("OneHot", behind, *s.node.inputs[1:], **attributes)


def _ended(places: ir.Value) -> bool:
    """Was this done before?"""
    where = walk.produced_by(places, "Where")
    less, added = (walk.produced_by(v, "Less", "Add") for v in where.inputs[:2]) if where is not None else (None, None)
    return (
        where is not None and less is not None and added is not None
        and less.inputs[0] is added.inputs[0] is where.inputs[2] and walk.scalar(less.inputs[1]) == 0
    )  # fmt: skip
