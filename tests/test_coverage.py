"""Every operator that the stock quantizer knows: on bytes between two convolutions, or here with the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from hasten.model import Model
from hasten.passes import patterns
from hasten.passes.quantize import Quantize
from tests import tiny
from tests.test_quantize import decibels, openvino_precisions, ort_kinds
from tests.tiny import Net

# What ONNX Runtime has no eight-bit kernel for on the CPU: rounding before and behind it would only add work. The test
# fails when a new version has one.
NO_KERNEL = {
    "BatchNormalization": "the clean-up folds it into the convolution before it; elsewhere it runs in float",
    "ConvTranspose": "runs in float; its neighbours are rounded",
    "CumSum": "sums leave any range that was calibrated",
    "InstanceNormalization": "scales by statistics of its own input, in float",
    "ReduceMean": "runs in float; OpenVINO has a kernel",
    "LayerNormalization": "scales by statistics of its own input, in float",
    "GlobalMaxPool": "runs in float; OpenVINO has a kernel",
    "Pad": "runs in float; its neighbours are rounded",
    "SpaceToDepth": "runs in float; its neighbours are rounded",
    "TopK": "runs in float; it stands at the end of networks, where nobody reads bytes",
}
# What ends in answers that are no numbers of the network, or is not an operator of ONNX.
NOTHING_TO_ROUND = {
    "ArgMax": "answers with positions; it reads what the operator before it wrote",
    "EmbedLayerNormalization": "an operator of ONNX Runtime's own, which its transformer optimizer writes",
}


def index(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def positions(n: Net) -> str:
    return n.const(np.random.default_rng(0).integers(0, 16, (1, 8, 4, 16)))


def reshaped(n: Net, a: str, *shape: int) -> str:
    return n.add("Reshape", a, n.const(index(*shape)))


def top(n: Net, a: str) -> str:
    n.nodes.append(helper.make_node("TopK", [a, n.const(index(4))], ["best", "where"], name="topk", axis=2))
    return "best"


# operator -> (tensors a and b [1, 8, 16, 16] -> the operator's result, its channels)
BETWEEN: dict[str, tuple[Callable[[Net, str, str], str], int]] = {
    "Add": (lambda n, a, b: n.add("Add", a, b), 8),
    "AveragePool": (lambda n, a, b: n.add("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2]), 8),
    "BatchNormalization": (lambda n, a, b: n.bn(n.add("Relu", a), 8), 8),
    "Clip": (lambda n, a, b: n.add("Clip", a, n.const(np.float32(0)), n.const(np.float32(6))), 8),
    "Concat": (lambda n, a, b: n.add("Concat", a, b, axis=1), 16),
    "Conv": (lambda n, a, b: n.conv(a, 8, 8), 8),
    "ConvTranspose": (lambda n, a, b: n.add("ConvTranspose", a, n.w(8, 8, 2, 2)), 8),
    "CumSum": (lambda n, a, b: n.add("CumSum", a, n.const(np.array(2))), 8),
    "DepthToSpace": (lambda n, a, b: n.add("DepthToSpace", a, blocksize=2), 2),
    "Expand": (lambda n, a, b: n.add("Expand", a, n.const(index(2, 8, 16, 16))), 8),
    "Flatten": (lambda n, a, b: n.add("Flatten", a), 0),
    "Gather": (lambda n, a, b: n.add("Gather", a, n.const(index(0, 3, 5)), axis=2), 8),
    "GatherElements": (lambda n, a, b: n.add("GatherElements", a, positions(n), axis=2), 8),
    "Gemm": (lambda n, a, b: n.add("Gemm", n.add("Flatten", a), n.w(2048, 32, scale=0.02)), 0),
    "GlobalAveragePool": (lambda n, a, b: n.add("GlobalAveragePool", a), 8),
    "GlobalMaxPool": (lambda n, a, b: n.add("GlobalMaxPool", a), 8),
    "HardSwish": (lambda n, a, b: n.add("HardSwish", a), 8),
    "InstanceNormalization": (lambda n, a, b: n.add("InstanceNormalization", a, n.w(8, shift=1), n.w(8)), 8),
    "LayerNormalization": (lambda n, a, b: n.add("LayerNormalization", a, n.w(16, shift=1), n.w(16)), 8),
    "LeakyRelu": (lambda n, a, b: n.add("LeakyRelu", a), 8),
    "MatMul": (lambda n, a, b: n.add("MatMul", a, n.w(16, 16)), 8),
    "MaxPool": (lambda n, a, b: n.add("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 8),
    "Mul": (lambda n, a, b: n.add("Mul", a, b), 8),
    "Pad": (lambda n, a, b: n.add("Pad", a, n.const(index(0, 0, 1, 1, 0, 0, 1, 1))), 8),
    "ReduceMax": (lambda n, a, b: n.add("ReduceMax", a, axes=[2], keepdims=1), 8),
    "ReduceMean": (lambda n, a, b: n.add("ReduceMean", a, axes=[2, 3], keepdims=1), 8),
    "Relu": (lambda n, a, b: n.add("Relu", a), 8),
    "Reshape": (lambda n, a, b: reshaped(n, a, 1, 4, 32, 16), 4),
    "Resize": (lambda n, a, b: n.add("Resize", a, "", n.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest"), 8),
    "Sigmoid": (lambda n, a, b: n.add("Sigmoid", a), 8),
    "Slice": (lambda n, a, b: n.add("Slice", a, n.const(index(2)), n.const(index(9)), n.const(index(3))), 8),
    "Softmax": (lambda n, a, b: n.add("Softmax", a, axis=1), 8),
    "SpaceToDepth": (lambda n, a, b: n.add("SpaceToDepth", a, blocksize=2), 32),
    "Split": (lambda n, a, b: n.add("Concat", n.add("Split", a, axis=1), a, axis=1), 16),
    "Squeeze": (lambda n, a, b: n.add("Squeeze", reshaped(n, a, 1, 1, 8, 16, 16), n.const(index(0))), 8),
    "Tile": (lambda n, a, b: n.add("Tile", a, n.const(index(1, 1, 2, 1))), 8),
    "TopK": (lambda n, a, b: top(n, a), 8),
    "Transpose": (lambda n, a, b: n.add("Transpose", a, perm=[0, 1, 3, 2]), 8),
    "Unsqueeze": (lambda n, a, b: reshaped(n, n.add("Unsqueeze", a, n.const(index(0))), 1, 8, 16, 16), 8),
    "Where": (lambda n, a, b: n.add("Where", n.const(np.random.default_rng(0).random((1, 8, 16, 16)) > 0.5), a, b), 8),
}  # fmt: skip


def known_to_the_stock_quantizer() -> list[str]:
    registry = pytest.importorskip("onnxruntime.quantization.registry")
    return sorted({*registry.QDQRegistry, *registry.QLinearOpsRegistry})


def quantized(operator: str, scheme: str) -> tuple[float, Model]:
    """The quantized conv - operator - conv, and its decibels."""
    build, channels = BETWEEN[operator]
    net = Net()
    a, b = net.conv("x", 3, 8), net.conv("x", 3, 8)
    middle = build(net, a, b)
    if channels:
        net.conv(middle, channels, 4, k=1, out="y")
    else:
        net.add("Gemm", middle, net.w(32 if operator == "Gemm" else 2048, 4, scale=0.02), out="y")
    model = net.model({"x": (1, 3, 16, 16)}, {"y": ["d"] * (4 if channels else 2)})
    samples = tiny.feeds(model, 16)
    found = Quantize(scheme=scheme)(model, tiny.context(samples))
    return decibels(model, found, samples), found


@pytest.mark.parametrize("operator", sorted(BETWEEN))
def test_onnxruntime_runs_an_operator_between_two_convolutions_on_bytes_or_has_no_kernel(operator: str) -> None:
    close, model = quantized(operator, "onnxruntime")
    assert close > 20
    kinds = ort_kinds(model)
    on_bytes = kinds["QuantizeLinear"] == 1  # the network's input; nothing goes back to float in between
    assert on_bytes == (operator not in NO_KERNEL), kinds


@pytest.mark.parametrize("operator", sorted(BETWEEN))
def test_openvino_keeps_the_convolutions_on_bytes_whatever_stands_between(operator: str, tmp_path: Path) -> None:
    close, model = quantized(operator, "openvino")
    assert close > 20
    linear = {k: n for k, n in openvino_precisions(model, tmp_path).items() if k.startswith(("Conv", "FullyC"))}
    assert {kind.split()[1] for kind in linear if not kind.startswith("Convert")} <= {"u8", "i8"}, linear


def test_no_operator_of_the_stock_quantizer_is_forgotten() -> None:
    assert set(known_to_the_stock_quantizer()) <= set(BETWEEN) | set(NOTHING_TO_ROUND)
    assert set(NO_KERNEL) <= set(BETWEEN)
    assert all({**NO_KERNEL, **NOTHING_TO_ROUND}.values())


def test_every_operator_that_is_kept_on_bytes_is_tried_here() -> None:
    ours = patterns.ORT_SHAPING | patterns.ORT_KERNELS | patterns.CLAMPS | patterns.SHAPING
    ours |= patterns.OPENVINO_KERNELS
    assert ours <= set(BETWEEN), ours - set(BETWEEN)
