"""What an operator ties: for each, which positions of its inputs, weights and outputs belong together.

x[n, c, h, w], W[o, c, 3, 3], b[o] -> Conv -> y[n, o, h, w]      W's axis 1 goes with x's channels; W's axis 0 and b
                                                                 with y's channels; space stays
a[b, h, s, d], b[b, h, d, s] -> MatMul -> y[b, h, s, s]          heads go together; d is summed over, and stays

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


def convolution(node: ir.Node, c: Couplings) -> None:
    """Conv and ConvTranspose. With several groups a whole group goes or stays, its inputs with its outputs."""
    p, weight = c.positions, node.inputs[1]
    found = axes_of(c, [node.inputs[0], weight, node.outputs[0]])
    if found is None or walk.constant(weight) is None or any(len(axes) < 3 for axes in found):
        opaque(node, c)
        return
    x, w, y = found
    p.tie(x[0], y[0])
    p.stay(*x[2:], *w[2:], *y[2:])
    turned, groups = node.op_type == "ConvTranspose", walk.attribute(node, "group", 1)
    bias = p.axes(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if bias is not None:
        p.tie(bias[0], y[1])
    if groups == 1:
        p.tie(x[1], w[0 if turned else 1])
        p.tie(y[1], w[1 if turned else 0])
        c.reads.append((node, x[1]))
    else:
        p.stay(w[1])
        p.tie(w[0], x[1] if turned else y[1])
        _blocks(c, groups, x[1], y[1])
    c.writes.append((node, y[1]))


def _blocks(c: Couplings, groups: int, x: Axis, y: Axis) -> None:
    """The k-th group's inputs and outputs are one."""
    if x is None or y is None or len(x) % groups or len(y) % groups:
        c.positions.stay(x, y)
        return
    first = x.reshape(groups, -1)[:, 0]
    for axis in (x, y):
        c.positions.tie(axis, first.repeat(len(axis) // groups))


def product(node: ir.Node, c: Couplings) -> None:
    """MatMul: the axis that is summed over may shrink only where the right side is a constant matrix."""
    found = axes_of(c, [*node.inputs[:2], node.outputs[0]])
    if found is None or any(len(axes) < 2 for axes in found[:2]):
        opaque(node, c)
        return
    a, b, y = found
    p = c.positions
    p.tie(a[-1], b[-2])
    p.tie(a[-2], y[-2])
    p.tie(b[-1], y[-1])
    broadcast(c, [a[:-2], b[:-2]], y[:-2])
    if walk.weight(node) is not None and len(b) == 2:
        c.reads.append((node, a[-1]))
        c.writes.append((node, y[-1]))
    else:
        p.stay(a[-1])


def gemm(node: ir.Node, c: Couplings) -> None:
    p, found = c.positions, axes_of(c, [*node.inputs[:2], node.outputs[0]])
    if found is None or any(len(axes) != 2 for axes in found):
        opaque(node, c)
        return
    (m, k), (n, k2), y = found
    if walk.attribute(node, "transA", 0):
        m, k = k, m
    if not walk.attribute(node, "transB", 0):
        n, k2 = k2, n
    p.tie(k, k2)
    p.tie(m, y[0])
    p.tie(n, y[1])
    bias = p.axes(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if bias is not None:
        broadcast(c, [bias], y)
    if walk.weight(node) is not None and not walk.attribute(node, "transA", 0):
        c.reads.append((node, k))
        c.writes.append((node, y[1]))
    else:
        p.stay(k)


def gather(node: ir.Node, c: Couplings) -> None:
    """What is picked from stays; the other axes pass, as the width of an embedding does."""
    found = axes_of(c, [*node.inputs[:2], node.outputs[0]])
    if found is None:
        return
    data, indices, y = found
    axis = walk.attribute(node, "axis", 0) % len(data)
    c.positions.stay(data[axis], *indices, *y[axis : axis + len(indices)])
    after = axis + len(indices)
    for a, b in (*zip(data[:axis], y[:axis], strict=True), *zip(data[axis + 1 :], y[after:], strict=True)):
        c.positions.tie(a, b)
    if walk.constant(node.inputs[0]) is not None and len(data) == 2 and axis == 0:
        c.writes.append((node, y[-1]))


def einsum(node: ir.Node, c: Couplings) -> None:
    """Letters of the result tie; what is summed over stays."""
    equation = str(walk.attribute(node, "equation", "")).replace(" ", "")
    found = axes_of(c, [*node.inputs, node.outputs[0]])
    left, arrow, right = equation.partition("->")
    terms = [*left.split(","), right]
    if found is None or not arrow or "." in equation or [len(t) for t in terms] != [len(a) for a in found]:
        opaque(node, c)
        return
    repeated = any(len(set(term)) < len(term) for term in terms)
    for letter in set("".join(terms)):
        axes = [a[t.index(letter)] for t, a in zip(terms, found, strict=True) if letter in t]
        for other in axes[1:]:
            c.positions.tie(axes[0], other)
        if repeated or letter not in right:
            c.positions.stay(*axes)


def recurrent(node: ir.Node, c: Couplings) -> None:
    """LSTM, GRU and RNN: what they read may shrink, their state stays."""
    found = axes_of(c, node.inputs[:2])
    for value in (*node.inputs[2:], *node.outputs):
        c.positions.stay_whole(value)
    if found is None or walk.constant(node.inputs[1]) is None or len(found[0]) != 3:
        opaque(node, c)
        return
    x, w = found
    c.positions.stay(*x[:2], *w[:2])
    c.positions.tie(x[2], w[2])
    c.reads.append((node, x[2]))


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
    **dict.fromkeys(("Conv", "ConvTranspose"), convolution),
    "MatMul": product,
    "Gemm": gemm,
    "Gather": gather,
    "Einsum": einsum,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
}
