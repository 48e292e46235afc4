"""Which operators compute the same on transposed tensors, and what changes in them then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.walk import Array

ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "And", "BitwiseXor", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor",
        "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual",
        "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
        "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor",
    }
)  # fmt: skip
BY_AXIS = {"Split": 0, "Softmax": -1, "LogSoftmax": -1, "ArgMax": 0, "ArgMin": 0, "TopK": -1, "Gather": 0}
REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"}
)
Move = Callable[[int], list[int]]


@dataclass(frozen=True)
class Change:
    """New attributes and constants of a node (or codes of constants behind a DequantizeLinear), and the inputs that
    must come transposed."""

    inputs: Sequence[int] = (0,)
    attributes: dict[str, int] = field(default_factory=dict)
    constants: dict[int, Array] = field(default_factory=dict)


def moved(node: ir.Node, move: Move) -> Change | None:
    """What changes when all tensors of full rank have their axes in the order ``move(rank)``; None when it cannot."""
    rank = walk.rank(node.outputs[0])
    if (
        node.domain not in ("", "ai.onnx")
        or rank is None
        or rank < 3
        or any(a.is_ref() for a in node.attributes.values())
    ):
        return None
    kind = node.op_type
    if kind in ELEMENTWISE or kind == "Concat":
        return _elementwise(node, rank, move)
    if walk.constant(node.inputs[0]) is not None:
        return None
    if kind in ("QuantizeLinear", "DequantizeLinear"):
        return _rounding(node, move(rank))
    if kind in ("Squeeze", "Unsqueeze"):
        return _squeeze(node, move)
    if walk.rank(node.inputs[0]) != rank:
        return None
    if kind in BY_AXIS:
        return _by_axis(node, move(rank))
    if kind in REDUCTIONS or kind in ("Slice", "CumSum"):
        return _by_constant_axes(node, move(rank))
    return _by_constant_vector(node, move(rank)) if kind in ("Pad", "Tile", "Expand") else None


def _elementwise(node: ir.Node, rank: int, move: Move) -> Change | None:
    order, inputs, constants = move(rank), [], {}
    for i, value in enumerate(node.inputs):
        if value is None:
            continue
        array = stored(value)
        if array is None and walk.rank(value) == rank:
            inputs.append(i)
        elif array is None and walk.rank(value) != 0:
            return None
        elif array is not None and (array.size > 1 or array.ndim == rank):
            constants[i] = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(order)
    axis = {"axis": order.index(walk.attribute(node, "axis", 0) % rank)} if node.op_type == "Concat" else {}
    return Change(inputs, axis, constants) if inputs else None


def stored(value: ir.Value | None) -> Array | None:
    """A constant, or the codes of one that is only dequantized with one scale."""
    found = walk.constant(value)
    node = value.producer() if found is None and value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or walk.rank(node.inputs[1]) != 0:
        return found
    return walk.constant(node.inputs[0])


def _rounding(node: ir.Node, order: list[int]) -> Change:
    scale = node.inputs[1]
    if walk.rank(scale) in (0, None) or (scale is not None and scale.shape is not None and scale.shape[0] == 1):
        return Change()
    return Change(attributes={"axis": order.index(walk.attribute(node, "axis", 1) % len(order))})


def _by_axis(node: ir.Node, order: list[int]) -> Change | None:
    if node.op_type in ("ArgMax", "ArgMin") and not walk.attribute(node, "keepdims", 1):
        return None
    if node.op_type == "Gather" and walk.rank(node.inputs[1]) != 1:
        return None
    axis = walk.attribute(node, "axis", BY_AXIS[node.op_type])
    return Change(attributes={"axis": order.index(axis % len(order))})


def _by_constant_axes(node: ir.Node, order: list[int]) -> Change | None:
    """Axes as a constant input: of a Slice the fourth, else the second."""
    k = 3 if node.op_type == "Slice" else 1
    if node.op_type in REDUCTIONS and not walk.attribute(node, "keepdims", 1):
        return None
    axes = walk.constant(node.inputs[k]) if len(node.inputs) > k else None
    if axes is None or axes.size == 0:
        return None
    places = np.array([order.index(int(a) % len(order)) for a in axes.reshape(-1)], axes.dtype)
    return Change(constants={k: places.reshape(axes.shape)})


def _by_constant_vector(node: ir.Node, order: list[int]) -> Change | None:
    """One number an axis as a constant input; Pad has two."""
    vector = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if vector is None or vector.size % len(order) or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    if vector.size != len(order) * (2 if node.op_type == "Pad" else 1):
        return None
    return Change(constants={1: vector.reshape(-1, len(order))[:, order].reshape(-1)})


def _squeeze(node: ir.Node, move: Move) -> Change | None:
    """One axis that is neither the batch nor the channels comes or goes; the others keep their order."""
    axes = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    ranks = [walk.rank(v) for v in (node.inputs[0], node.outputs[0])]
    if axes is None or axes.size != 1 or None in ranks or min(r or 0 for r in ranks) < 3:
        return None
    longer = max(r or 0 for r in ranks)
    axis = int(axes.reshape(-1)[0]) % longer
    order = move(longer)
    place = order.index(axis)
    rest = [a for a in order if a != axis]
    kept = [a - (a > axis) for a in rest]
    return Change(constants={1: np.array([place])}) if kept == move(longer - 1) else None
