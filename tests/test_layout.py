"""The layout pass: the same function with the fewest transposes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hasten.graph import edit, evaluate, layout, walk
from hasten.graph.walk import Array
from tests.tiny import Net

FIRST, LAST = layout.to_first(4), layout.to_last(4)
SHAPE = [2, 6, 6, 4]  # channels last


class Last(Net):
    """A network that is written channels last, with a transpose before and behind each convolution."""

    def conv_last(self, x: str, cin: int, cout: int, k: int = 3, *, group: int = 1) -> str:
        y = self.conv(self.add("Transpose", x, perm=FIRST), cin, cout, k, group=group)
        return self.add("Transpose", y, perm=LAST)

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def graph(self, outputs: int = 1, shape: list[int] | None = None) -> ir.Model:
        info = helper.make_tensor_value_info
        made = helper.make_graph(
            self.nodes,
            "last",
            [info("x", TensorProto.FLOAT, shape or SHAPE)],
            [info(n.output[0], TensorProto.FLOAT, None) for n in self.nodes[-outputs:]],
            self.weights,
        )
        proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        graph = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
        edit.infer(graph)
        return graph


def settled(graph: ir.Model, left: int) -> ir.Model:
    """``graph`` after the pass: the same answers and interface, ``left`` transposes."""
    x = np.random.default_rng(0).standard_normal(walk_shape(graph)).astype(np.float32)
    before, face = evaluate.run(graph, [{"x": x}]), _face(graph)
    count = layout.settle(graph, layout.to_first)
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    assert _face(graph) == face
    name, difference = evaluate.worst_difference(before, evaluate.run(graph, [{"x": x}]))
    assert difference < 1e-5, name
    assert count == left == sum(n.op_type == "Transpose" for n in graph.graph)
    return graph


def _face(graph: ir.Model) -> list[str]:
    return [str(v) for v in (*graph.graph.inputs, *graph.graph.outputs)]


def walk_shape(graph: ir.Model) -> list[int]:
    shape = graph.graph.inputs[0].shape
    assert shape is not None
    return [d for d in shape if isinstance(d, int)]


def test_between_two_convolutions_nothing_is_left() -> None:
    net = Last(21)
    h = net.add("Relu", net.add("Mul", net.conv_last("x", 4, 8), net.w(8)))
    net.conv_last(h, 8, 3)
    settled(net.graph(), 2)


def test_the_activation_stays_next_to_its_convolution() -> None:
    net = Last(21)
    h = net.add("Relu", net.conv_last("x", 4, 8))
    net.add("Reshape", h, net.ints(2, -1))
    graph = settled(net.graph(), 2)
    ops = [n.op_type for n in graph.graph]
    assert ops == ["Transpose", "Conv", "Relu", "Transpose", "Reshape"]


def test_residuals_branches_and_joins() -> None:
    net = Last(21)
    a = net.add("Relu", net.conv_last("x", 4, 8))
    b = net.conv_last(a, 8, 8, group=8)
    c = net.add("Concat", net.add("Add", a, b), net.conv_last(a, 8, 2, 1), axis=-1)
    net.conv_last(net.add("Pad", c, net.ints(0, 1, 0, 0, 0, 0, 1, 0)), 10, 3)
    settled(net.graph(), 2)


def test_a_squeeze_and_excite_branch_through_a_matrix_product() -> None:
    net = Last(21)
    a = net.conv_last("x", 4, 8)
    pooled = net.add("ReduceMean", a, net.ints(1, 2), keepdims=0)
    gate = net.add("Sigmoid", net.add("MatMul", pooled, net.w(8, 8)))
    scaled = net.add("Mul", a, net.add("Reshape", gate, net.ints(-1, 1, 1, 8)))
    net.conv_last(scaled, 8, 3)
    settled(net.graph(), 2)


def test_a_mean_at_the_end_needs_no_transpose() -> None:
    net = Last(21)
    net.add("ReduceMean", net.add("Relu", net.conv_last("x", 4, 8)), net.ints(1, 2), keepdims=0)
    settled(net.graph(), 1)


def test_a_convolution_over_time() -> None:
    net = Last(21)
    h = net.add("Unsqueeze", "x", net.ints(1))
    h = net.add("Relu", net.add("Squeeze", net.conv_last(h, 4, 8), net.ints(1)))
    net.add("Squeeze", net.conv_last(net.add("Unsqueeze", h, net.ints(1)), 8, 4), net.ints(1))
    settled(net.graph(shape=[2, 6, 4]), 2)


def test_two_outputs_and_an_input_that_leaves() -> None:
    net = Last(21)
    a = net.conv_last("x", 4, 8)
    net.add("Relu", a)
    net.add("Tanh", a)
    settled(net.graph(outputs=2), 2)  # one before, one that both share


def test_a_network_without_convolutions_is_left_alone() -> None:
    net = Last(21)
    h = net.add("Transpose", net.add("Relu", "x"), perm=[0, 2, 1, 3])
    net.add("Softmax", net.add("MatMul", h, net.w(4, 4)), axis=-1)
    graph = net.graph()
    names = [n.name for n in graph.graph]
    settled(graph, 1)
    assert [n.name for n in graph.graph] == names


def test_a_transpose_of_the_author_joins_ours() -> None:
    net = Last(21)
    net.add("Transpose", net.conv_last("x", 4, 8), perm=FIRST)
    settled(net.graph(), 1)


def test_integers_keep_their_rounding_around_the_convolution() -> None:
    net = Last(21)
    grid = net.const(np.float32(0.1)), net.const(np.array(3, np.uint8))
    operand = net.add("DequantizeLinear", net.const(np.arange(4, dtype=np.uint8)), *grid)
    h = net.add("DequantizeLinear", net.add("QuantizeLinear", "x", *grid), *grid)
    h = net.add("Add", h, operand)
    h = net.add("Relu", net.conv_last(net.add("DequantizeLinear", net.add("QuantizeLinear", h, *grid), *grid), 4, 8))
    net.add("DequantizeLinear", net.add("QuantizeLinear", h, *grid), *grid)
    graph = settled(net.graph(), 2)
    conv = next(n for n in graph.graph if n.op_type == "Conv")
    assert conv.inputs[0] is not None
    before = conv.inputs[0].producer()
    assert before is not None
    assert before.op_type == "DequantizeLinear"
    assert [n.op_type for n, _ in walk.consumers(conv.outputs[0])] == ["Relu"]


UNARY: dict[str, Callable[[Last, str], str]] = {
    "relu": lambda n, x: n.add("Relu", x),
    "clip": lambda n, x: n.add("Clip", x, n.const(np.float32(0)), n.const(np.float32(6))),
    "bias": lambda n, x: n.add("Add", x, n.w(4)),
    "plane": lambda n, x: n.add("Mul", x, n.w(6, 6, 1)),
    "softmax": lambda n, x: n.add("Softmax", x, axis=-1),
    "softmax over rows": lambda n, x: n.add("Softmax", x, axis=1),
    "pad and cut": lambda n, x: n.add(
        "Slice", n.add("Pad", x, n.ints(0, 0, 1, 0, 0, 0, 1, 2)), n.ints(1, 0), n.ints(7, 4), n.ints(2, 3)
    ),
    "mean": lambda n, x: n.add("Add", x, n.add("ReduceMean", x, n.ints(1, 3), keepdims=1)),
    "sum of rows": lambda n, x: n.add("Add", x, n.add("ReduceSum", x, n.ints(-2), keepdims=1)),
    "prelu": lambda n, x: n.add("PRelu", x, n.w(1, 1, 4)),
    "where": lambda n, x: n.add("Where", n.add("Greater", x, n.const(np.float32(0))), x, n.w(1, 6, 1)),
    "cumsum": lambda n, x: n.add("CumSum", x, n.const(np.array(2, np.int64))),
    "tile": lambda n, x: n.add("Add", x, n.add("ReduceMax", n.add("Tile", x, n.ints(1, 3, 1, 1)), n.ints(1))),
    "gather": lambda n, x: n.add("Gather", x, n.ints(3, 2, 1, 0), axis=3),
    "matmul": lambda n, x: n.add("MatMul", x, n.w(4, 4)),
    "norm": lambda n, x: n.add("LayerNormalization", x, n.w(4), n.w(4), axis=-1),
    "flat": lambda n, x: n.add("Reshape", n.add("Reshape", x, n.ints(2, -1, 4)), n.ints(2, 6, 6, 4)),
    "author": lambda n, x: n.add("Transpose", x, perm=[0, 2, 1, 3]),
    "conv": lambda n, x: n.conv_last(x, 4, 4),
}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(sorted(UNARY)), min_size=1, max_size=7), st.integers(0, 3))
def test_any_chain_keeps_its_function_and_never_gains_transposes(names: list[str], joins: int) -> None:
    net = Last(21, seed=len(names))
    x = net.conv_last("x", 4, 4)
    earlier = [x]
    for name in names:
        x = UNARY[name](net, x)
        earlier.append(x)
    for _ in range(joins):  # a residual onto a mean, so that the shapes fit
        other = net.add("ReduceMean", earlier[len(earlier) // 2], net.ints(1, 2), keepdims=1)
        x = net.add("Mul", x, other)
    graph = net.graph()
    before = sum(n.op_type == "Transpose" for n in graph.graph)
    data: Array = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    wanted = evaluate.run(graph, [{"x": data}])
    assert layout.settle(graph, layout.to_first) <= before
    assert evaluate.worst_difference(wanted, evaluate.run(graph, [{"x": data}]))[1] < 1e-5


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_the_two_orders_undo_each_other(rank: int) -> None:
    first, last = layout.to_first(rank), layout.to_last(rank)
    assert [first[i] for i in last] == list(range(rank))
    assert np.zeros(range(2, 2 + rank)).transpose(first).shape[1] == 1 + rank
