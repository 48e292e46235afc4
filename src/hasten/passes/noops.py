"""Exact rewrites of nodes that do nothing.

x[2, 8] -> Reshape [2, 8]        =>  x      (Flatten, Expand, Squeeze, Unsqueeze, Tile and Resize that keep the shape)
x -> Transpose [0, 1, 2]         =>  x
x -> Slice [0 : end]             =>  x
x float32 -> Cast float32        =>  x
x -> Pad(0, 0)                   =>  x
x -> Concat of one, Split in one =>  x
x -> Mul 1 | Div 1 | Pow 1       =>  x
x -> Add 0 | Sub 0               =>  x
x -> AveragePool 1x1, stride 1   =>  x          (a MaxPool makes a number of NaN)
x -> Relu -> Relu                =>  x -> Relu
x -> Neg -> Neg, Not -> Not      =>  x
x[b, 1, d] -> Expand [b, 9, d] -> Add y[b, 9, d]   =>  x -> Add y      (what broadcasts by itself)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.layouts import slice_bounds
from hasten.passes.rewrite import named

FOREVER = 1 << 30  # an end that no axis reaches
NEUTRAL = {"Mul": 1.0, "Div": 1.0, "Pow": 1.0, "Add": 0.0, "Sub": 0.0}
STRETCHING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Or", "Pow", "Sub"}
)  # fmt: skip


def _plain(node: ir.Node, *op_types: str) -> bool:
    return node.op_type in op_types and node.domain == "" and bool(node.inputs) and node.inputs[0] is not None


def same_shape_again(node: ir.Node, taken: set[str]) -> bool:
    if not _plain(node, "Reshape", "Flatten", "Expand", "Squeeze", "Unsqueeze", "Tile"):
        return False
    repeats = walk.integers(node.inputs[1]) if node.op_type == "Tile" else None
    once = repeats is not None and all(r == 1 for r in repeats)
    return (once or walk.same_shape(node.inputs[0], node.outputs[0])) and edit.bypass(node, node.inputs[0])


def resize_to_the_same(node: ir.Node, taken: set[str]) -> bool:
    """All scales are one, or the sizes asked for are those that are there."""
    cropping = walk.attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if not _plain(node, "Resize", "Upsample") or cropping:
        return False
    at = 2 if node.op_type == "Resize" else 1
    scales = walk.constant(node.inputs[at]) if len(node.inputs) > at else None
    if scales is not None and scales.size:
        return bool((scales == 1).all()) and edit.bypass(node, node.inputs[0])
    return walk.same_shape(node.inputs[0], node.outputs[0]) and edit.bypass(node, node.inputs[0])


def transpose_nothing(node: ir.Node, taken: set[str]) -> bool:
    perm = walk.attribute(node, "perm", None) if _plain(node, "Transpose") else None
    return perm is not None and list(perm) == sorted(perm) and edit.bypass(node, node.inputs[0])


def slice_everything(node: ir.Node, taken: set[str]) -> bool:
    bounds = slice_bounds(node) if _plain(node, "Slice") else None
    sizes = walk.dims(node.inputs[0]) if bounds else None
    if bounds is None:
        return False

    def whole(axis: int, start: int, end: int, step: int) -> bool:
        size = sizes[axis] if sizes is not None else None
        least = size if isinstance(size, int) else FOREVER
        return step == 1 and (start == 0 or start <= -least) and end >= least

    return all(whole(axis, *bound) for axis, bound in bounds.items()) and edit.bypass(node, node.inputs[0])


def cast_to_the_same(node: ir.Node, taken: set[str]) -> bool:
    if not _plain(node, "Cast") or node.inputs[0] is None or node.inputs[0].dtype is None:
        return False
    return int(node.inputs[0].dtype) == walk.attribute(node, "to", 0) and edit.bypass(node, node.inputs[0])


def pad_nothing(node: ir.Node, taken: set[str]) -> bool:
    if not _plain(node, "Pad"):
        return False
    pads = walk.integers(node.inputs[1]) if len(node.inputs) > 1 else walk.attribute(node, "pads", None)
    return pads is not None and not any(pads) and edit.bypass(node, node.inputs[0])


def concat_of_one(node: ir.Node, taken: set[str]) -> bool:
    """Split in one part, too; empty parts of a Concat go first."""
    if _plain(node, "Concat") and len(node.inputs) > 1:
        axis = walk.attribute(node, "axis", 0)
        sizes = [walk.dims(v) for v in node.inputs]
        kept = [v for v, s in zip(node.inputs, sizes, strict=True) if s is None or s[axis] != 0]
        if 0 < len(kept) < len(node.inputs):
            return edit.swap(node, "Concat", kept, taken, axis=axis)
    one = (_plain(node, "Concat") and len(node.inputs) == 1) or (_plain(node, "Split") and len(node.outputs) == 1)
    return one and edit.bypass(node, node.inputs[0])


def neutral_operand(node: ir.Node, taken: set[str]) -> bool:
    found = walk.operands(node) if node.op_type in NEUTRAL and node.domain == "" else None
    array = walk.constant(found[1]) if found is not None else None
    if found is None or array is None or (node.op_type not in ("Mul", "Add") and found[0] is not node.inputs[0]):
        return False
    if array.dtype.kind not in "fiu" or not bool(np.all(array == NEUTRAL[node.op_type])):
        return False
    stretches = not walk.same_shape(found[0], node.outputs[0]) and array.size > 1
    return not stretches and _same_rank(found[0], array.ndim) and edit.bypass(node, found[0])


def _same_rank(value: ir.Value, least: int) -> bool:
    rank = walk.rank(value)
    return least == 0 or (rank is not None and rank >= least)


def pool_of_one(node: ir.Node, taken: set[str]) -> bool:
    if not _plain(node, "AveragePool"):
        return False
    ones = [*walk.attribute(node, "kernel_shape", [2]), *walk.attribute(node, "strides", [1])]
    return (
        all(v == 1 for v in ones) and not any(walk.attribute(node, "pads", [0])) and edit.bypass(node, node.inputs[0])
    )


def twice_the_same(node: ir.Node, taken: set[str]) -> bool:
    """Relu of Relu; Neg of Neg and Not of Not."""
    before = walk.produced_by(node.inputs[0], node.op_type) if _plain(node, "Relu", "Neg", "Not") else None
    if before is None:
        return False
    return edit.bypass(node, node.inputs[0] if node.op_type == "Relu" else before.inputs[0])


def expand_before_stretching(node: ir.Node, taken: set[str]) -> bool:
    """An Expand whose every reader broadcasts, against an operand that has the wanted shape by itself."""
    output = node.outputs[0]
    if not _plain(node, "Expand") or output.is_graph_output() or not output.uses():
        return False
    rank = walk.rank(node.inputs[0])
    for reader, index in walk.consumers(output):
        if reader.op_type not in STRETCHING or reader.domain != "" or rank is None:
            return False
        other = reader.inputs[1 - index]
        sizes, wanted = walk.dims(other), walk.dims(output)
        if other is output or sizes is None or wanted is None or len(sizes) < len(wanted):
            return False
        had = walk.dims(node.inputs[0]) or []
        mine = [*[1] * (len(wanted) - len(had)), *had]
        for own, size, want in zip(mine, sizes[len(sizes) - len(wanted) :], wanted, strict=True):
            if want is None or want not in (own, size):
                return False
    return edit.bypass(node, node.inputs[0])


REWRITES = named(
    same_shape_again, resize_to_the_same, transpose_nothing, slice_everything, cast_to_the_same, pad_nothing,
    concat_of_one, neutral_operand, pool_of_one, twice_the_same, expand_before_stretching,
)  # fmt: skip
