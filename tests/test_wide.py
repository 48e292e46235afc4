"""Networks in float16, bfloat16 and float64: computed in float32, with the types of their inputs and outputs kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hasten.frontends.describe import describe
from hasten.frontends.door import computable
from hasten.frontends.onnx import load
from hasten.graph import wide
from hasten.graph.evaluate import run
from hasten.registry import find
from tests.networks import cnn, mlp

TYPES: dict[str, tuple[int, Any]] = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "float64": (TensorProto.DOUBLE, np.float64),
}


def network(path: Path, kind: str, *, branch: bool = False) -> Path:
    """x -> Gemm -> Relu -> Gemm -> y, in ``kind`` throughout; the relu perhaps inside an If whose body has a weight."""
    code, dtype = TYPES[kind]
    proto = onnx.load(mlp(path))
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.elem_type = code
    if branch:
        zero = numpy_helper.from_array(np.zeros(1, dtype), "zero")
        yes = helper.make_graph(
            [helper.make_node("Max", ["h", "zero"], ["inner"])], "yes", [],
            [helper.make_tensor_value_info("inner", code, None)], [zero],
        )  # fmt: skip
        no = helper.make_graph(
            [helper.make_node("Cast", ["h"], ["other"], to=code)], "no", [],
            [helper.make_tensor_value_info("other", code, None)],
        )  # fmt: skip
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "on"))
        proto.graph.node[1].CopyFrom(helper.make_node("If", ["on"], ["r"], then_branch=yes, else_branch=no))
    onnx.save(proto, path)
    return path


def fed(kind: str, rows: int = 8) -> NDArray[Any]:
    return np.random.default_rng(1).standard_normal((rows, 16)).astype(TYPES[kind][1])


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_the_ends_keep_their_types_and_the_answers_differ_by_rounding(tmp_path: Path, kind: str, branch: bool) -> None:
    model = load(network(tmp_path / "net.onnx", kind, branch=branch))
    graph = wide.widened(model.graph)
    assert graph is not None
    assert not wide.other_types(graph)
    [old], [new] = (run(one, [{"x": fed(kind)}]) for one in (model.graph, graph))
    assert new["y"].dtype == old["y"].dtype == TYPES[kind][1]
    near = 2e-2 if kind == "float16" else 1e-5
    np.testing.assert_allclose(new["y"].astype(float), old["y"].astype(float), rtol=near, atol=near)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_each_weight_in_a_narrow_float_is_the_same_number_in_float32(tmp_path: Path, kind: str) -> None:
    model = load(network(tmp_path / "net.onnx", kind))
    graph = wide.widened(model.graph)
    assert graph is not None
    for name, value in model.graph.graph.initializers.items():
        found = graph.graph.initializers[name].const_value
        assert value.const_value is not None
        assert found is not None
        assert found.dtype == ir.DataType.FLOAT
        assert (found.numpy() == value.const_value.numpy().astype(np.float32)).all()


def test_a_network_in_bfloat16_runs_in_both_engines_through_arrays_of_that_type(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", "bfloat16")
    copy, told = computable(path, tmp_path / "copy")
    assert "bfloat16" in told[0]
    assert copy != path
    assert [str(s) for s in load(copy).inputs] == ["x[N,16] bfloat16"]
    x = fed("bfloat16")
    answers = [find("engines", name).load(copy, {}).run({"x": x})[0] for name in ("onnxruntime", "openvino")]
    plain = run(load(mlp(tmp_path / "plain.onnx")).graph, [{"x": x.astype(np.float32)}])[0]["y"]
    for answer in answers:
        assert answer.dtype == np.float32  # the numbers that bfloat16 has
        np.testing.assert_allclose(answer, plain, rtol=0.05, atol=0.05)


def test_float64_masks_and_guards_stay_finite(tmp_path: Path) -> None:
    info = np.finfo(np.float64)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "low"], ["a"]), helper.make_node("Add", ["a", "tiny"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 2])],
        [numpy_helper.from_array(np.full(2, v), n) for n, v in (("low", info.min), ("tiny", info.tiny))],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    made = wide.widened(load(tmp_path / "m.onnx").graph)
    assert made is not None
    [low, tiny] = (made.graph.initializers[n].const_value for n in ("low", "tiny"))
    assert low is not None
    assert tiny is not None
    assert np.isfinite(low.numpy()).all()
    assert (tiny.numpy() > 0).all()


def test_a_float32_network_with_a_little_float64_stays_as_it_is(tmp_path: Path) -> None:
    proto = onnx.load(mlp(tmp_path / "net.onnx"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(10), "scale"))
    onnx.save(proto, tmp_path / "net.onnx")
    assert wide.widened(load(tmp_path / "net.onnx").graph) is None


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_inspect_lists_what_passes_take_and_the_change_of_type(tmp_path: Path, kind: str) -> None:
    facts = describe(load(network(tmp_path / "net.onnx", kind)))
    assert "int8 for 2 Gemm" in facts["ideas"]
    assert kind in facts["changed"][0]
    assert "keep their types" in facts["changed"][0]


def test_float64_that_the_runtime_lacks_kernels_for_is_computed_in_float32(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", "float64")
    assert computable(path, tmp_path / "copy") == (path, [])
    proto = onnx.load(cnn(tmp_path / "cnn.onnx", depth=1, channels=4, size=8))
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(proto, path)
    copy, told = computable(path, tmp_path / "copy")
    assert "float64, in which ONNX Runtime cannot compute" in told[0]
    answer = find("engines", "onnxruntime").load(copy, {}).run({"x": np.ones((1, 3, 8, 8))})[0]
    assert answer.dtype == np.float64
