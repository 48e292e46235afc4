"""QuantizeDynamic: integer products that ONNX Runtime fuses, without any data."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from hasten.errors import UsageError
from hasten.graph import evaluate
from hasten.model import Model
from hasten.passes.dynamic import QuantizeDynamic
from hasten.passes.quantize import Quantize
from hasten.protocols import NotApplicable, Pass
from tests import tiny
from tests.test_quantize import decibels, ort_kinds


def lstm(directions: int = 2) -> Model:
    net, hidden, size = tiny.Net(), 8, 6
    w = [net.w(directions, 4 * hidden, n) for n in (size, hidden)]
    b = net.w(directions, 8 * hidden, scale=0.1)
    direction = "bidirectional" if directions == 2 else "forward"
    y = net.add("LSTM", "x", *w, b, hidden_size=hidden, direction=direction)
    net.add("Transpose", y, out="y", perm=[0, 2, 1, 3])
    return net.model({"x": [5, 1, size]}, {"y": [5, 1, directions, hidden]})


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("network", [tiny.mlp, tiny.transformer, lstm])
def test_close_to_float_valid_and_same_interface(network: object, per_channel: bool) -> None:
    model = network()  # type: ignore[operator]
    samples = tiny.feeds(model, 8)
    step = QuantizeDynamic(per_channel=per_channel)
    quantized = step(model, tiny.context([]))
    assert decibels(model, quantized, samples) > 25
    onnx.checker.check_model(ir.to_proto(quantized.graph))
    assert [str(v) for v in quantized.graph.graph.inputs] == [str(v) for v in model.graph.graph.inputs]
    assert [str(v) for v in quantized.graph.graph.outputs] == [str(v) for v in model.graph.graph.outputs]
    assert quantized.history == (repr(step),)


def test_onnxruntime_fuses_the_chains() -> None:
    found = ort_kinds(QuantizeDynamic()(tiny.mlp(), tiny.context([])))
    assert found["DynamicQuantizeMatMul"] == 3
    assert not found["MatMul"] + found["Gemm"] + found["MatMulInteger"]
    found = ort_kinds(QuantizeDynamic()(tiny.transformer(), tiny.context([])))
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == 6
    assert found["DynamicQuantizeLinear"] == 1  # the input of queries, keys and values is rounded once
    assert ort_kinds(QuantizeDynamic()(lstm(), tiny.context([])))["DynamicQuantizeLSTM"] == 1


def test_one_product_against_plain_arithmetic() -> None:
    net = tiny.Net()
    net.add("MatMul", "x", net.w(16, 5), out="y")
    model = net.model({"x": [3, 16]}, {"y": [3, 5]})
    [sample] = tiny.feeds(model, 1)
    x = sample["x"]
    [w] = (v.const_value.numpy() for v in model.graph.graph.initializers.values() if v.const_value is not None)
    s_x = (max(x.max(), 0) - min(x.min(), 0)) / np.float32(255)
    z = np.rint(-min(x.min(), 0) / s_x)
    s_w = np.abs(w).max(axis=0) / np.float32(127)
    expected = (np.clip(np.rint(x / s_x) + z, 0, 255) - z) @ np.rint(w / s_w) * (s_x * s_w)
    [got] = evaluate.run(QuantizeDynamic()(model, tiny.context([])).graph, [sample])
    np.testing.assert_allclose(got["y"], expected, rtol=1e-4, atol=1e-5)


def test_exclude_and_operators() -> None:
    model = tiny.mlp()
    gemms = QuantizeDynamic(operators=("Gemm",))(model, tiny.context([]))
    assert sum(n.op_type == "MatMul" for n in gemms.graph.graph) == 1
    without = QuantizeDynamic(exclude=("n_matmul*",))(model, tiny.context([]))
    assert sum(n.op_type == "MatMul" for n in without.graph.graph) == 1


def test_answers() -> None:
    with pytest.raises(NotApplicable, match="no LSTM with constant float32 weights"):
        QuantizeDynamic(operators=("LSTM",))(tiny.mlp(), tiny.context([]))
    quantized = QuantizeDynamic()(tiny.mlp(), tiny.context([]))
    for step in (QuantizeDynamic(), Quantize()):
        with pytest.raises(NotApplicable, match="quantized already: DynamicQuantizeLinear"):
            step(quantized, tiny.context([]))
    with pytest.raises(UsageError, match=r"no operator 'Conv'"):
        QuantizeDynamic(operators=("Conv",))
    assert QuantizeDynamic(operators=["MatMul"]) == QuantizeDynamic(operators=("MatMul",))  # type: ignore[arg-type]
    assert isinstance(QuantizeDynamic(), Pass)


def test_an_older_operator_set_is_refused() -> None:
    net = tiny.Net(opset=10)
    net.add("MatMul", "x", net.w(4, 4), out="y")
    with pytest.raises(NotApplicable, match="operator set 10 has no DynamicQuantizeLinear"):
        QuantizeDynamic()(net.model({"x": [1, 4]}, {"y": [1, 4]}), tiny.context([]))


def test_products_inside_if() -> None:
    net = tiny.Net()
    w = net.w(4, 4)
    info = helper.make_tensor_value_info
    bodies = [
        helper.make_graph([helper.make_node("MatMul", ["x", w], [n])], n, [], [info(n, 1, [1, 4])])
        for n in ("then", "else")
    ]
    yes = net.add("Greater", net.add("ReduceMax", "x", keepdims=0), net.const(np.float32(0)))
    net.add("If", yes, out="y", then_branch=bodies[0], else_branch=bodies[1])
    model = net.model({"x": [1, 4]}, {"y": [1, 4]})
    samples = tiny.feeds(model, 4)
    assert decibels(model, QuantizeDynamic()(model, tiny.context([])), samples) > 25
