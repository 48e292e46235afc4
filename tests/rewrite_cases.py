"""For each exact rewrite a random network that it fits: ``CASES[name](builder)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from hasten.model import Model
from tests.random_nets import Builder

Case = Callable[[Builder], Model]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
FAR = int(np.iinfo(np.int64).max)


def info(name: str, shape: list[int | str] | None = None, kind: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(b: Builder, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
    """A node with several outputs, or with bodies."""
    b.net.nodes.append(helper.make_node(kind, inputs, outputs, name=f"n_{outputs[0]}", **attributes))


def number(b: Builder, value: float) -> str:
    """A constant of one element: without axes or with one."""
    return b.net.const(np.full((1,) if b.flip() else (), value, np.float32))


def either(b: Builder, kind: str, x: str, constant: str, **more: Any) -> str:
    """A node whose operands may change places."""
    return b.net.add(kind, *((x, constant) if b.flip() else (constant, x)), **more)


# control flow


def known_branch(b: Builder) -> Model:
    d = b.pick(3, 5)
    bodies = {}
    for name, kind in (("then_branch", "Tanh"), ("else_branch", "Sigmoid")):
        own = numpy_helper.from_array(np.array(2, np.float32), "two")
        inner = [helper.make_node("Mul", ["h", "two"], ["m"]), helper.make_node(kind, ["m"], ["r"])]
        bodies[name] = helper.make_graph(inner, name, [], [info("r")], [own])
    b.net.add("Neg", "x", out="h")
    node(b, "If", [b.net.const(np.array(b.flip()))], ["y"], **bodies)
    return b.net.model({"x": ["batch", d]}, {"y": ["batch", d]})


def step_of(b: Builder, d: int, read: str) -> list[NodeProto]:
    """h, read -> next: a recurrent cell with weights of the graph outside."""
    w, u = b.net.w(d, d), b.net.w(d)
    return [
        helper.make_node("MatMul", ["h", w], ["hw"]),
        helper.make_node("Add", ["hw", u], ["hu"]),
        helper.make_node("Add", ["hu", read], ["s"]),
        helper.make_node("Tanh", ["s"], ["next"]),
    ]


def counted() -> list[ValueInfoProto]:
    """What the body of a Loop is given: the step, whether it goes on, and the state."""
    return [info("i", [], INT64), info("go", [], BOOL), info("h")]


def unroll_loop(b: Builder) -> Model:
    d, trips = 4, b.pick(1, 3)
    going = "go" if b.flip() else b.net.const(np.array(True))
    cell = [*step_of(b, d, "c"), helper.make_node("Identity", [going], ["goes"])]
    cell += [helper.make_node("Identity", ["next"], ["row"])]
    body = helper.make_graph(cell, "body", counted(), [info("goes", [], BOOL), info("next"), info("row")])
    b.net.add("Neg", "x", out="c")
    go = "" if b.flip() else b.net.const(np.array(True))
    node(b, "Loop", [b.net.const(np.array(trips)), go, "x"], ["y", "z"], body=body)
    return b.net.model({"x": ["batch", d]}, {"y": ["batch", d], "z": [trips, "batch", d]})


def unroll_scan(b: Builder) -> Model:
    d, steps = 4, b.pick(2, 3)
    cell = [*step_of(b, d, "c"), helper.make_node("Identity", ["next"], ["row"])]
    body = helper.make_graph(cell, "body", [info("h", [2, d]), info("c", [2, d])], [info("next"), info("row")])
    axis = b.pick(0, 1)
    start = b.net.w(2, d)
    shape = [steps, 2, d] if axis == 0 else [2, steps, d]
    node(b, "Scan", [start, "x"], ["y", "z"], body=body, num_scan_inputs=1, scan_input_axes=[axis])
    return b.net.model({"x": shape}, {"y": [2, d], "z": [steps, 2, d]})


def hoist(b: Builder) -> Model:
    """A Loop that ends on a condition, so that it cannot be unrolled."""
    d = 4
    still = helper.make_node("Exp" if b.flip() else "Tanh", ["x"], ["c"])
    limit = numpy_helper.from_array(np.array(2), "limit")
    cell = [still, *step_of(b, d, "c"), helper.make_node("Less", ["i", "limit"], ["goes"])]
    body = helper.make_graph(cell, "body", counted(), [info("goes", [], BOOL), info("next")], [limit])
    node(b, "Loop", [b.net.const(np.array(9)), b.net.const(np.array(True)), "x"], ["y"], body=body)
    return b.net.model({"x": ["batch", d]}, {"y": ["batch", d]})


def parts_of_sequence(b: Builder) -> Model:
    sizes = b.net.const(np.array(3)) if b.flip() else b.ints(3, 3, 1)
    parts = b.net.add("SplitToSequence", b.net.add("Tanh", "x"), sizes, axis=b.pick(-1, 1))
    first, last = (b.net.add("SequenceAt", parts, b.net.const(np.array(i))) for i in (b.pick(0, 1), b.pick(2, -1)))
    b.net.add("Mul", first, last, out="y")
    return b.net.model({"x": ["batch", 7]}, {"y": ["batch", 3]})


# shapes


def known_size(b: Builder) -> Model:
    shape = [b.pick(2, 3), b.pick(1, 4), b.pick(2, 5)]
    kept = b.net.add("Slice", b.net.add("Shape", "x"), b.ints(0), b.ints(1))
    b.net.add("Reshape", "x", b.net.add("Concat", kept, b.ints(-1), axis=0), out="y")
    return b.net.model({"x": shape}, {"y": [shape[0], shape[1] * shape[2]]})


def reshape_as_said(b: Builder) -> Model:
    s, d = b.pick(2, 3), b.pick(4, 6)
    row = b.net.add("Gather", b.net.add("Shape", "x"), b.ints(0), axis=0)
    wanted = [row, b.ints(s, d // 2, 2)] if b.flip() else [row, b.ints(-1), b.ints(d)]
    b.net.add("Reshape", "x", b.net.add("Concat", *wanted, axis=0), out="y")
    return b.net.model({"x": ["batch", s, d]}, {"y": ["batch", s, d // 2, 2] if len(wanted) == 2 else ["batch", s, d]})


def expand_to_the_same(b: Builder) -> Model:
    d = b.pick(2, 5)
    wanted = b.net.add("Shape", "x") if b.flip() else b.ints(1, d)
    b.net.add("Relu", b.net.add("Expand", "x", wanted), out="y")
    return b.net.model({"x": ["batch", d]}, {"y": ["batch", d]})


# copies


def identity(b: Builder) -> Model:
    return around(b, d=3, inner=lambda x: b.net.add("Identity", x))


def dropout(b: Builder) -> Model:
    return around(
        b, d=3, inner=lambda x: b.net.add("Dropout", x, *([b.net.const(np.float32(0.5))] if b.flip() else []))
    )


def repeated_node(b: Builder) -> Model:
    def inner(x: str) -> str:
        kind = str(b.random.choice(["Relu", "Softmax", "Tanh"]))
        more: dict[str, Any] = {"axis": 1} if kind == "Softmax" else {}
        first, again = (b.net.add(kind, x, **more) for _ in range(2))
        return b.net.add("Mul", first, again)

    return around(b, d=3, inner=inner)


# nodes that do nothing


def around(b: Builder, *, d: int, inner: Callable[[str], str]) -> Model:
    """x[batch, 4, d, d] -> Tanh -> what ``inner`` makes of it -> Sigmoid -> y."""
    b.net.add("Sigmoid", inner(b.net.add("Tanh", "x")), out="y")
    return b.net.model({"x": ["batch", 4, d, d]}, {"y": ["batch", 4, d, d]})


def same_shape_again(b: Builder) -> Model:
    d, kind = b.pick(2, 5), b.pick(0, 1)
    made = [
        lambda x: b.net.add("Reshape", x, b.ints(0, 4, d, d)),
        lambda x: b.net.add("Tile", x, b.ints(1, 1, 1, 1)),
    ]
    return around(b, d=d, inner=made[kind])


def resize_to_the_same(b: Builder) -> Model:
    ones, mode = b.net.const(np.ones(4, np.float32)), str(b.random.choice(["nearest", "linear"]))
    return around(b, d=b.pick(2, 3), inner=lambda x: b.net.add("Resize", x, "", ones, mode=mode))


def transpose_nothing(b: Builder) -> Model:
    return around(b, d=3, inner=lambda x: b.net.add("Transpose", x, perm=[0, 1, 2, 3]))


def slice_everything(b: Builder) -> Model:
    d = b.pick(2, 3)
    starts, ends, axes = ([0], [FAR], [0]) if b.flip() else ([0, -d], [d, FAR], [2, 3])
    return around(b, d=d, inner=lambda x: b.net.add("Slice", x, b.ints(*starts), b.ints(*ends), b.ints(*axes)))


def cast_to_the_same(b: Builder) -> Model:
    return around(b, d=b.pick(2, 3), inner=lambda x: b.net.add("Cast", x, to=FLOAT))


def pad_nothing(b: Builder) -> Model:
    mode = str(b.random.choice(["constant", "edge", "reflect"]))
    return around(b, d=b.pick(2, 3), inner=lambda x: b.net.add("Pad", x, b.ints(*[0] * 8), mode=mode))


def concat_of_one(b: Builder) -> Model:
    def inner(x: str) -> str:
        kind = b.pick(0, 1, 2)
        if kind == 0:
            return b.net.add("Split", x, axis=1)
        nothing = b.net.add("Slice", x, b.ints(0), b.ints(0), b.ints(1))
        return b.net.add("Concat", *([x] if kind == 1 else [nothing, x]), axis=1)

    return around(b, d=3, inner=inner)


def neutral_operand(b: Builder) -> Model:
    kind = str(b.random.choice(["Mul", "Div", "Pow", "Add", "Sub"]))
    shape = [(), (1,), (3,), (4, 1, 1)][b.pick(0, 1, 2, 3)]
    array = np.full(shape, 0 if kind in ("Add", "Sub") else 1, np.float32)
    return around(b, d=3, inner=lambda x: b.net.add(kind, x, b.net.const(array)))


def pool_of_one(b: Builder) -> Model:
    return around(b, d=b.pick(2, 3), inner=lambda x: b.net.add("AveragePool", x, kernel_shape=[1, 1]))


def twice_the_same(b: Builder) -> Model:
    kind = str(b.random.choice(["Relu", "Neg"]))
    return around(b, d=3, inner=lambda x: b.net.add(kind, b.net.add(kind, x)))


def expand_before_stretching(b: Builder) -> Model:
    s, d = b.pick(2, 3), b.pick(1, 4)
    wide = b.net.add("Expand", "x", b.net.add("Shape", "a"))
    b.net.add(str(b.random.choice(["Add", "Mul", "Sub"])), *((wide, "a") if b.flip() else ("a", wide)), out="y")
    return b.net.model({"x": ["batch", 1, d], "a": ["batch", s, d]}, {"y": ["batch", s, d]})


# how elements lie


def turning(b: Builder, rank: int) -> list[int]:
    """An order of axes that is not the one they have."""
    while True:
        found = [int(i) for i in b.random.permutation(rank)]
        if found != sorted(found):
            return found


def turned(shape: list[int], *perms: list[int]) -> list[int | str]:
    for perm in perms:
        shape = [shape[i] for i in perm]
    return list(shape)


def transpose_twice(b: Builder) -> Model:
    p, q, shape = turning(b, 4), turning(b, 4), [2, 3, 4, 5]
    b.net.add("Tanh", b.net.add("Transpose", b.net.add("Transpose", "x", perm=p), perm=q), out="y")
    return b.net.model({"x": shape}, {"y": turned(shape, p, q)})


def transposes_around(b: Builder) -> Model:
    p, q, shape = turning(b, 3), turning(b, 3), [2, 3, 4]
    between = turned(shape, p)
    x = b.net.add("Tanh", b.net.add("Transpose", "x", perm=p))
    x = either(b, "Add", x, b.net.w(*[int(d) for d in between[b.pick(0, 1, 2) :]]))
    b.net.add("Sigmoid", b.net.add("Transpose", either(b, "Mul", x, number(b, 0.7)), perm=q), out="y")
    return b.net.model({"x": shape}, {"y": turned(shape, p, q)})


def transposes_of_operands(b: Builder) -> Model:
    p, shape = turning(b, 3), [2, 3, 4]
    kind = str(b.random.choice(["Add", "Mul", "Sub", "Concat"]))
    axis = b.pick(-1, 0, 1, 2)
    parts = [b.net.add("Transpose", name, perm=p) for name in ("x", "a")]
    b.net.add(kind, *parts, out="y", **({"axis": axis} if kind == "Concat" else {}))
    wanted = turned(shape, p)
    if kind == "Concat":
        wanted[axis] = 2 * int(wanted[axis])
    return b.net.model({"x": shape, "a": shape}, {"y": wanted})


def transpose_of_ones(b: Builder) -> Model:
    p = [[0, 2, 1, 3], [1, 0, 2, 3], [0, 2, 3, 1]][b.pick(0, 1, 2)]
    shape: list[int | str] = ["batch", 1, 3, 4]
    b.net.add("Tanh", b.net.add("Transpose", "x", perm=p), out="y")
    return b.net.model({"x": shape}, {"y": [shape[i] for i in p]})


def reshape_twice(b: Builder) -> Model:
    kind = b.pick(0, 1, 2)
    first = ["Reshape", "Unsqueeze", "Flatten"][kind]
    more = [[b.ints(0, 12)], [b.ints(1)], []][kind]
    b.net.add("Tanh", b.net.add("Reshape", b.net.add(first, "x", *more), b.ints(-1, 2, 6)), out="y")
    return b.net.model({"x": ["batch", 3, 4]}, {"y": ["batch", 2, 6]})


# what exporters spell out


def gelu_of_erf(b: Builder) -> Model:
    net, root = b.net, float(np.sqrt(2))
    h = net.add("Add", net.add("MatMul", "x", net.w(4, 6)), net.w(6))
    inner = net.add("Div", h, number(b, root)) if b.flip() else either(b, "Mul", h, number(b, 1 / root))
    opened = either(b, "Add", net.add("Erf", inner), number(b, 1))
    order = b.pick(0, 1, 2)
    if order == 0:
        net.add("Mul", net.add("Mul", h, opened), number(b, 0.5), out="y")
    elif order == 1:
        net.add("Mul", either(b, "Mul", h, number(b, 0.5)), opened, out="y")
    else:
        net.add("Mul", h, either(b, "Mul", opened, number(b, 0.5)), out="y")
    return net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})


def gelu_of_tanh(b: Builder) -> Model:
    net = b.net
    h = net.add("Add", net.add("MatMul", "x", net.w(4, 6)), net.w(6))
    cube = net.add("Mul", h, net.add("Mul", h, h)) if b.flip() else net.add("Pow", h, number(b, 3))
    inner = net.add("Add", h, either(b, "Mul", cube, number(b, 0.044715)))
    opened = either(
        b, "Add", net.add("Tanh", either(b, "Mul", inner, number(b, float(np.sqrt(2 / np.pi))))), number(b, 1)
    )
    if b.flip():
        net.add("Mul", either(b, "Mul", h, number(b, 0.5)), opened, out="y")
    else:
        net.add("Mul", net.add("Mul", h, opened), number(b, 0.5), out="y")
    return net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})


def layer_normalization(b: Builder) -> Model:
    net, d = b.net, b.pick(5, 8)
    centred = net.add("Sub", "x", net.add("ReduceMean", "x", axes=[-1], keepdims=1))
    again = centred if b.flip() else net.add("Sub", "x", net.add("ReduceMean", "x", axes=[2], keepdims=1))
    square = net.add("Pow", again, number(b, 2)) if b.flip() else net.add("Mul", again, again)
    root = net.add("Sqrt", either(b, "Add", net.add("ReduceMean", square, axes=[-1], keepdims=1), number(b, 1e-3)))
    last = b.flip()
    y = net.add("Div", centred, root) if b.flip() else net.add("Mul", centred, net.add("Reciprocal", root))
    y = either(b, "Mul", y, net.w(d, shift=1))
    y = either(b, "Add", y, net.w(d)) if last else y
    net.add("Tanh", y, out="y")
    return net.model({"x": ["batch", 3, d]}, {"y": ["batch", 3, d]})


def one_hot_product(b: Builder) -> Model:
    net, classes = b.net, b.pick(3, 6)
    kind, depth = (INT64, np.int64) if b.flip() else (TensorProto.INT32, np.int32)
    ids = net.add("Cast", net.add("Mul", "x", number(b, 3)), to=kind)
    hot = net.add("OneHot", ids, net.const(np.array(classes, depth)), net.const(np.array([0, 1], np.float32)))
    net.add("MatMul", hot, net.w(classes, 4), out="y")
    return net.model({"x": ["batch", 5]}, {"y": ["batch", 5, 4]})


# activations


def clipped(b: Builder, x: str) -> str:
    return b.net.add("Clip", either(b, "Add", x, number(b, 3)), b.net.const(np.float32(0)), b.net.const(np.float32(6)))


def hard_sigmoid(b: Builder) -> Model:
    inner = clipped(b, b.net.add("Neg", "x"))
    _ = (
        b.net.add("Div", inner, number(b, 6), out="y")
        if b.flip()
        else either(b, "Mul", inner, number(b, 1 / 6), out="y")
    )
    return b.net.model({"x": ["batch", 7]}, {"y": ["batch", 7]})


def hard_swish(b: Builder) -> Model:
    h = b.net.add("Neg", "x")
    b.net.add("Div", b.net.add("Mul", *((h, clipped(b, h)) if b.flip() else (clipped(b, h), h))), number(b, 6), out="y")
    return b.net.model({"x": ["batch", 7]}, {"y": ["batch", 7]})


def scale_last(b: Builder) -> Model:
    h = either(b, "Add", either(b, "Mul", b.net.add("Relu", "x"), number(b, 0.7)), number(b, 0.3))
    b.net.conv(h, 4, 6, 3, out="y")
    return b.net.model({"x": ["batch", 4, 5, 5]}, {"y": ["batch", 6, 5, 5]})


# convolutions


def some_conv(b: Builder, x: str, out: int = 8, **more: Any) -> str:
    """4 channels to ``out``, grouped or not."""
    return b.net.conv(x, 4, out, 3, group=b.pick(1, 2, 4), bias=b.flip(), **more)


def conv_batchnorm(b: Builder) -> Model:
    if b.flip():
        h = some_conv(b, "x")
    else:
        h = b.net.add("ConvTranspose", "x", b.net.w(4, 8, 3, 3), b.net.w(8), pads=[1, 1, 1, 1])
    b.net.add("Relu", b.net.bn(h, 8), out="y")
    return b.net.model({"x": ["batch", 4, 5, 5]}, {"y": ["batch", 8, 5, 5]})


def conv_affine(b: Builder) -> Model:
    kind = str(b.random.choice(["Mul", "Add", "Sub", "Div"]))
    h = some_conv(b, "x")
    constant = b.net.w(8, 1, 1, shift=2) if b.flip() else number(b, 1.7)
    y = b.net.add(kind, h, constant) if kind in ("Sub", "Div") else either(b, kind, h, constant)
    b.net.add("Relu", y, out="y")
    return b.net.model({"x": ["batch", 4, 5, 5]}, {"y": ["batch", 8, 5, 5]})


def affine_conv(b: Builder) -> Model:
    kind = str(b.random.choice(["Mul", "Add", "Sub", "Div"]))
    constant = b.net.w(4, 1, 1, shift=2) if b.flip() else number(b, 1.7)
    h = b.net.add("Relu", "x")
    h = b.net.add(kind, h, constant) if kind in ("Sub", "Div") else either(b, kind, h, constant)
    b.net.add("Relu", some_conv(b, h, pads=[0] * 4), out="y")
    return b.net.model({"x": ["batch", 4, 5, 5]}, {"y": ["batch", 8, 3, 3]})


def pad_conv(b: Builder) -> Model:
    pads = b.ints(0, 0, 1, 0, 0, 0, 1, 2)
    b.net.add("Relu", some_conv(b, b.net.add("Pad", "x", pads), pads=[0, 1, 0, 0]), out="y")
    return b.net.model({"x": ["batch", 4, 5, 5]}, {"y": ["batch", 8, 5, 6]})


def matmul_bias(b: Builder) -> Model:
    d = b.pick(1, 6)
    h = b.net.add("MatMul", b.net.add("Relu", "x"), b.net.w(4, d))
    either(b, "Add", h, b.net.w(1, d) if b.flip() else b.net.w(d), out="y")
    return b.net.model({"x": ["batch", 4]}, {"y": ["batch", d]})


# scales and products


def scale_into_linear(b: Builder) -> Model:
    net, c = b.net, number(b, float(b.random.choice([-0.3, 0.25, 3])))
    kind = b.pick(0, 1, 2, 3)
    if kind == 0:  # attention's query
        h = net.add("Add", net.add("MatMul", "x", net.w(4, 6)), net.w(6))
        h = net.add("Transpose", net.add("Reshape", h, b.ints(0, 3, 2, 3)), perm=[0, 2, 1, 3])
        net.add("Reshape", net.add("Div", h, c), b.ints(0, -1), out="y")
    elif kind == 1:  # a vector
        h = net.add("Add", net.add("MatMul", "x", net.w(4, 6)), net.w(6))
        net.add("Flatten", net.add("Tanh", either(b, "Mul", h, net.w(6, shift=2))), out="y")
    elif kind == 2:  # through a rectifier, which only takes numbers above zero
        h = net.add("Relu", net.add("Gemm", net.add("Flatten", "x"), net.w(12, 18), net.w(18)))
        net.add("Tanh", either(b, "Mul", h, number(b, 2.5)), out="y")
    else:
        h = net.add("Gemm", net.add("Flatten", "x"), net.w(18, 12), net.w(18), transB=1, alpha=0.7, beta=0.3)
        net.add("Neg", h, out="y")
    return net.model({"x": ["batch", 3, 4]}, {"y": ["batch", 18]})


def scale_before_linear(b: Builder) -> Model:
    net = b.net
    c = number(b, 0.6) if b.flip() else net.w(4, shift=2)
    h = either(b, "Mul", net.add("Relu", "x"), c)
    _ = (
        net.add("MatMul", h, net.w(4, 6), out="y")
        if b.flip()
        else net.add("Gemm", h, net.w(6, 4), net.w(6), transB=1, out="y")
    )
    return net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})


def gemm_batchnorm(b: Builder) -> Model:
    h = b.net.add("Gemm", "x", b.net.w(4, 6), *([b.net.w(6)] if b.flip() else []), alpha=0.5)
    b.net.add("Relu", b.net.bn(h, 6), out="y")
    return b.net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})


def consecutive_products(b: Builder) -> Model:
    net, x = b.net, b.net.add("Tanh", "x")
    if b.flip():
        h = either(b, "Add", net.add("MatMul", x, net.w(6, 9)), net.w(9))
        net.add("Add", net.add("MatMul", h, net.w(9, 5)), net.w(5), out="y")
    else:
        h = net.add("Gemm", x, net.w(9, 6), net.w(9), transB=1, alpha=0.5)
        net.add("Gemm", h, net.w(9, 5), net.w(5), alpha=2.0, out="y")
    return net.model({"x": ["batch", 6]}, {"y": ["batch", 5]})


def parallel_layers(b: Builder) -> Model:
    net, widths = b.net, [b.pick(3, 4) for _ in range(b.pick(2, 3))]
    if b.flip():
        parts = [net.add("Add", net.add("MatMul", "x", net.w(5, w)), net.w(w)) for w in widths]
        shape: list[int | str] = ["batch", 5]
    else:
        parts = [net.conv("x", 5, w, 1, pads=[0] * 4) for w in widths]
        shape = ["batch", 5, 2, 2]
    bent = [net.add(kind, p) for kind, p in zip(("Relu", "Tanh", "Neg"), parts, strict=False)]
    net.add("Concat", *bent, axis=1, out="y")
    return net.model({"x": shape}, {"y": ["batch", sum(widths), *shape[2:]]})


def steps_together(b: Builder) -> Model:
    net, steps, w, bias = b.net, b.pick(3, 5), b.net.w(4, 6), b.net.w(6)
    with_bias, h = b.flip(), b.net.const(np.zeros((1, 6), np.float32))
    for step in range(steps):
        row = net.add("Gather", "x", net.const(np.array(step)), axis=1)
        product = net.add("Gemm", row, w, bias, beta=0.5) if with_bias else net.add("MatMul", row, w)
        h = net.add("Tanh", net.add("Add", product, h))
    net.add("Neg", h, out="y")
    return net.model({"x": ["batch", steps, 4]}, {"y": ["batch", 6]})


CASES: dict[str, Case] = {
    case.__name__.replace("_", " "): case
    for case in (
        known_branch, unroll_loop, unroll_scan, hoist, parts_of_sequence, known_size, reshape_as_said,
        expand_to_the_same, identity, dropout, repeated_node,
        same_shape_again, resize_to_the_same, transpose_nothing, slice_everything, cast_to_the_same, pad_nothing,
        concat_of_one, neutral_operand, pool_of_one, twice_the_same, expand_before_stretching, transpose_twice,
        transposes_around, transposes_of_operands, transpose_of_ones, reshape_twice, gelu_of_erf, gelu_of_tanh,
        layer_normalization, one_hot_product, hard_sigmoid, hard_swish, scale_last, conv_batchnorm, conv_affine,
        affine_conv, pad_conv, matmul_bias, scale_into_linear, scale_before_linear, gemm_batchnorm,
        consecutive_products, parallel_layers, steps_together,
    )
}  # fmt: skip
