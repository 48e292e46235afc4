"""TensorFlow Lite both ways: places that count from the end or come twice, transposed convolutions of free size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hasten.errors import InputError
from hasten.export import tflite as export
from hasten.frontends import tflite as door
from hasten.graph import evaluate
from hasten.model import Model
from tests import tiny
from tests.flat import Flat, litert

Array = NDArray[Any]
FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
rng = np.random.default_rng(0)


def net(kind: str, inputs: dict[str, tuple[int, Sequence[int | str]]], weights: dict[str, Array], names: str,
        **attributes: Any) -> Model:  # fmt: skip
    """One node, of operator set 17, that reads ``names`` and writes y."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, names.split(), ["y"], **attributes)], "net",
        [info(n, t, list(s)) for n, (t, s) in inputs.items()], [info("y", FLOAT, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )  # fmt: skip
    return tiny.as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def assert_both_ways(model: Model, feeds: dict[str, Array], tmp_path: Path) -> None:
    """ONNX Runtime, LiteRT on what we write, and ONNX Runtime on what we read back."""
    path = tmp_path / "m.tflite"
    export.write(model.graph, path)
    [wanted] = evaluate.run(model.graph, [feeds])
    [ours] = litert(path, [feeds[s.name] for s in model.inputs])
    np.testing.assert_allclose(ours, wanted["y"], rtol=1e-5, atol=1e-6)
    back = door.load(path)
    [again] = evaluate.run(back.graph, [dict(zip([s.name for s in back.inputs], feeds.values(), strict=True))])
    np.testing.assert_allclose(next(iter(again.values())), wanted["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [INT32, INT64])
def test_one_hot_of_places_from_the_end_and_beyond(kind: int, tmp_path: Path) -> None:
    ends: dict[str, Array] = {
        "depth": np.array(4, helper.tensor_dtype_to_np_dtype(kind)),
        "values": np.array([-1, 2], np.float32),
    }
    model = net("OneHot", {"x": (kind, ["b"])}, ends, "x depth values")
    numbers = np.array([0, 3, -1, -4, 4, -5, 2**31 - 1, -(2**31) + 8], helper.tensor_dtype_to_np_dtype(kind))
    assert_both_ways(model, {"x": numbers}, tmp_path)


def test_one_hot_of_places_that_32_bits_do_not_hold(tmp_path: Path) -> None:
    ends: dict[str, Array] = {"depth": np.array(4, np.int64), "values": np.array([0, 1], np.float32)}
    model = net("OneHot", {"x": (INT64, ["b"])}, ends, "x depth values")
    assert_both_ways(model, {"x": np.array([1 << 32, (1 << 32) + 1, -(1 << 33) + 2, 1])}, tmp_path)


def test_one_hot_of_litert_has_nothing_at_negative_places(tmp_path: Path) -> None:
    flat = Flat()
    x, out = flat.input([6], "int32"), flat.tensor([6, 4])
    ends = [flat.const(np.array(4, np.int32)), flat.const(np.float32(1)), flat.const(np.float32(0))]
    flat.op("ONE_HOT", [x, *ends], [out], "OneHotOptions", axis=-1)
    path, feed = flat.save(tmp_path / "m.tflite", out), np.array([-1, 0, 3, 4, -4, -9], np.int32)
    model = door.load(path)
    [got] = evaluate.run(model.graph, [{model.inputs[0].name: feed}])
    np.testing.assert_array_equal(next(iter(got.values())), litert(path, [feed])[0])


@pytest.mark.parametrize("size", [5, "n"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", [INT32, INT64])
def test_gather_of_places_from_the_end(kind: int, axis: int, size: int | str, tmp_path: Path) -> None:
    shape: list[int | str] = [2, 3]
    shape[axis] = size
    model = net("Gather", {"x": (FLOAT, shape), "i": (kind, ["k"])}, {}, "x i", axis=axis)
    x = rng.standard_normal([5 if d == size else int(d) for d in shape]).astype(np.float32)
    places = np.array([0, -1, 4, -5], helper.tensor_dtype_to_np_dtype(kind))
    assert_both_ways(model, {"x": x, "i": places}, tmp_path)


def test_a_stored_place_from_the_end_of_an_axis_of_free_size(tmp_path: Path) -> None:
    model = net("Gather", {"x": (FLOAT, ["b", "n", 3])}, {"i": np.array(-1)}, "x i", axis=1)
    assert_both_ways(model, {"x": rng.standard_normal((2, 7, 3)).astype(np.float32)}, tmp_path)


@pytest.mark.parametrize("shape", [[4, 5], ["a", "b"]])
def test_gather_nd_of_places_from_the_end(shape: list[int | str], tmp_path: Path) -> None:
    model = net("GatherND", {"x": (FLOAT, shape), "i": (INT64, ["k", 2])}, {}, "x i")
    x = rng.standard_normal((4, 5)).astype(np.float32)
    assert_both_ways(model, {"x": x, "i": np.array([[-1, -5], [3, 4], [-4, 0]])}, tmp_path)


def test_places_that_come_twice_are_written_once() -> None:
    """LiteRT would add them up: places that are computed are refused, and so are stored ones that repeat."""
    zeros = {"x": np.zeros((4, 2), np.float32)}
    computed = net("ScatterND", {"i": (INT64, ["k", 1]), "u": (FLOAT, ["k", 2])}, zeros, "x i u")
    twice = net("ScatterND", {"u": (FLOAT, [3, 2])}, {**zeros, "i": np.array([[1], [3], [-3]])}, "x i u")
    for model in (computed, twice):
        with pytest.raises(InputError, match="adds up"):
            export.encode(model.graph)


def test_places_that_come_once_are_scattered(tmp_path: Path) -> None:
    zeros = {"x": np.zeros((4, 2), np.float32), "i": np.array([[1], [3], [0]])}
    model = net("ScatterND", {"u": (FLOAT, [3, 2])}, zeros, "x i u")
    assert_both_ways(model, {"u": rng.standard_normal((3, 2)).astype(np.float32)}, tmp_path)


def test_places_that_come_twice_are_added_where_that_is_asked_for(tmp_path: Path) -> None:
    inputs: dict[str, tuple[int, Sequence[int | str]]] = {"i": (INT64, ["k", 1]), "u": (FLOAT, ["k", 2])}
    model = net("ScatterND", inputs, {"x": np.zeros((4, 2), np.float32)}, "x i u", reduction="add")
    updates = rng.standard_normal((4, 2)).astype(np.float32)
    assert_both_ways(model, {"i": np.array([[1], [-3], [3], [1]]), "u": updates}, tmp_path)


def transposed(padding: int, kernel: int, stride: int, extra: int, bias: bool, free: bool, tmp_path: Path) -> None:
    """A TRANSPOSE_CONV of free height and width whose output is ``in * stride + extra``, against LiteRT."""
    flat, n = Flat(), None if free else 4
    x = flat.input([None, n, n and 5, 2])
    w = flat.const(rng.standard_normal((3, kernel, kernel, 2)).astype(np.float32))
    b = [flat.const(rng.standard_normal(3).astype(np.float32))] if bias else []
    own, wide, size = (flat.tensor([4], "int32") for _ in range(3))
    flat.op("SHAPE", [x], [own], "ShapeOptions", outType=2)
    flat.op("MUL", [own, flat.const(np.array([1, stride, stride, 0], np.int32))], [wide], "MulOptions")
    flat.op("ADD", [wide, flat.const(np.array([0, extra, extra, 3], np.int32))], [size], "AddOptions")
    out = flat.tensor([None, None, None, 3])
    options = {"strideH": stride, "strideW": stride, "padding": padding}
    flat.op("TRANSPOSE_CONV", [size, w, x, *b], [out], "TransposeConvOptions", **options)
    flat.version(3 if bias else 1)
    path, feed = flat.save(tmp_path / "m.tflite", out), rng.standard_normal((2, 4, 5, 2)).astype(np.float32)
    model = door.load(path)
    [got] = evaluate.run(model.graph, [{model.inputs[0].name: feed}])
    np.testing.assert_allclose(next(iter(got.values())), litert(path, [feed])[0], rtol=1e-5, atol=1e-5)


# padding, kernel, stride, extra: SAME of (in - 1) * stride + 1 to in * stride, VALID of what the kernel reaches
SIZES = [
    (0, 3, 2, 0), (0, 2, 2, 0), (0, 4, 2, 0), (0, 1, 2, 0), (0, 3, 1, 0), (0, 3, 2, -1), (0, 2, 3, -2), (0, 5, 2, -1),
    (1, 3, 2, 1), (1, 2, 2, 0), (1, 4, 2, 2), (1, 1, 2, 0), (1, 3, 1, 2), (1, 3, 2, 2), (1, 2, 3, 0), (1, 1, 2, -1),
]  # fmt: skip


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("padding", "kernel", "stride", "extra"), SIZES)
def test_transposed_convolutions_of_free_size(
    padding: int, kernel: int, stride: int, extra: int, bias: bool, free: bool, tmp_path: Path
) -> None:
    transposed(padding, kernel, stride, extra, bias, free, tmp_path)


def test_one_axis_becomes_a_column(tmp_path: Path) -> None:
    """Flatten at the last axis and behind it: all rows, one number each."""
    model = net("Flatten", {"x": (FLOAT, [4])}, {}, "x")
    assert_both_ways(model, {"x": rng.standard_normal(4).astype(np.float32)}, tmp_path)


@pytest.mark.parametrize("kind", ["Min", "Max", "Sum", "Identity"])
def test_an_output_that_copies_another_is_an_output_of_its_own(kind: str, tmp_path: Path) -> None:
    info = [helper.make_tensor_value_info(n, FLOAT, ["b", 3]) for n in "xab"]
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node(kind, ["a"], ["b"])]
    graph = helper.make_graph(nodes, "net", info[:1], info[1:])
    model = tiny.as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    export.write(model.graph, tmp_path / "m.tflite")
    x = rng.standard_normal((2, 3)).astype(np.float32)
    for answer in litert(tmp_path / "m.tflite", [x]):
        np.testing.assert_array_equal(answer, np.maximum(x, 0))
    assert len(door.load(tmp_path / "m.tflite").outputs) == 2
