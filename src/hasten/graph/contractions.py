"""What operators that sum over an axis tie: convolutions, products, embeddings and recurrent layers.

x[n, c, h, w], W[o, c, 3, 3], b[o] -> Conv -> y[n, o, h, w]      W's axis 1 goes with x's channels; W's axis 0 and b
                                                                 with y's channels; space stays
a[b, h, s, d], b[b, h, d, s] -> MatMul -> y[b, h, s, s]          heads go together; d is summed over, and stays
"""

from __future__ import annotations

import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.couplings import Couplings, Rule, axes_of, broadcast, opaque
from hasten.graph.positions import Axis


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


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), convolution),
    "MatMul": product,
    "Gemm": gemm,
    "Gather": gather,
    "Einsum": einsum,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
}
