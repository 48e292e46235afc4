"""Each TensorFlow Lite operator as we translate it, run in ONNX Runtime, against LiteRT's own kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hasten.frontends import tflite
from hasten.graph import evaluate
from tests.flat import Const, Flat, litert, single

Array = NDArray[Any]
rng = np.random.default_rng(0)


def f(*shape: int, low: float = -2, high: float = 2) -> Array:
    return rng.uniform(low, high, shape).astype(np.float32)


def c(*shape: int, **more: float) -> Const:
    return Const(f(*shape, **more))


def i(*values: Any, kind: str = "int32") -> Const:
    return Const(np.array(values[0] if len(values) == 1 else values, kind))


def compare(path: Path, feeds: list[Array], tolerance: float = 1e-5) -> list[str]:
    """Ours against LiteRT's; returns the operator types of our graph."""
    wanted = litert(path, feeds)
    model = tflite.load(path)
    [got] = evaluate.run(model.graph, [dict(zip([s.name for s in model.inputs], feeds, strict=True))])
    assert len(got) == len(wanted)
    for want, (name, ours), spec in zip(wanted, got.items(), model.outputs, strict=True):
        assert ours.shape == want.shape
        assert ours.dtype == want.dtype == np.dtype(spec.dtype)
        scale = max(1.0, float(np.abs(want.astype(np.float64)).max(initial=0)))
        np.testing.assert_allclose(ours, want, rtol=0, atol=tolerance * scale, err_msg=name)
    return [n.op_type for n in model.graph.graph]


CONV = {"strideH": 1, "strideW": 1}
POOL = {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2}
SLICE = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}
X = (2, 6, 7, 4)

# name: (kind, arguments, table of options, more)
CASES: dict[str, tuple[str, list[Any], str, dict[str, Any]]] = {
    "conv": ("CONV_2D", [f(*X), c(5, 3, 3, 4), c(5)], "Conv2DOptions", {**CONV, "padding": 0}),
    "conv valid": ("CONV_2D", [f(*X), c(5, 3, 2, 4), c(5)], "Conv2DOptions", {**CONV, "padding": 1}),
    "conv stride": (
        "CONV_2D", [f(*X), c(5, 3, 3, 4), c(5)], "Conv2DOptions",
        {"padding": 0, "strideH": 2, "strideW": 3, "fusedActivationFunction": 3},
    ),
    "conv dilated": (
        "CONV_2D", [f(*X), c(5, 3, 3, 4), c(5)], "Conv2DOptions",
        {**CONV, "padding": 0, "dilationHFactor": 2, "dilationWFactor": 3, "fusedActivationFunction": 1},
    ),
    "conv clamped": ("CONV_2D", [f(*X), c(5, 1, 1, 4), c(5)], "Conv2DOptions", {**CONV, "fusedActivationFunction": 2}),
    "conv grouped": ("CONV_2D", [f(*X), c(6, 3, 3, 2), c(6)], "Conv2DOptions", {**CONV, "version": 6}),
    "conv computed weights": ("CONV_2D", [f(*X), f(5, 3, 3, 4), c(5)], "Conv2DOptions", CONV),
    "depthwise": (
        "DEPTHWISE_CONV_2D", [f(*X), c(1, 3, 3, 4), c(4)], "DepthwiseConv2DOptions", {**CONV, "depthMultiplier": 1}
    ),
    "depthwise times two": (
        "DEPTHWISE_CONV_2D", [f(*X), c(1, 3, 2, 8), c(8)], "DepthwiseConv2DOptions",
        {"strideH": 2, "strideW": 2, "depthMultiplier": 2, "fusedActivationFunction": 1},
    ),
    "conv 3d": (
        "CONV_3D", [f(1, 4, 5, 6, 3), c(2, 3, 2, 3, 4)], "Conv3DOptions", {**CONV, "strideD": 1, "padding": 0}
    ),
    "transpose conv": (
        "TRANSPOSE_CONV", [i(2, 12, 14, 5), c(5, 3, 3, 4), f(*X)], "TransposeConvOptions",
        {"strideH": 2, "strideW": 2, "padding": 0},
    ),
    "transpose conv valid": (
        "TRANSPOSE_CONV", [i(2, 13, 15, 5), c(5, 3, 3, 4), f(*X), c(5)], "TransposeConvOptions",
        {"strideH": 2, "strideW": 2, "padding": 1, "version": 3},
    ),
    "transpose conv small kernel": (
        "TRANSPOSE_CONV", [i(2, 12, 14, 5), c(5, 1, 1, 4), f(*X)], "TransposeConvOptions",
        {"strideH": 2, "strideW": 2, "padding": 0},
    ),
    "max pool": ("MAX_POOL_2D", [f(*X)], "Pool2DOptions", {**POOL, "padding": 0, "fusedActivationFunction": 1}),
    "average pool": ("AVERAGE_POOL_2D", [f(*X)], "Pool2DOptions", {**POOL, "padding": 0}),
    "average pool valid": ("AVERAGE_POOL_2D", [f(*X)], "Pool2DOptions", {**POOL, "padding": 1}),
    "l2 pool": ("L2_POOL_2D", [f(*X)], "Pool2DOptions", {**POOL, "padding": 1}),
    "bilinear": ("RESIZE_BILINEAR", [f(*X), i(13, 9)], "ResizeBilinearOptions", {}),
    "bilinear centers": (
        "RESIZE_BILINEAR", [f(*X), i(4, 15)], "ResizeBilinearOptions", {"halfPixelCenters": True, "version": 3}
    ),
    "bilinear corners": ("RESIZE_BILINEAR", [f(*X), i(11, 13)], "ResizeBilinearOptions", {"alignCorners": True}),
    "nearest": ("RESIZE_NEAREST_NEIGHBOR", [f(*X), i(13, 9)], "ResizeNearestNeighborOptions", {}),
    "nearest centers": (
        "RESIZE_NEAREST_NEIGHBOR", [f(*X), i(9, 3)], "ResizeNearestNeighborOptions", {"halfPixelCenters": True}
    ),
    "nearest corners": (
        "RESIZE_NEAREST_NEIGHBOR", [f(*X), i(9, 5)], "ResizeNearestNeighborOptions", {"alignCorners": True}
    ),
    "depth to space": ("DEPTH_TO_SPACE", [f(2, 3, 5, 12)], "DepthToSpaceOptions", {"blockSize": 2}),
    "space to depth": ("SPACE_TO_DEPTH", [f(2, 6, 4, 3)], "SpaceToDepthOptions", {"blockSize": 2}),
    "space to batch": ("SPACE_TO_BATCH_ND", [f(*X), i(2, 3), i([[1, 1], [0, 2]])], "", {}),
    "space to batch 3d": ("SPACE_TO_BATCH_ND", [f(2, 6, 4), i([2]), i([[1, 1]])], "", {}),
    "batch to space": ("BATCH_TO_SPACE_ND", [f(12, 3, 4, 2), i(2, 3), i([[1, 0], [2, 3]])], "", {}),
    "lrn": (
        "LOCAL_RESPONSE_NORMALIZATION", [f(1, 3, 3, 8)], "LocalResponseNormalizationOptions",
        {"radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.7},
    ),
    "fully connected": ("FULLY_CONNECTED", [f(3, 8), c(5, 8), c(5)], "FullyConnectedOptions", {}),
    "fully connected 4d": (
        "FULLY_CONNECTED", [f(3, 2, 2, 2), c(5, 8)], "FullyConnectedOptions", {"fusedActivationFunction": 1}
    ),
    "fully connected keeps axes": (
        "FULLY_CONNECTED", [f(3, 4, 8), c(5, 8), c(5)], "FullyConnectedOptions", {"keepNumDims": True, "version": 5}
    ),
    "batch matmul": ("BATCH_MATMUL", [f(2, 3, 4, 5), f(2, 3, 5, 6)], "BatchMatMulOptions", {}),
    "batch matmul turned": (
        "BATCH_MATMUL", [f(2, 5, 4), f(2, 6, 5)], "BatchMatMulOptions", {"adjX": True, "adjY": True}
    ),
    "batch matmul constant": ("BATCH_MATMUL", [f(2, 4, 5), c(2, 6, 5)], "BatchMatMulOptions", {"adjY": True}),
    "embedding": ("EMBEDDING_LOOKUP", [np.array([2, 0, 6], np.int32), c(7, 4)], "", {}),
    "gather": ("GATHER", [f(5, 6, 2), i([[4, 0], [1, 1]])], "GatherOptions", {"axis": 1}),
    "gather batch": (
        "GATHER", [f(2, 6, 3), np.array([[4, 0], [1, 1]], np.int32)], "GatherOptions",
        {"axis": 1, "batchDims": 1, "version": 5},
    ),
    "gather nd": ("GATHER_ND", [f(5, 6, 2), i([[4, 0], [1, 1]])], "GatherNdOptions", {}),
    "scatter nd": ("SCATTER_ND", [i([[4], [1], [4]]), f(3, 2), i(6, 2)], "ScatterNdOptions", {}),
    "one hot": (
        "ONE_HOT", [np.array([2, 0, 9], np.int32), i(4), Const(np.float32(5)), Const(np.float32(-1))],
        "OneHotOptions", {"axis": -1},
    ),
    "reshape": ("RESHAPE", [f(*X), i(2, -1, 4)], "", {}),
    "reshape drops one": ("RESHAPE", [f(2, 1, 7, 4), i(2, 7, 4)], "", {}),
    "reshape adds ones": ("RESHAPE", [f(7, 4), i(1, 7, 1, 4)], "", {}),
    "reshape to a number": ("RESHAPE", [f(1, 1), Const(np.zeros(0, np.int32))], "", {}),
    "transpose": ("TRANSPOSE", [f(*X), i(3, 0, 2, 1)], "", {}),
    "concatenation": (
        "CONCATENATION", [f(2, 3, 4), c(2, 5, 4), f(2, 1, 4)], "ConcatenationOptions", {"axis": -2}
    ),
    "split": ("SPLIT", [i(2), f(2, 3, 6)], "SplitOptions", {"numSplits": 3, "out": ["float32"] * 3}),
    "split v": (
        "SPLIT_V", [f(2, 7, 3), i(2, -1, 1), i(1)], "SplitVOptions", {"numSplits": 3, "out": ["float32"] * 3}
    ),
    "slice": ("SLICE", [f(5, 6, 7), i(1, 0, 3), i(2, -1, 4)], "SliceOptions", {"shapes": [[2, 6, 4]]}),
    "slice computed": (
        "SLICE", [f(5, 6, 7), np.array([1, 0, 3], np.int32), np.array([2, -1, 4], np.int32)], "SliceOptions",
        {"shapes": [[2, 6, 4]]},
    ),
    "strided slice": (
        "STRIDED_SLICE", [f(5, 6, 7), i(4, -5, 1), i(0, 6, 7), i(-2, 2, 3)], "StridedSliceOptions", SLICE
    ),
    "strided slice masks": (
        "STRIDED_SLICE", [f(5, 6, 7), i(9, 2, -1), i(9, 9, 0), i(1, -1, 1)], "StridedSliceOptions",
        {**SLICE, "beginMask": 1, "endMask": 3, "shrinkAxisMask": 4},
    ),
    "strided slice dots": (
        "STRIDED_SLICE", [f(3, 4, 5, 6), i(1, 0, 0, 2), i(3, 0, 0, 5), i(1, 1, 1, 1)], "StridedSliceOptions",
        {**SLICE, "ellipsisMask": 2, "newAxisMask": 4},
    ),
    "strided slice computed": (
        "STRIDED_SLICE",
        [f(5, 6, 7), np.array([1, 0, -1], np.int32), np.array([4, 5, 0], np.int32), i(1, 2, 1)],
        "StridedSliceOptions", {**SLICE, "endMask": 2, "shrinkAxisMask": 4},
    ),
    "strided slice offset": (
        "STRIDED_SLICE", [f(5, 6), i(1, 2), i(3, 2), i(1, 1)], "StridedSliceOptions",
        {**SLICE, "offset": True, "version": 8},
    ),
    "pad": ("PAD", [f(2, 3, 4), i([[0, 1], [2, 0], [1, 1]])], "PadOptions", {}),
    "pad with a number": ("PADV2", [f(2, 3, 4), i([[0, 1], [2, 0], [1, 1]]), Const(np.float32(7))], "PadV2Options", {}),
    "pad computed": ("PAD", [f(2, 3), np.array([[0, 1], [2, 0]], np.int32)], "PadOptions", {}),
    "mirror pad": ("MIRROR_PAD", [f(2, 5, 4), i([[0, 0], [2, 3], [1, 1]])], "MirrorPadOptions", {"mode": 0}),
    "mirror pad with edge": ("MIRROR_PAD", [f(2, 5, 4), i([[0, 0], [2, 3], [1, 4]])], "MirrorPadOptions", {"mode": 1}),
    "expand dims": ("EXPAND_DIMS", [f(2, 3), i(-2)], "ExpandDimsOptions", {}),
    "squeeze": ("SQUEEZE", [f(2, 1, 3, 1)], "SqueezeOptions", {"squeezeDims": [-1]}),
    "squeeze all": ("SQUEEZE", [f(2, 1, 3, 1)], "SqueezeOptions", {}),
    "pack": ("PACK", [f(2, 3), c(2, 3)], "PackOptions", {"valuesCount": 2, "axis": 1}),
    "unpack": ("UNPACK", [f(2, 3, 2)], "UnpackOptions", {"num": 3, "axis": 1, "out": ["float32"] * 3}),
    "tile": ("TILE", [f(2, 3), i(2, 3)], "TileOptions", {}),
    "broadcast to": ("BROADCAST_TO", [f(3, 1), i(2, 3, 4)], "BroadcastToOptions", {"version": 2}),
    "fill": ("FILL", [i(2, 3), f()], "FillOptions", {}),
    "range": ("RANGE", [f(low=1, high=1), f(low=6, high=6), f(low=2, high=2)], "RangeOptions", {}),
    "shape": ("SHAPE", [f(*X)], "ShapeOptions", {"outType": 2, "out": ["int32"]}),
    "rank": ("RANK", [f(*X)], "RankOptions", {"out": ["int32"]}),
    "where": ("WHERE", [np.array([[True, False], [True, True]])], "WhereOptions", {"out": ["int64"]}),
    "reverse": ("REVERSE_V2", [f(2, 3, 4), i([1])], "ReverseV2Options", {}),
    "reverse sequence": (
        "REVERSE_SEQUENCE", [f(2, 4, 3), i(2, 3)], "ReverseSequenceOptions", {"seqDim": 1, "batchDim": 0}
    ),
    "cast": ("CAST", [f(2, 3, low=-5, high=5)], "CastOptions", {"inDataType": 0, "outDataType": 2, "out": ["int32"]}),
    "mean": ("MEAN", [f(*X), i(1, -2)], "ReducerOptions", {"keepDims": True}),
    "mean drops": ("MEAN", [f(*X), i(1, 2)], "ReducerOptions", {"keepDims": False}),
    "sum": ("SUM", [f(*X), i([3])], "ReducerOptions", {"keepDims": False}),
    "prod": ("REDUCE_PROD", [f(*X), i(0, 3)], "ReducerOptions", {"keepDims": True}),
    "max": ("REDUCE_MAX", [f(*X), i([1])], "ReducerOptions", {"keepDims": True}),
    "min": ("REDUCE_MIN", [f(*X), i([1])], "ReducerOptions", {"keepDims": False}),
    "any": ("REDUCE_ANY", [f(3, 4) > 1, i([1])], "ReducerOptions", {"keepDims": False, "out": ["bool"]}),
    "all": ("REDUCE_ALL", [f(3, 4) > -1, i([1])], "ReducerOptions", {"keepDims": True, "out": ["bool"]}),
    "argmax": ("ARG_MAX", [f(3, 4, 5), i(1)], "ArgMaxOptions", {"outputType": 2, "out": ["int32"]}),
    "argmin": ("ARG_MIN", [f(3, 4, 5), i(-1)], "ArgMinOptions", {"outputType": 4, "out": ["int64"]}),
    "top k": ("TOPK_V2", [f(3, 9), i(4)], "TopKV2Options", {"out": ["float32", "int32"]}),
    "cumsum": ("CUMSUM", [f(3, 5), i(1)], "CumsumOptions", {"exclusive": True, "reverse": True}),
    "softmax": ("SOFTMAX", [f(3, 4, 5)], "SoftmaxOptions", {"beta": 0.5}),
    "log softmax": ("LOG_SOFTMAX", [f(3, 5)], "LogSoftmaxOptions", {}),
    "l2 norm": ("L2_NORMALIZATION", [f(2, 3, 4, 5)], "L2NormOptions", {}),
    "l2 norm of nothing": ("L2_NORMALIZATION", [np.zeros((2, 3, 4, 5), np.float32)], "L2NormOptions", {}),
    "gelu": ("GELU", [f(30, low=-5, high=5)], "GeluOptions", {"approximate": False}),
    "gelu tanh": ("GELU", [f(30, low=-5, high=5)], "GeluOptions", {"approximate": True}),
    "leaky relu": ("LEAKY_RELU", [f(30)], "LeakyReluOptions", {"alpha": 0.3}),
    "prelu": ("PRELU", [f(*X), c(1, 1, 4)], "", {}),
    "add": ("ADD", [f(*X), c(4)], "AddOptions", {}),
    "add both computed": ("ADD", [f(*X), f(2, 1, 7, 1)], "AddOptions", {"fusedActivationFunction": 1}),
    "add integers": ("ADD", [np.arange(6, dtype=np.int32), i(*range(6))], "AddOptions", {"out": ["int32"]}),
    "sub": ("SUB", [f(*X), c(1, 6, 1, 4)], "SubOptions", {"fusedActivationFunction": 3}),
    "mul": ("MUL", [f(*X), c()], "MulOptions", {"fusedActivationFunction": 2}),
    "div": ("DIV", [f(*X), c(4, low=1, high=2)], "DivOptions", {}),
    "add n": ("ADD_N", [f(2, 3), f(2, 3), f(2, 3)], "AddNOptions", {}),
    "maximum": ("MAXIMUM", [f(2, 3), f(3)], "MaximumMinimumOptions", {}),
    "minimum": ("MINIMUM", [f(2, 3), c(3)], "MaximumMinimumOptions", {}),
    "pow": ("POW", [f(2, 3, low=0.1, high=3), f(3)], "PowOptions", {}),
    "squared difference": ("SQUARED_DIFFERENCE", [f(2, 3), f(3)], "SquaredDifferenceOptions", {}),
    "floor div": ("FLOOR_DIV", [f(20, low=-9, high=9), c(20, low=1, high=3)], "FloorDivOptions", {}),
    "floor div integers": (
        "FLOOR_DIV", [np.arange(-9, 9, dtype=np.int32), i([4] * 9 + [-4] * 9)], "FloorDivOptions", {"out": ["int32"]}
    ),
    "floor mod": ("FLOOR_MOD", [f(20, low=-9, high=9), c(20, low=1, high=3)], "FloorModOptions", {}),
    "floor mod integers": (
        "FLOOR_MOD", [np.arange(-9, 9, dtype=np.int32), i([4] * 9 + [-4] * 9)], "FloorModOptions", {"out": ["int32"]}
    ),
    "select": ("SELECT", [np.array([True, False]), f(2, 3), f(2, 3)], "SelectOptions", {}),
    "select v2": ("SELECT_V2", [f(2, 3) > 0, f(1, 3), c()], "SelectV2Options", {}),
    "zeros like": ("ZEROS_LIKE", [f(2, 3)], "ZerosLikeOptions", {}),
    "logical not": ("LOGICAL_NOT", [f(6) > 0], "", {"out": ["bool"]}),
    "logical and": ("LOGICAL_AND", [f(6) > 0, f(6) > 0], "", {"out": ["bool"]}),
    "logical or": ("LOGICAL_OR", [f(6) > 0, f(6) > 0], "", {"out": ["bool"]}),
    "equal": ("EQUAL", [np.array([1, 2, 3], np.int32), i(1, 0, 3)], "", {"out": ["bool"]}),
    "not equal": ("NOT_EQUAL", [np.array([1, 2, 3], np.int32), i(1, 0, 3)], "", {"out": ["bool"]}),
    "greater": ("GREATER", [f(9), c(9)], "", {"out": ["bool"]}),
    "greater equal": ("GREATER_EQUAL", [f(9), c(9)], "", {"out": ["bool"]}),
    "less": ("LESS", [f(9), c(9)], "", {"out": ["bool"]}),
    "less equal": ("LESS_EQUAL", [f(9), c(9)], "", {"out": ["bool"]}),
    "bitwise xor": ("BITWISE_XOR", [np.array([5, 2], np.int32), i(3, 3)], "BitwiseXorOptions", {"out": ["int32"]}),
}  # fmt: skip
UNARY = (
    "ABS", "CEIL", "COS", "ELU", "FLOOR", "HARD_SWISH", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_0_TO_1",
    "RELU_N1_TO_1", "ROUND", "SIGN", "SIN", "SQUARE", "TANH", "EXP",
)  # fmt: skip
CASES |= {kind.lower(): (kind, [f(40, low=-8, high=8)], "", {}) for kind in UNARY}
CASES |= {kind.lower(): (kind, [f(40, low=0.1, high=8)], "", {}) for kind in ("LOG", "RSQRT", "SQRT")}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str, tmp_path: Path) -> None:
    kind, arguments, table, more = CASES[name]
    compare(*single(tmp_path / "one.tflite", kind, arguments, table, **more))


def test_every_operator_in_the_table_has_a_case() -> None:
    from hasten.frontends.tflite_ops import OPERATORS

    elsewhere = {
        "QUANTIZE", "DEQUANTIZE",  # test_tflite_integers
        "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",  # below
    }  # fmt: skip
    assert {kind for kind, *_ in CASES.values()} | elsewhere == set(OPERATORS)


def recurrent(flat: Flat, units: int, features: int, start_scale: float = 0.5) -> list[int]:
    """Weights 1-4, recurrent weights 5-8, no peepholes, biases 12-15, no projection."""
    w = [flat.const(f(units, features) * start_scale) for _ in range(4)]
    r = [flat.const(f(units, units) * start_scale) for _ in range(4)]
    b = [flat.const(f(units)) for _ in range(4)]
    return [*w, *r, -1, -1, -1, *b, -1, -1]


@pytest.mark.parametrize("time_major", [False, True])
def test_lstm(time_major: bool, tmp_path: Path) -> None:
    flat, (batch, time, features, units) = Flat(), (2, 5, 3, 4)
    shape = (time, batch) if time_major else (batch, time)
    x = flat.input([*shape, features])
    states = [flat.tensor([batch, units], variable=True) for _ in range(2)]
    y = flat.tensor([*shape, units])
    flat.op(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *recurrent(flat, units, features), *states, -1, -1, -1, -1], [y],
        "UnidirectionalSequenceLSTMOptions", timeMajor=time_major, fusedActivationFunction=4,
    )  # fmt: skip
    assert "LSTM" in compare(flat.save(tmp_path / "lstm.tflite"), [f(*shape, features)])


@pytest.mark.parametrize("merged", [False, True])
def test_bidirectional_lstm(merged: bool, tmp_path: Path) -> None:
    # LiteRT 2.3 leaves all but the first sample of merged outputs wrong
    flat, (batch, time, features, units) = Flat(), (1 if merged else 2, 5, 3, 4)
    x = flat.input([batch, time, features])
    states = [flat.tensor([batch, units], variable=True) for _ in range(4)]
    weights = [*recurrent(flat, units, features), *recurrent(flat, units, features)]
    outputs = [flat.tensor([batch, time, 2 * units if merged else units]) for _ in range(1 if merged else 2)]
    flat.op(
        "BIDIRECTIONAL_SEQUENCE_LSTM", [x, *weights, *states, *[-1] * 9], outputs,
        "BidirectionalSequenceLSTMOptions", mergeOutputs=merged, timeMajor=False, fusedActivationFunction=4,
    )  # fmt: skip
    compare(flat.save(tmp_path / "lstm.tflite", *outputs), [f(batch, time, features)])


@pytest.mark.parametrize("activation", [1, 4])
def test_rnn(activation: int, tmp_path: Path) -> None:
    flat, (batch, time, features, units) = Flat(), (2, 5, 3, 4)
    x, state = flat.input([batch, time, features]), flat.tensor([batch, units], variable=True)
    weights = [flat.const(f(units, features)), flat.const(f(units, units) * 0.3), flat.const(f(units))]
    y = flat.tensor([batch, time, units])
    flat.op(
        "UNIDIRECTIONAL_SEQUENCE_RNN", [x, *weights, state], [y],
        "SequenceRNNOptions", timeMajor=False, fusedActivationFunction=activation,
    )  # fmt: skip
    compare(flat.save(tmp_path / "rnn.tflite"), [f(batch, time, features)])
