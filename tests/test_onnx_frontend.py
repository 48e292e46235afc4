"""ONNX files that are sound: what is read off them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.frontends.onnx import IR_VERSIONS, OPSETS, describe, load
from tests.reject import rejected


def value(name: str, *dims: int | str | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def write(folder: Path, graph: onnx.GraphProto, opset: int = 17, ir_version: int = 10) -> Path:
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def network() -> onnx.GraphProto:
    """Conv 3x3 (3 -> 8) on 10x10, then Gemm to 5."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    weights = [
        numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w"),
        numpy_helper.from_array(np.ones((5, 512), np.float32), "g"),
    ]
    inputs = [value("x", "N", 3, 10, 10), value("w", 8, 3, 3, 3)]  # old files list initialisers as inputs
    return helper.make_graph(nodes, "g", inputs, [value("y", "N", 5)], weights)


def test_specs_leave_initialisers_out(tmp_path: Path) -> None:
    model = load(write(tmp_path, network()))
    assert [str(s) for s in model.inputs] == ["x[N,3,10,10] float32"]
    assert [str(s) for s in model.outputs] == ["y[N,5] float32"]
    assert model.origin.format == "onnx"


def test_description_counts_what_a_hand_counts(tmp_path: Path) -> None:
    facts = describe(load(write(tmp_path, network())))
    assert facts["parameters"] == 8 * 27 + 5 * 512
    assert facts["weight_bytes"] == 4 * facts["parameters"]
    assert facts["macs"] == 8 * 8 * 8 * 27 + 5 * 512
    assert facts["ops"] == {"Conv": 1, "Flatten": 1, "Gemm": 1}
    assert facts["dynamic"] == ["x: axis 0 (N)"]
    assert (facts["opset"], facts["quantized"], facts["control_flow"], facts["custom_ops"]) == (17, [], [], [])
    assert facts["ideas"][0] == "int8 for 1 Conv, 1 Gemm"


def test_odd_dimensions_mean_any(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value("x", -1, 3, "?", 0, None, "W")], [value("y")])
    assert load(write(tmp_path, graph)).inputs[0].shape == (None, 3, None, None, None, "W")


def test_undeclared_rank_text_and_sequences(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    free = value("x")
    free.type.tensor_type.ClearField("shape")
    graph = helper.make_graph([node], "g", [free], [value("y")])
    assert load(write(tmp_path, graph)).inputs[0].shape == ("...",)
    graph = helper.make_graph([node], "g", [value("x", 1, kind=TensorProto.STRING)], [value("y")])
    assert load(write(tmp_path, graph)).inputs[0].dtype == "object"
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1])
    with rejected("'x'", "SequenceType", "only tensors"):
        load(write(tmp_path, helper.make_graph([node], "g", [sequence], [value("y")])))


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[1] + 1, 99])
def test_opset_out_of_range(tmp_path: Path, opset: int) -> None:
    with rejected(f"opset {opset}", f"{OPSETS[0]} to {OPSETS[1]}"):
        load(write(tmp_path, network(), opset=opset))


def test_ir_version_out_of_range(tmp_path: Path) -> None:
    with rejected("IR version 99", f"{IR_VERSIONS[0]} to {IR_VERSIONS[1]}"):
        load(write(tmp_path, network(), ir_version=99))


def test_quantized_random_and_branching_networks_are_told(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("RandomNormal", [], ["o"], shape=[2])], "b", [], [value("o", 2)])
    nodes = [
        helper.make_node("If", ["c"], ["r"], then_branch=branch, else_branch=branch),
        helper.make_node("QuantizeLinear", ["r", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "s")
    graph = helper.make_graph(nodes, "g", [value("c", kind=TensorProto.BOOL)], [value("y", 2)], [scale])
    facts = describe(load(write(tmp_path, graph)))
    assert facts["quantized"] == ["DequantizeLinear", "QuantizeLinear"]
    assert (facts["control_flow"], facts["macs"]) == (["If"], None)
    assert [idea.split(" ")[0] for idea in facts["ideas"]] == ["already", "control", "random"]


def test_weights_in_a_file_of_their_own_are_copied_with_the_network(tmp_path: Path) -> None:
    import onnxruntime as ort

    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    target.mkdir()
    proto = onnx.load(write(tmp_path, network()))
    onnx.save(proto, source / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=16)
    model = load(source / "m.onnx")
    size = model.save(target / "n.onnx")
    assert size == sum(path.stat().st_size for path in target.iterdir())
    x = np.ones((1, 3, 10, 10), np.float32)
    [got] = ort.InferenceSession(target / "n.onnx").run(None, {"x": x})
    np.testing.assert_allclose(got, np.full((1, 5), 27 * 512), rtol=1e-6)
