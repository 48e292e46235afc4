"""What an operator ties: for each, which positions of its inputs, weights and outputs belong together.

x[n, c, h, w], b[c, 1, 1] -> Add -> y[n, c, h, w]    channels go with channels; where an operand is stretched, it stays
x[n, s, d] -> LayerNormalization -> y[n, s, d]       d is mixed, and stays

Operators that sum over an axis are in ``contractions``, those that move axes in ``layouts`` and ``reshapes``.

A unit may go when every operator between its writers and its readers works on each index by itself; then what is
left computes what the whole would with the readers' weights for it at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.positions import Axis, Positions


@dataclass
class Couplings:
    """``writes`` and ``reads``: for each linear node with constant weights, the positions it makes and sums over.

    ``merges`` are axes that a Reshape joins into one or cuts one into: (the one, the several).
    """

    opset: int = 17
    positions: Positions = field(default_factory=Positions)
    writes: list[tuple[ir.Node, Axis]] = field(default_factory=list)
    reads: list[tuple[ir.Node, Axis]] = field(default_factory=list)
    merges: list[tuple[Axis, list[Axis]]] = field(default_factory=list)


Rule = Callable[[ir.Node, Couplings], None]


def opaque(node: ir.Node, c: Couplings) -> None:
    """Nothing is known of the operator: all that it touches stays."""
    for value in (*node.inputs, *node.outputs):
        c.positions.stay_whole(value)


def axes_of(c: Couplings, values: Sequence[ir.Value | None]) -> list[list[Axis]] | None:
    """The axes of each value that is there, or None, and everything stays, when a rank is unknown."""
    found = [c.positions.axes(v) for v in values if v is not None]
    if all(axes is not None for axes in found):
        return [axes for axes in found if axes is not None]
    for value in values:
        c.positions.stay_whole(value)
    return None


def broadcast(c: Couplings, inputs: Sequence[list[Axis]], output: list[Axis]) -> None:
    """Tie the axes of operands to those of the result, aligned at the right; an axis that is stretched stays."""
    for back in range(1, len(output) + 1):
        out = output[-back]
        for axes in inputs:
            if len(axes) >= back:
                mine = axes[-back]
                if mine is not None and out is not None and len(mine) == 1 < len(out):
                    c.positions.stay(mine)
                else:
                    c.positions.tie(mine, out)


def elementwise(node: ir.Node, c: Couplings) -> None:
    """The first output is computed index by index from all inputs."""
    for extra in node.outputs[1:]:
        c.positions.stay_whole(extra)
    found = axes_of(c, [*node.inputs, node.outputs[0]])
    if found is not None:
        broadcast(c, found[:-1], found[-1])


def except_along(c: Couplings, x: list[Axis], y: list[Axis], mixed: set[int]) -> None:
    """Axes of equal rank are tied one to one, those in ``mixed`` stay."""
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if i in mixed:
            c.positions.stay(a, b)
        else:
            c.positions.tie(a, b)


def along_axis(default: int, *, onwards_before: int = 0) -> Rule:
    """Operators that mix along ``axis``; before operator set ``onwards_before`` they mix along all behind it too."""

    def rule(node: ir.Node, c: Couplings) -> None:
        found = axes_of(c, [node.inputs[0], node.outputs[0]])
        if found is None:
            return
        x, y = found
        old = c.opset < onwards_before
        axis = walk.attribute(node, "axis", 1 if old else default) % max(len(x), 1)
        except_along(c, x, y, set(range(axis, len(x))) if old else {axis})
        for extra in (*node.inputs[1:], *node.outputs[1:]):
            c.positions.stay_whole(extra)

    return rule


def layer_normalisation(node: ir.Node, c: Couplings) -> None:
    """Mixes along ``axis`` and all behind it."""
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    if found is None:
        return
    x, y = found
    start = walk.attribute(node, "axis", -1) % len(x)
    except_along(c, x, y, set(range(start, len(x))))
    for value in (*node.inputs[1:], *node.outputs[1:]):
        c.positions.stay_whole(value)


def per_channel(node: ir.Node, c: Couplings) -> None:
    """Batch and instance normalisation: vectors along axis 1."""
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    if found is None or len(found[0]) < 2:
        opaque(node, c)
        return
    x, y = found
    mixes = node.op_type == "InstanceNormalization"
    except_along(c, x, y, set(range(2, len(x))) if mixes else set())
    for value in node.inputs[1:]:
        axes = c.positions.axes(value) if value is not None else None
        if axes is not None:
            c.positions.tie(axes[0], x[1])
    for value in node.outputs[1:]:
        c.positions.stay_whole(value)


def spatial(node: ir.Node, c: Couplings) -> None:
    """Pooling: each channel by itself, space mixed."""
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    if found is None:
        return
    x, y = found
    except_along(c, x, y, set(range(2, len(x))))
    for value in (*node.inputs[1:], *node.outputs[1:]):
        c.positions.stay_whole(value)


def reduction(node: ir.Node, c: Couplings) -> None:
    """Reduced axes stay, the others pass; ``axes`` is an attribute or, later, a constant."""
    x, y = c.positions.axes(node.inputs[0]) if node.inputs[0] is not None else None, c.positions.axes(node.outputs[0])
    if x is None or y is None:
        opaque(node, c)
        return
    given = _reduced(node, len(x))
    if given is None:
        opaque(node, c)
        return
    kept = [i for i in range(len(x)) if i not in given]
    keep_dims = walk.attribute(node, "keepdims", 1)
    for i in given:
        c.positions.stay(x[i], *([y[i]] if keep_dims else []))
    for place, i in enumerate(kept):
        c.positions.tie(x[i], y[i if keep_dims else place])


def _reduced(node: ir.Node, rank: int) -> set[int] | None:
    """The axes that a reduction sums over; None when they are computed."""
    if node.op_type in ("ArgMax", "ArgMin"):
        return {walk.attribute(node, "axis", 0) % rank}
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = walk.constant(node.inputs[1])
        if array is None:
            return None
        given = [int(a) for a in array.reshape(-1)]
    else:
        given = list(walk.attribute(node, "axes", []))
    if not given:
        return set() if walk.attribute(node, "noop_with_empty_axes", 0) else set(range(rank))
    return {a % rank for a in given}


UNARY = (
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
BINARY = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min",
    "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
POOLS = (
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool",
)  # fmt: skip
REDUCTIONS = (
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys([*UNARY, *BINARY], elementwise),
    **dict.fromkeys(POOLS, spatial),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), along_axis(-1, onwards_before=13)),
    "LpNormalization": along_axis(-1),
    "LayerNormalization": layer_normalisation,
    "RMSNormalization": layer_normalisation,
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), per_channel),
}
