"""Networks that end in lists of maps, as the converters of scikit-learn and LightGBM write them by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import hasten
from hasten.frontends.onnx import load
from hasten.search.build import admit
from tests.reject import rejected

CLASSES, FEATURES = 3, 4
ML = "ai.onnx.ml"


def classifier(path: Path, *, text: bool = False, both: bool = False) -> Path:
    """A linear classifier with class numbers or texts; ``both`` hands the tensor out beside the maps."""
    names = {"classlabels_strings": ["a", "b", "c"]} if text else {"classlabels_ints": [0, 1, 2]}
    keys = {"classlabels_strings": ["a", "b", "c"]} if text else {"classlabels_int64s": [0, 1, 2]}
    weights = np.random.default_rng(0).normal(0, 1, CLASSES * FEATURES).tolist()
    nodes = [
        helper.make_node(
            "LinearClassifier", ["X"], ["label", "raw"], domain=ML, coefficients=weights, intercepts=[0.0] * CLASSES,
            post_transform="SOFTMAX", **names,
        ),
        helper.make_node("Identity", ["raw"], ["probabilities"]),
        helper.make_node("ZipMap", ["probabilities"], ["maps"], domain=ML, **keys),
    ]  # fmt: skip
    key, number = (
        TensorProto.STRING if text else TensorProto.INT64,
        helper.make_tensor_type_proto(TensorProto.FLOAT, []),
    )
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(key, number))
    outputs = [helper.make_tensor_value_info("label", key, ["N"]), helper.make_value_info("maps", maps)]
    outputs += [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])] if both else []
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", FEATURES])], outputs
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("text", [False, True])
def test_the_tensor_of_a_zipmap_is_the_output(tmp_path: Path, text: bool) -> None:
    given = classifier(tmp_path / "model.onnx", text=text)
    x = np.random.default_rng(1).normal(0, 1, (5, FEATURES)).astype(np.float32)
    _, maps = onnxruntime.InferenceSession(given).run(None, {"X": x})
    found = admit(str(tmp_path), str(given), str(tmp_path / "stage"))
    assert [o["name"] for o in found["facts"]["outputs"]] == ["label", "probabilities"]
    [told] = found["facts"]["changed"]
    assert "'maps'" in told
    assert "'probabilities'" in told
    assert ("a, b, c" if text else "0, 1, 2") in told
    _, tensor = onnxruntime.InferenceSession(found["staged"]).run(None, {"X": x})
    assert [list(row.values()) for row in maps] == tensor.tolist()
    assert "ZipMap" not in found["facts"]["ops"]
    saved = tmp_path / "saved.onnx"
    load(given).save(saved)
    assert onnxruntime.InferenceSession(saved).run(None, {"X": x})[1].tolist() == tensor.tolist()


def test_maps_beside_their_tensor_leave_one_output(tmp_path: Path) -> None:
    found = load(classifier(tmp_path / "model.onnx", both=True))
    assert [o.name for o in found.outputs] == ["label", "probabilities"]


@pytest.mark.parametrize("text", [False, True])
def test_a_search_of_a_network_with_a_zipmap_has_a_verdict_and_warns(tmp_path: Path, text: bool) -> None:
    given = classifier(tmp_path / "model.onnx", text=text)
    x = np.random.default_rng(1).normal(0, 1, (300, FEATURES)).astype(np.float32)
    found = hasten.optimize(given, {"X": x}, engines="onnxruntime", seconds=1)
    assert found.verdict in ("met", "nothing_faster", "undecided")
    assert not any("changed since" in warning for warning in found.warnings)
    assert any("ZipMap" in warning and "'probabilities'" in warning for warning in found.warnings)


def test_other_lists_and_maps_are_refused_by_name(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    node = helper.make_node("SplitToSequence", ["x"], ["parts"])
    parts = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", [x], [parts]), opset_imports=opset, ir_version=8), path)
    with rejected("'parts'", str(path), "a list", "tensors"):
        hasten.inspect(path)
