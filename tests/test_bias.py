"""Bias correction: the mean error that rounded weights cause, and that it is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from hasten.graph import edit, evaluate, walk
from hasten.model import Model
from hasten.passes.bias import mean_shift, take_off
from hasten.passes.clean import Clean
from hasten.passes.quantize import Quantize
from tests import tiny
from tests.tiny import Net


def one(kind: str) -> Model:
    """A single linear operator."""
    net = Net()
    if kind == "grouped":
        net.conv("x", 8, 12, 3, group=4, out="y", pads=[0] * 4)
    elif kind == "depthwise":
        net.conv("x", 8, 8, 3, group=8, bias=False, out="y", pads=[0] * 4)
    elif kind == "gemm":
        net.add("Gemm", "x", net.w(5, 8), net.w(5), out="y", transB=1)
    else:
        net.add("Add", net.add("MatMul", "x", net.w(8, 5)), net.w(5), out="y")
    shape: list[int | str] = ["batch", 8, 9, 9] if kind in ("grouped", "depthwise") else ["batch", 8]
    return net.model({"x": shape}, {"y": ["batch", *(["c", "h", "w"] if len(shape) == 4 else [5])]})


@pytest.mark.parametrize("kind", ["grouped", "depthwise", "gemm", "matmul"])
def test_the_shift_is_the_mean_error_and_goes_with_the_bias(kind: str) -> None:
    model = one(kind)
    rng = np.random.default_rng(0)
    samples = [
        {"x": (f["x"] + rng.uniform(1, 3, (1, 8) + (1,) * (f["x"].ndim - 2))).astype(np.float32)}
        for f in tiny.feeds(model, 9, batch=4)
    ]
    graph = model.clone_graph()
    node = next(n for n in graph.graph if walk.weight(n))
    found = walk.weight(node)
    assert found is not None
    w = walk.constant(found.value)
    assert w is not None
    error = (rng.standard_normal(w.shape) * 0.05).astype(np.float32)
    together = np.concatenate([f["x"] for f in samples])
    mean = together.mean(axis=(0, 2, 3)[: 1 if together.ndim == 2 else 3], dtype=np.float64)
    shift = mean_shift(node, error, mean)
    assert shift is not None
    node.replace_input_with(1, edit.add_constant(graph.graph, "rounded", w + error))

    def mean_error() -> np.ndarray:
        before, after = (np.concatenate([r["y"] for r in evaluate.run(g, samples)]) for g in (model.graph, graph))
        return np.asarray((after - before).mean(axis=tuple(i for i in range(after.ndim) if i != 1)))

    # patches of an unpadded convolution see the borders less often, so their mean is not quite the tensor's
    near = 0.02 if together.ndim == 4 else 1e-5
    np.testing.assert_allclose(mean_error(), shift, atol=near)
    assert np.abs(shift).max() > 0.05
    take_off(graph, node, shift, edit.names(graph))
    np.testing.assert_allclose(mean_error(), 0, atol=near)


def test_what_does_not_line_up_is_left_alone() -> None:
    graph = one("gemm").clone_graph()
    node = next(n for n in graph.graph if walk.weight(n))
    assert mean_shift(node, np.zeros((5, 8), np.float32), np.zeros(3)) is None
    relu = ir.node("Relu", [ir.Value(name="a")])
    assert mean_shift(relu, np.zeros((5, 8), np.float32), np.zeros(8)) is None
    before = len(list(graph.graph))
    bare = Net()
    bare.add("MatMul", "x", bare.w(8, 5), out="y")
    alone = bare.model({"x": ["batch", 8]}, {"y": ["batch", 5]}).clone_graph()
    product = next(iter(alone.graph))
    take_off(alone, product, np.ones(5), edit.names(alone))  # nothing behind it that could take a bias
    assert [n.op_type for n in alone.graph] == ["MatMul"]
    assert len(list(graph.graph)) == before


@pytest.mark.parametrize("scheme", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("network", [tiny.residual_cnn, tiny.mlp])
def test_corrected_networks_have_a_smaller_mean_error(network: Callable[[], Model], scheme: str) -> None:
    model = network()
    samples = [{k: v + 1 for k, v in f.items()} for f in tiny.feeds(model, 24, batch=2)]
    context = tiny.context(samples)
    clean = Clean()(model, context)

    def error(bias: str) -> float:
        quantized = Quantize(scheme=scheme, bias=bias)(clean, context)
        before, after = (np.concatenate([r["y"] for r in evaluate.run(m.graph, samples)]) for m in (clean, quantized))
        return float(np.abs((after - before).mean(axis=0)).max())

    assert error("corrected") < error("kept")
