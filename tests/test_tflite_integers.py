"""TensorFlow Lite files in int8, with half-float weights, with int8 weights only: as Q/DQ or floats, against LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from hasten.frontends import tflite
from hasten.graph import evaluate
from hasten.passes import patterns
from tests.flat import Flat, litert

Array = NDArray[Any]
rng = np.random.default_rng(0)
X = (2, 6, 7, 4)


def codes(*shape: int) -> Array:
    return rng.integers(-128, 128, shape, dtype=np.int8)


def run(path: Path, feeds: list[Array]) -> tuple[list[Array], list[Array], ir.Model]:
    model = tflite.load(path)
    onnx.checker.check_model(ir.to_proto(model.graph), full_check=True)
    [got] = evaluate.run(model.graph, [dict(zip([s.name for s in model.inputs], feeds, strict=True))])
    return litert(path, feeds), list(got.values()), model.graph


def close(path: Path, feeds: list[Array], steps: int = 1, share: float = 0.0) -> list[str]:
    """Codes differ by at most ``steps``, and by more than one in at most ``share`` of them."""
    wanted, got, graph = run(path, feeds)
    for want, ours in zip(wanted, got, strict=True):
        assert ours.dtype == want.dtype == np.int8
        apart = np.abs(ours.astype(int) - want.astype(int))
        assert apart.max() <= steps
        assert (apart > 1).mean() <= share
    return [n.op_type for n in graph.graph]


def weights(flat: Flat, *shape: int, axis: int) -> tuple[int, Array]:
    scale = rng.uniform(0.005, 0.02, shape[axis]).astype(np.float32)
    return flat.const(rng.integers(-127, 128, shape, dtype=np.int8), scale=scale, axis=axis), scale


def bias(flat: Flat, scale: Array) -> int:
    return flat.const(rng.integers(-3000, 3000, scale.size, dtype=np.int32), scale=scale, axis=0)


@pytest.mark.parametrize("activation", [0, 1, 3])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_linear_operators_per_channel(kind: str, activation: int, tmp_path: Path) -> None:
    flat, s_x = Flat(), 0.03
    x = flat.input([3, 9] if kind == "FULLY_CONNECTED" else X, "int8", scale=s_x, zero=-5)
    shape, axis, out, table = {
        "CONV_2D": ((5, 3, 3, 4), 0, (2, 6, 7, 5), "Conv2DOptions"),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, 4), 3, X, "DepthwiseConv2DOptions"),
        "FULLY_CONNECTED": ((5, 9), 0, (3, 5), "FullyConnectedOptions"),
    }[kind]
    w, s_w = weights(flat, *shape, axis=axis)
    more = {} if kind == "FULLY_CONNECTED" else {"strideH": 1, "strideW": 1, "padding": 0}
    more |= {"depthMultiplier": 1} if kind == "DEPTHWISE_CONV_2D" else {}
    y = flat.tensor(out, "int8", scale=0.03, zero=-128 if activation else 3)
    flat.op(kind, [x, w, bias(flat, s_w * s_x)], [y], table, fusedActivationFunction=activation, **more)
    flat.version(5)
    ops = close(flat.save(tmp_path / "m.tflite"), [codes(*(3, 9) if kind == "FULLY_CONNECTED" else X)])
    assert ops.count("DequantizeLinear") == 5  # x twice (signed at the door, unsigned inside), weights, bias, y
    assert ops.count("QuantizeLinear") == 3


UNARY: dict[str, tuple[str, dict[str, Any], float, int]] = {
    "LOGISTIC": ("", {}, 1 / 256, -128),
    "TANH": ("", {}, 1 / 128, 0),
    "SOFTMAX": ("SoftmaxOptions", {"beta": 1.0}, 1 / 256, -128),
    "HARD_SWISH": ("", {}, 0.03, -100),
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.2}, 0.03, -60),
    "ELU": ("", {}, 0.03, -90),
    "RELU": ("", {}, 0.05, -10),
    "GELU": ("GeluOptions", {}, 0.03, -110),
    "ABS": ("", {}, 0.05, -10),
    "RSQRT": ("", {}, 0.02, -128),
    "QUANTIZE": ("", {}, 0.08, 9),
    "L2_NORMALIZATION": ("L2NormOptions", {}, 1 / 128, 0),
}


@pytest.mark.parametrize("kind", UNARY)
def test_activations(kind: str, tmp_path: Path) -> None:
    table, options, scale, zero = UNARY[kind]
    flat = Flat()
    x = flat.input(X, "int8", scale=0.05, zero=-128 if kind == "RSQRT" else -10)
    y = flat.tensor(X, "int8", scale=scale, zero=zero)
    flat.op(kind, [x], [y], table, **options)
    flat.version(1 if kind in ("ELU", "HARD_SWISH") else 2)
    feed = np.maximum(codes(*X), -120) if kind == "RSQRT" else codes(*X)
    close(flat.save(tmp_path / "m.tflite"), [feed], steps=2, share=0.02)


@pytest.mark.parametrize(
    ("kind", "table"), [("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions"), ("MAXIMUM", "")]
)
@pytest.mark.parametrize("stored", [False, True])
def test_two_operands(kind: str, table: str, stored: bool, tmp_path: Path) -> None:
    flat, same = Flat(), kind == "MAXIMUM"
    x = flat.input(X, "int8", scale=0.03, zero=4)
    grid = {"scale": 0.03 if same else 0.05, "zero": 4 if same else -7}
    b = flat.const(codes(4), **grid) if stored else flat.input(X, "int8", **grid)
    y = flat.tensor(X, "int8", scale=0.03 if same else 0.09, zero=4 if same else 1)
    flat.op(kind, [x, b], [y], table)
    flat.version(2)
    close(flat.save(tmp_path / "m.tflite"), [codes(*X)] if stored else [codes(*X), codes(*X)])


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling(kind: str, tmp_path: Path) -> None:
    flat = Flat()
    x, y = flat.input(X, "int8", scale=0.03, zero=4), flat.tensor([2, 3, 4, 4], "int8", scale=0.03, zero=4)
    pool = {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 0}
    flat.op(kind, [x], [y], "Pool2DOptions", **pool)
    flat.version(2)
    close(flat.save(tmp_path / "m.tflite"), [codes(*X)])


def small_cnn(flat: Flat) -> int:
    """int8: CONV -> DEPTHWISE -> ADD -> PAD -> CONCATENATION -> MEAN -> FULLY_CONNECTED -> SOFTMAX."""
    x = flat.input([1, 8, 8, 3], "int8", scale=0.03, zero=-1)
    w, s = weights(flat, 8, 3, 3, 3, axis=0)
    a = flat.tensor([1, 8, 8, 8], "int8", scale=0.06, zero=-128)
    conv = {"strideH": 1, "strideW": 1, "padding": 0, "fusedActivationFunction": 1}
    flat.op("CONV_2D", [x, w, bias(flat, s * 0.03)], [a], "Conv2DOptions", **conv)
    flat.version(3)
    w, s = weights(flat, 1, 3, 3, 8, axis=3)
    b = flat.tensor([1, 8, 8, 8], "int8", scale=0.2, zero=-128)
    flat.op("DEPTHWISE_CONV_2D", [a, w, bias(flat, s * 0.06)], [b], "DepthwiseConv2DOptions", depthMultiplier=1, **conv)
    flat.version(3)
    c = flat.tensor([1, 8, 8, 8], "int8", scale=0.25, zero=-128)
    flat.op("ADD", [a, b], [c], "AddOptions")
    flat.version(2)
    d = flat.tensor([1, 8, 8, 16], "int8", scale=0.25, zero=-128)
    flat.op("CONCATENATION", [c, c], [d], "ConcatenationOptions", axis=3)
    flat.version(2)
    e = flat.tensor([1, 10, 9, 16], "int8", scale=0.25, zero=-128)
    flat.op("PAD", [d, flat.const(np.array([[0, 0], [1, 1], [0, 1], [0, 0]], np.int32))], [e], "PadOptions")
    flat.version(2)
    g = flat.tensor([1, 16], "int8", scale=0.2, zero=-128)
    flat.op("MEAN", [e, flat.const(np.array([1, 2], np.int32))], [g], "ReducerOptions", keepDims=False)
    flat.version(2)
    w, s = weights(flat, 5, 16, axis=0)
    h = flat.tensor([1, 5], "int8", scale=0.1, zero=0)
    flat.op("FULLY_CONNECTED", [g, w, bias(flat, s * 0.2)], [h], "FullyConnectedOptions")
    flat.version(5)
    y = flat.tensor([1, 5], "int8", scale=1 / 256, zero=-128)
    flat.op("SOFTMAX", [h], [y], "SoftmaxOptions", beta=1.0)
    flat.version(2)
    return y


def test_a_network_is_one_transpose_away_from_its_input_and_is_known_as_quantized(tmp_path: Path) -> None:
    flat = Flat()
    path = flat.save(tmp_path / "m.tflite", small_cnn(flat))
    ops = close(path, [codes(1, 8, 8, 3)], steps=3, share=0.3)
    assert ops.count("Transpose") == 1
    model = tflite.load(path)
    assert patterns.quantized_already(model.graph).startswith("DequantizeLinear")
    assert str(model.inputs[0]) == "t0[1,8,8,3] int8"
    scales = [
        n.inputs[1].shape for n in model.graph.graph if n.op_type == "DequantizeLinear" if n.inputs[1] is not None
    ]
    assert [list(s) for s in scales if s is not None].count([8]) == 4  # weights and biases of two convolutions


def test_onnxruntime_runs_it_in_integers(tmp_path: Path) -> None:
    import onnxruntime as ort

    flat = Flat()
    model = tflite.load(flat.save(tmp_path / "m.tflite", small_cnn(flat)))
    model.save(tmp_path / "m.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 4
    ort.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    found = [n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert found.count("QLinearConv") == 2
    assert not {"Conv", "FusedConv", "Gemm", "Add"} & set(found)


def test_half_float_weights_become_float_constants(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input(X)
    parts = []
    for shape in ((5, 3, 3, 4), (5,)):
        half = flat.const(rng.standard_normal(shape).astype(np.float16))
        parts.append(flat.op("DEQUANTIZE", [half], [flat.tensor(shape)], "DequantizeOptions"))
    flat.op("CONV_2D", [x, *parts], [flat.tensor([2, 6, 7, 5])], "Conv2DOptions", strideH=1, strideW=1)
    wanted, got, graph = run(flat.save(tmp_path / "m.tflite"), [rng.standard_normal(X).astype(np.float32)])
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-4)
    assert {n.op_type for n in graph.graph} == {"Transpose", "Conv"}


def test_eight_bit_weights_alone_become_float_constants(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input([3, 9])
    w, _ = weights(flat, 5, 9, axis=0)
    flat.op("FULLY_CONNECTED", [x, w, -1], [flat.tensor([3, 5])], "FullyConnectedOptions")
    flat.version(12)
    wanted, got, graph = run(flat.save(tmp_path / "m.tflite"), [rng.standard_normal((3, 9)).astype(np.float32)])
    np.testing.assert_allclose(got[0], wanted[0], atol=0.05)  # LiteRT rounds the activations to eight bits, we do not
    assert [n.op_type for n in graph.graph] == ["Gemm"]


def test_unsigned_codes_of_old_converters(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input(X, "uint8", scale=0.03, zero=120)
    w = flat.const(rng.integers(0, 256, (5, 3, 3, 4), dtype=np.uint8), scale=0.01, zero=130)
    b = flat.const(rng.integers(-3000, 3000, 5, dtype=np.int32), scale=0.03 * 0.01)
    flat.op("CONV_2D", [x, w, b], [flat.tensor([2, 6, 7, 5], "uint8", scale=0.05, zero=128)], "Conv2DOptions",
            strideH=1, strideW=1)  # fmt: skip
    feed = rng.integers(0, 256, X, dtype=np.uint8)
    wanted, got, _ = run(flat.save(tmp_path / "m.tflite"), [feed])
    assert np.abs(got[0].astype(int) - wanted[0].astype(int)).max() <= 1


def test_floats_at_both_ends(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input(X)
    q = flat.op("QUANTIZE", [x], [flat.tensor(X, "int8", scale=0.03, zero=2)], "QuantizeOptions")
    w, s = weights(flat, 5, 1, 1, 4, axis=0)
    y = flat.tensor([2, 6, 7, 5], "int8", scale=0.05, zero=0)
    flat.op("CONV_2D", [q, w, bias(flat, s * 0.03)], [y], "Conv2DOptions", strideH=1, strideW=1)
    flat.version(3)
    flat.op("DEQUANTIZE", [y], [flat.tensor([2, 6, 7, 5])], "DequantizeOptions")
    flat.version(2)
    wanted, got, _ = run(flat.save(tmp_path / "m.tflite"), [rng.standard_normal(X).astype(np.float32)])
    assert np.abs(got[0] - wanted[0]).max() <= 0.0501
