"""Quantize stays close to the float network, and the engines really run what it writes in eight bits."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from hasten.errors import UsageError
from hasten.graph import evaluate, walk
from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.passes.quantize import Quantize, variants
from hasten.protocols import Feeds, NotApplicable, Pass
from hasten.quant import grid
from tests import tiny

NETWORKS = (tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile)


def prepared(network: Callable[[], Model]) -> tuple[Model, list[Feeds]]:
    model = network()
    samples = tiny.feeds(model, 16)
    try:
        return Clean()(model, tiny.context(samples)), samples
    except NotApplicable:
        return model, samples


def decibels(model: Model, other: Model, samples: Sequence[Feeds]) -> float:
    pairs = zip(evaluate.run(model.graph, samples), evaluate.run(other.graph, samples), strict=True)
    x, y = zip(*((a["y"], b["y"]) for a, b in pairs), strict=True)
    return grid.sqnr(np.stack(x), np.stack(y))


def ort_kinds(model: Model) -> Counter[str]:
    """What ONNX Runtime makes of the network on this machine."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimised.onnx")
        options = ort.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(path), 4
        ort.InferenceSession(ir.to_proto(model.graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(path).graph.node)


def openvino_precisions(model: Model, tmp_path: Path) -> Counter[str]:
    openvino = pytest.importorskip("openvino")
    model.save(tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, precision = (
            v if isinstance(v, str) else v.astype(str) for v in (info["layerType"], info["runtimePrecision"])
        )
        found[f"{kind} {precision}"] += 1
    return found


@pytest.mark.parametrize("scheme", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("network", NETWORKS)
def test_close_to_float_valid_and_same_interface(network: Callable[[], Model], scheme: str) -> None:
    model, samples = prepared(network)
    before = ir.to_proto(model.graph).SerializeToString()
    quantized = Quantize(scheme=scheme)(model, tiny.context(samples))
    assert decibels(model, quantized, samples) > 25
    onnx.checker.check_model(ir.to_proto(quantized.graph), full_check=True)
    assert [str(v) for v in quantized.graph.graph.inputs] == [str(v) for v in model.graph.graph.inputs]
    assert [str(v) for v in quantized.graph.graph.outputs] == [str(v) for v in model.graph.graph.outputs]
    assert quantized.history[-1] == repr(Quantize(scheme=scheme))
    assert ir.to_proto(model.graph).SerializeToString() == before


def test_onnxruntime_fuses_every_convolution() -> None:
    model, samples = prepared(tiny.residual_cnn)
    found = ort_kinds(Quantize()(model, tiny.context(samples)))
    assert found["QLinearConv"] == 4
    assert found["QLinearAdd"] == found["QLinearGlobalAveragePool"] == found["QGemm"] == 1
    assert not found["Conv"] + found["Gemm"] + found["Clip"] + found["Relu"]
    assert found["QuantizeLinear"] == 1  # the network's input; nothing goes back to float in between


def test_onnxruntime_runs_hard_swish_and_gates_on_bytes() -> None:
    model, samples = prepared(tiny.mobile)
    found = ort_kinds(Quantize()(model, tiny.context(samples)))
    assert found["QLinearConv"] == 4
    assert found["Conv"] + found["FusedConv"] == 2  # the two of the squeeze-and-excite branch
    assert found["QLinearMul"] == 3  # two hard swishes and the gate
    assert not found["HardSwish"]


def test_transformer_keeps_attention_and_outputs_in_float() -> None:
    model, samples = prepared(tiny.transformer)
    quantized = Quantize()(model, tiny.context(samples))
    found = ort_kinds(quantized)
    assert found["MatMulIntegerToFloat"] == 6
    assert found["MatMul"] + found["FusedMatMul"] == 2  # scores and values


def test_openvino_runs_eight_bits(tmp_path: Path) -> None:
    model, samples = prepared(tiny.residual_cnn)
    found = openvino_precisions(Quantize(scheme="openvino")(model, tiny.context(samples)), tmp_path)
    assert found["Convolution u8"] == 4
    assert found["FullyConnected u8"] == 1
    assert not found["Convolution f32"]


def test_openvino_multiplies_scores_and_values_on_bytes(tmp_path: Path) -> None:
    model, samples = prepared(tiny.transformer)
    plain = openvino_precisions(Quantize(scheme="openvino")(model, tiny.context(samples)), tmp_path)
    assert plain["Subgraph f32"] == 1, "attention as a whole"
    quantized = Quantize(scheme="openvino", attention="int8")(model, tiny.context(samples))
    found = openvino_precisions(quantized, tmp_path)
    assert found["Subgraph i8"] == 1
    assert found["Subgraph f32"] == 0
    products = [n for n in quantized.graph.graph if n.op_type == "MatMul" and walk.weight(model_node(model, n)) is None]
    assert len(products) == 2
    zeros = [[zero_of(value) for value in node.inputs] for node in products]
    assert zeros == [[np.int8(0), np.int8(0)], [np.uint8(0), np.int8(0)]]
    assert [[z.dtype for z in pair] for pair in zeros] == [[np.int8, np.int8], [np.uint8, np.int8]]


def test_openvino_fuses_attention_with_the_transposition_behind_it(tmp_path: Path) -> None:
    net, d = tiny.Net(), 32
    split, joined = net.const(np.array([0, 12, 4, 8], np.int64)), net.const(np.array([0, 12, d], np.int64))
    parts = [net.add("Reshape", net.add("MatMul", "x", net.w(d, d)), split) for _ in range(3)]
    q, v = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (parts[0], parts[2]))
    scores = net.add("MatMul", q, net.add("Transpose", parts[1], perm=[0, 2, 3, 1]))
    found = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    net.add("MatMul", net.add("Reshape", found, joined), net.w(d, d), out="y")
    model = net.model({"x": ["batch", 12, d]}, {"y": ["batch", 12, d]})
    samples = tiny.feeds(model, 8)
    in_floats = openvino_precisions(model, tmp_path)
    found_bytes = openvino_precisions(Quantize(scheme="openvino")(model, tiny.context(samples)), tmp_path)
    apart = [sum(n for kind, n in found.items() if kind.startswith("Transpose")) for found in (in_floats, found_bytes)]
    assert apart[1] == apart[0], "no more transpositions of their own than in floats"
    assert sum(n for kind, n in found_bytes.items() if kind.startswith("FullyConnected")) == 4


def model_node(model: Model, node: ir.Node) -> ir.Node:
    """The node of that name in the float network."""
    return next(n for n in model.graph.graph if n.name == node.name)


def before_shaping(value: ir.Value | None) -> ir.Node:
    """The node that a tensor comes from, seen through transposes."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type == "Transpose":
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    assert node is not None
    return node


def zero_of(value: ir.Value | None) -> np.ndarray:
    """The zero point that a tensor was rounded with."""
    zero = walk.constant(before_shaping(value).inputs[2])
    assert zero is not None
    return zero


@pytest.mark.parametrize(("left_out", "rounded"), [(0, 1), (2, 1), (3, 2), (5, 2)])
def test_products_stay_in_float_beside_a_linear_operator_that_does(left_out: int, rounded: int) -> None:
    """Queries, keys, values, then what mixes the heads, and so on: scores need the first two, their sum the third."""
    model, samples = prepared(tiny.transformer)
    linear = [walk.label(n) for n in model.graph.graph if walk.weight(n)]
    quantized = Quantize(scheme="openvino", attention="int8", exclude=(linear[left_out],))(model, tiny.context(samples))
    products = [n for n in quantized.graph.graph if n.op_type == "MatMul" and walk.weight(model_node(model, n)) is None]
    on_bytes = [n for n in products if all(before_shaping(v).op_type == "DequantizeLinear" for v in n.inputs)]
    assert len(on_bytes) == rounded
    assert decibels(model, quantized, samples) > 25


def test_hard_swish_on_codes_equals_hard_swish_on_values() -> None:
    net = tiny.Net()
    net.conv(net.add("HardSwish", net.conv("x", 3, 8)), 8, 4, 1, out="y")
    model = net.model({"x": [1, 3, 8, 8]}, {"y": [1, 4, 8, 8]})
    samples = [{"x": 4 * s["x"]} for s in tiny.feeds(model, 8)]
    quantized = Quantize()(model, tiny.context(samples))
    assert decibels(model, quantized, samples) > 30


def test_one_layer_against_plain_arithmetic() -> None:
    net = tiny.Net()
    net.add("Gemm", "x", net.w(6, 16), net.w(6, scale=1), out="y", transB=1)
    model = net.model({"x": [1, 16]}, {"y": [1, 6]})
    w, b = (walk.constant(v) for v in model.graph.graph.initializers.values())
    assert w is not None
    assert b is not None
    samples = tiny.feeds(model, 8)
    quantized = Quantize()(model, tiny.context(samples))
    x = np.concatenate([s["x"] for s in samples])
    low, high = min(x.min(), 0), max(x.max(), 0)
    s_x = np.float32((float(high) - float(low)) / 255)
    z = round(-float(low) / float(s_x))
    s_w = (np.abs(w).max(axis=1) / 127).astype(np.float32)
    x8 = np.clip(np.rint(samples[0]["x"] / s_x) + z, 0, 255).astype(int)
    w8 = np.clip(np.rint(w / s_w[:, None]), -127, 127).astype(int)
    b32 = np.rint(b / (s_x * s_w)).astype(int)
    expected = ((x8 - z) @ w8.T + b32) * (s_x * s_w).astype(np.float64)
    [got] = evaluate.run(quantized.graph, samples[:1])
    np.testing.assert_allclose(got["y"], expected, rtol=1e-4, atol=1e-5)


def test_weights_are_stored_as_integers_once() -> None:
    net = tiny.Net()
    w = net.w(16, 16)
    net.add("MatMul", net.add("Relu", net.add("MatMul", "x", w)), w, out="y")
    model = net.model({"x": [1, 16]}, {"y": [1, 16]})
    samples = tiny.feeds(model, 8)
    quantized = Quantize()(model, tiny.context(samples))
    stored = [
        v
        for v in quantized.graph.graph.initializers.values()
        if v.dtype == ir.DataType.INT8 and len(v.shape or ()) == 2
    ]
    assert len(stored) == 1
    assert decibels(model, quantized, samples) > 25
    assert w not in quantized.graph.graph.initializers


def test_a_dead_channel_with_a_bias_does_not_overflow() -> None:
    net = tiny.Net()
    w = np.zeros((2, 4), np.float32)
    w[0] = 1e-12
    net.add("Gemm", "x", net.const(w), net.const(np.array([50, -50], np.float32)), out="y", transB=1)
    model = net.model({"x": [1, 4]}, {"y": [1, 2]})
    samples = tiny.feeds(model, 4)
    assert decibels(model, Quantize()(model, tiny.context(samples)), samples) > 60


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"exclude": ("n_gemm*",)}, {"Gemm"}),
        ({"exclude": ("Conv",)}, {"Conv"}),
        ({"include": ("Gemm",)}, {"Conv"}),
        ({"operators": "conv"}, {"Gemm"}),
        ({"operators": "matmul"}, {"Conv"}),
    ],
)
def test_choosing_operators(options: dict[str, object], left: set[str]) -> None:
    model, samples = prepared(tiny.residual_cnn)
    if options == {"exclude": ("n_gemm*",)}:
        options = {"exclude": (next(n.name or "" for n in model.graph.graph if n.op_type == "Gemm"),)}
    quantized = Quantize(**options)(model, tiny.context(samples))  # type: ignore[arg-type]
    floats = {n.op_type for n in quantized.graph.graph if walk.weight(n)}
    assert floats == left


def test_depthwise_and_ends_can_stay_in_float() -> None:
    model, samples = prepared(tiny.residual_cnn)

    def count(quantized: Model) -> int:
        return sum(walk.weight(n) is not None for n in quantized.graph.graph)

    assert count(Quantize(depthwise="float")(model, tiny.context(samples))) == 1
    assert count(Quantize(ends="float")(model, tiny.context(samples))) == 2
    assert count(Quantize(operators="linear")(model, tiny.context(samples))) == 0


def test_answers_when_there_is_nothing_to_do() -> None:
    model, samples = prepared(tiny.mlp)
    quantized = Quantize()(model, tiny.context(samples))
    with pytest.raises(NotApplicable, match=r"quantized already: \w*uantizeLinear"):
        Quantize()(quantized, tiny.context(samples))
    net = tiny.Net()
    net.add("Relu", "x", out="y")
    with pytest.raises(NotApplicable, match="no Conv, MatMul or Gemm"):
        Quantize()(net.model({"x": [3]}, {"y": [3]}), tiny.context([]))
    with pytest.raises(NotApplicable, match="operator set 11 has no per-channel DequantizeLinear; 13 has"):
        Quantize()(tiny.residual_cnn(opset=11), tiny.context([]))


def test_linear_operators_inside_if_are_named() -> None:
    info = helper.make_tensor_value_info
    net = tiny.Net()
    w = net.w(4, 4)
    bodies = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", w], [name])], name, [], [info(name, TensorProto.FLOAT, [1, 4])]
        )
        for name in ("then", "else")
    ]
    yes = net.add("Greater", net.add("ReduceMax", "x", keepdims=0), net.const(np.float32(0)))
    net.add("If", yes, out="y", then_branch=bodies[0], else_branch=bodies[1])
    model = net.model({"x": [1, 4]}, {"y": [1, 4]})
    with pytest.raises(NotApplicable, match="all 2 linear operators lie inside If or Loop bodies"):
        Quantize()(model, tiny.context(tiny.feeds(model, 2)))


def test_options() -> None:
    with pytest.raises(UsageError, match=r"quantize has no scheme 'openvin'\n.*help: did you mean 'openvino'"):
        Quantize(scheme="openvin")
    with pytest.raises(UsageError, match="quantize has no depthwise 'no'"):
        Quantize(depthwise="no")
    assert Quantize(exclude=["a"]) == Quantize(exclude=("a",))  # type: ignore[arg-type]
    assert hash(Quantize()) == hash(Quantize())
    assert isinstance(Quantize(), Pass)
    for scheme in ("onnxruntime", "openvino"):
        assert all(v.scheme == scheme for v in variants(scheme))
        assert len(set(variants(scheme))) == len(variants(scheme))


def test_onnxruntime_leaves_excluded_convolutions_in_float() -> None:
    model, samples = prepared(tiny.residual_cnn)
    found = ort_kinds(Quantize(depthwise="float")(model, tiny.context(samples)))
    assert found["Conv"] + found["FusedConv"] == 1
    assert found["QLinearConv"] == 3


def test_channels_of_a_depthwise_input_keep_their_own_scale_in_openvino(tmp_path: Path) -> None:
    """Each channel of a depthwise convolution is on its own, so a wide one need not coarsen the others."""
    net = tiny.Net()
    spread = np.geomspace(0.01, 10, 16).astype(np.float32).reshape(1, 16, 1, 1)
    x = net.add("Mul", net.add("Relu", net.conv("x", 3, 16, 1)), net.const(spread))
    weights = net.const((net.random.standard_normal((16, 1, 3, 3)) / spread.reshape(16, 1, 1, 1)).astype(np.float32))
    net.add("Conv", x, weights, net.w(16, scale=0.1), group=16, pads=[1] * 4, out="y")
    model = net.model({"x": ["batch", 3, 12, 12]}, {"y": ["batch", 16, 12, 12]})
    samples = tiny.feeds(model, 16)
    apart = Quantize(scheme="openvino")(model, tiny.context(samples))
    rounded = [n for n in apart.graph.graph if n.op_type == "QuantizeLinear" and "axis" in n.attributes]
    assert len(rounded) == 1
    assert walk.attribute(rounded[0], "axis", 0) == 1
    together = Quantize(scheme="onnxruntime")(model, tiny.context(samples))  # its kernel takes one scale for all
    assert not any(n.op_type == "QuantizeLinear" and "axis" in n.attributes for n in together.graph.graph)
    assert decibels(model, apart, samples) > decibels(model, together, samples) + 8
    assert openvino_precisions(apart, tmp_path)["Convolution f32"] == 0
