"""Branches and loops, with values from outside; and what exporters spell out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from benchmarks.random_graphs.builder import PROTO, G, Impossible, Size, T, number

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
info = helper.make_tensor_value_info


def branch(g: G, x: T, out: str) -> list[NodeProto]:
    """A body that keeps the shape of ``x``, read from outside; some of its operators changed their meaning."""
    kinds = ["Relu", "Tanh", "Neg", "Mul", "Shifted", "Nested"]
    if x.rank >= 2 and x.exact:
        kinds += ["Hardmax"]
    if x.rank >= 2:
        kinds += ["Softmax", "LogSoftmax"]
    kind = g.one(*kinds)
    if kind == "Mul":
        return [helper.make_node("Mul", [x.name, x.name], [out])]
    if kind == "Shifted":
        return [
            helper.make_node("Add", [x.name, g.w(1).name], [f"{out}a"]),
            helper.make_node("Sigmoid", [f"{out}a"], [out]),
        ]
    if kind == "Nested":
        c = g.pick(lambda v: v.kind == "bool" and v.rank == 0)
        bodies = {
            name: helper.make_graph(
                [helper.make_node(op, [x.name], [f"{out}{op}"])], name, [], [info(f"{out}{op}", FLOAT, None)]
            )
            for name, op in (("then_branch", "Abs"), ("else_branch", "Neg"))
        }
        return [helper.make_node("If", [c.name], [out], **bodies)]
    return [helper.make_node(kind, [x.name], [out])]


def condition(g: G) -> T:
    if g.flip(0.3):
        return g.const(np.array(g.flip()))
    return g.pick(lambda v: v.kind == "bool" and v.rank == 0)


def if_(g: G) -> None:
    x, c = g.float_(), condition(g)
    bodies = {}
    for name in ("then_branch", "else_branch"):
        out = g.fresh("r")
        bodies[name] = helper.make_graph(branch(g, x, out), name, [], [info(out, FLOAT, None)])
    g.add("If", [c], x.shape, x.kind, **bodies)


def loop(g: G) -> None:
    """Steps that are counted, known, or none; a condition may end them; work that stands still."""
    x = g.float_()
    h, i, go, n, goes = (g.fresh(p) for p in ("h", "i", "go", "next", "goes"))
    still, added = g.fresh("still"), g.fresh("added")
    other = g.pick(lambda v: v.kind == "float32" and v.shape == x.shape)
    cell = [helper.make_node(g.one("Tanh", "Sigmoid", "Abs", "Softsign"), [other.name], [still])]
    if g.flip(0.3) and g.opset >= 11:  # out of range wherever it is computed without a step
        bad, one, far = g.fresh("bad"), g.fresh("row"), g.fresh("far")
        counter = g.pick(lambda v: v.name == "n")
        cell += [
            helper.make_node("Sub", [counter.name, g.const(np.array(1)).name], [far]),
            helper.make_node("Gather", [g.w(4).name, far], [bad]),
            helper.make_node("Add", [still, bad], [one]),
        ]
        still = one
    cell += [helper.make_node("Add", [h, still], [added]), helper.make_node("Sigmoid", [added], [n])]
    if g.flip(0.4):
        limit = numpy_helper.from_array(np.array(2), "limit" + n)
        cell += [helper.make_node("Less", [i, limit.name], [goes])]
        own = [limit]
    else:
        cell += [helper.make_node("Identity", [go], [goes])]
        own = []
    rows = g.flip(0.4)
    row = g.fresh("row")
    cell += [helper.make_node("Identity", [n], [row])] if rows else []
    given = [info(i, INT64, []), info(go, BOOL, []), info(h, FLOAT, None)]
    outs = [info(goes, BOOL, []), info(n, FLOAT, None), *([info(row, FLOAT, None)] if rows else [])]
    body = helper.make_graph(cell, "body", given, outs, own)
    trips = g.const(np.array(g.one(0, 1, 3))) if g.flip() else g.pick(lambda v: v.name == "n")
    start = g.const(np.array(True)) if g.flip(0.8) else condition(g)
    made: list[tuple[list[Size], str, bool]] = [(list(x.shape), "float32", False)]
    if rows and x.rank < 4:
        made.append(([g.fresh("steps"), *x.shape], "float32", False))
    elif rows:
        raise Impossible
    g.many("Loop", [trips, start, x], made, body=body)


def scan(g: G) -> None:
    """A recurrent cell over an axis of known or free length."""
    if g.opset < 9:
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.rank == 3 and isinstance(v.shape[2], int) and v.shape[2] > 0)
    axis, k = g.one(0, 1), number(x.shape[2])
    batch = x.shape[1 - axis]
    start = g.add("ReduceSum", [x, *(g.attributed(13, "axes", [axis]))[0]], [batch, k], "float32", keepdims=0,
                  **g.attributed(13, "axes", [axis])[1])  # fmt: skip
    h, c, m, s, n, row = (g.fresh(p) for p in ("h", "c", "m", "s", "next", "row"))
    w = g.w(k, k)
    cell = [
        helper.make_node("MatMul", [h, w.name], [m]),
        helper.make_node("Add", [m, c], [s]),
        helper.make_node("Tanh", [s], [n]),
        helper.make_node("Identity", [n], [row]),
    ]
    shape = [batch, k]
    body = helper.make_graph(
        cell, "body", [info(h, FLOAT, shape), info(c, FLOAT, shape)], [info(n, FLOAT, None), info(row, FLOAT, None)]
    )
    outs: list[tuple[list[Size], str, bool]] = [
        ([batch, k], "float32", False), ([x.shape[axis], batch, k], "float32", False)
    ]  # fmt: skip
    g.many("Scan", [start, x], outs, body=body, num_scan_inputs=1, scan_input_axes=[axis])


# ------------------------------------------------------------ what exporters spell out


def number_(g: G, value: float) -> T:
    return g.const(np.full((1,) if g.flip() else (), value), "float32")


def gelu(g: G) -> None:
    x = g.float_()

    def add(kind: str, *inputs: T) -> T:
        both = inputs[::-1] if kind in ("Add", "Mul") and g.flip() else inputs
        shape = x.shape if x.rank else tuple((1,) * max(v.rank for v in inputs))
        return g.add(kind, both, shape, x.kind)

    if x.rank == 0:
        raise Impossible
    if g.flip():
        e = add("Erf", add("Div", x, number_(g, 2**0.5)))
    else:
        cube = add("Mul", add("Mul", x, x), x)
        e = add(
            "Tanh", add("Mul", add("Add", x, add("Mul", cube, number_(g, 0.044715))), number_(g, (2 / np.pi) ** 0.5))
        )
    add("Mul", add("Mul", x, add("Add", e, number_(g, 1))), number_(g, 0.5))


def layer_norm(g: G) -> None:
    x = g.pick(lambda v: v.kind == "float32" and v.rank >= 2 and isinstance(v.shape[-1], int) and v.shape[-1] > 0)
    shape = [*x.shape[:-1], 1]

    def mean(v: T) -> T:
        more, attrs = g.attributed(18, "axes", [-1])
        return g.add("ReduceMean", [v, *more], shape, v.kind, keepdims=1, **attrs)

    centred = g.add("Sub", [x, mean(x)], x.shape, x.kind)
    square = mean(g.add("Mul", [centred, centred], x.shape, x.kind))
    root = g.add("Sqrt", [g.add("Add", [square, number_(g, 1e-2)], shape, x.kind)], shape, x.kind)
    y = g.add("Div", [centred, root], x.shape, x.kind)
    if g.flip():
        g.add("Mul", [y, g.w(number(x.shape[-1]))], x.shape, x.kind)


def hard_swish(g: G) -> None:
    x = g.float_()
    if g.opset < 11 or x.rank == 0:
        raise Impossible
    ends = [g.const(np.array(v), "float32") for v in (0, 6)]
    gate = g.add("Clip", [g.add("Add", [x, number_(g, 3)], x.shape, x.kind), *ends], x.shape, x.kind)
    if g.flip():
        gate = g.add("Mul", [x, gate], x.shape, x.kind)
    g.add("Div", [gate, number_(g, 6)], x.shape, x.kind)


def steps(g: G) -> None:
    """Rows that are picked one by one and multiplied with one matrix."""
    x = g.pick(lambda v: v.kind == "float32" and v.rank == 3 and v.shape[1] in (3, 4) and isinstance(v.shape[2], int))
    k, w = number(x.shape[2]), None
    if k == 0:
        raise Impossible
    w, parts = g.w(k, 2), []
    for i in range(number(x.shape[1])):
        row = g.add("Gather", [x, g.const(np.array(i))], [x.shape[0], k], x.kind, exact=x.exact, axis=1)
        parts.append(g.add("MatMul", [row, w], [x.shape[0], 2], x.kind))
    g.add("Sum", parts, [x.shape[0], 2], x.kind)


Pattern = Callable[[G], None]
assert PROTO["float32"] == FLOAT
STEPS: tuple[Pattern, ...] = (if_, if_, loop, loop, scan, gelu, layer_norm, hard_swish, steps)
