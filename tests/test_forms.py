"""Forms of a network, who serves which, and networks that are quantized when they come in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

import hasten
from hasten import compare, registry
from hasten.errors import InputError, UsageError
from hasten.extras import pip
from hasten.passes.dynamic import QuantizeDynamic
from hasten.passes.quantize import Quantize
from hasten.protocols import NotApplicable
from hasten.search import conversion, forms
from hasten.search.build import inspect
from hasten.search.enter import enter
from hasten.trial import Candidate, Step
from tests import networks, tiny
from tests.reject import rejected

BOTH = SimpleNamespace(name="both", takes=("mine", "onnx"), baked=("precision",), writes="both")
OWN = SimpleNamespace(name="own", takes=("mine",), writes="own")
PLAIN = SimpleNamespace(name="plain")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {e.name: e for e in (BOTH, OWN, PLAIN)}
    monkeypatch.setattr(registry, "find", lambda group, name: found[name])
    return found


def run(given: str = "", **at_hand: Path) -> Any:
    origin = SimpleNamespace(format="mine", settings={"signature": "s"})
    return SimpleNamespace(forms=at_hand, origin=origin, given=given)


def test_an_engine_serves_the_first_form_that_it_takes_and_passes_need_the_graph(engines: dict[str, Any]) -> None:
    at_hand = ("onnx", "mine")
    step = (Step(name="clean"),)
    assert forms.form_of("both", (), at_hand) == "mine"
    assert forms.form_of("both", step, at_hand) == "onnx"
    assert forms.form_of("own", step, at_hand) is None
    assert forms.form_of("plain", (), at_hand) == "onnx"
    assert forms.form_of("plain", (), ("mine",)) is None


def test_candidates_are_fitted_to_the_forms(engines: dict[str, Any]) -> None:
    clean, int8 = (Step(name="clean"),), (Step(name="clean"), Step(name="quantize"))
    wanted = [Candidate(steps=s, engine=e) for e in ("both", "own", "plain") for s in (clean, int8)]
    found = forms.fitting(wanted, run(onnx=Path("o"), mine=Path("m")))
    assert [(c.engine, len(c.steps)) for c in found] == [
        ("both", 1), ("both", 2), ("own", 0), ("plain", 1), ("plain", 2),
    ]  # fmt: skip
    own = found[2]
    assert own.settings == {"signature": "s"}, "what its owner tells it"
    assert own.key not in [c.key for c in forms.fitting(wanted, run(own.key, onnx=Path("o"), mine=Path("m")))]
    assert [c.engine for c in forms.fitting(wanted, run(onnx=Path("o")))] == ["both", "both", "plain", "plain"]


def test_settings_that_go_into_the_file_part_the_artefacts(engines: dict[str, Any]) -> None:
    one = Candidate(steps=(), engine="both", settings={"precision": "bf16", "threads": 1})
    assert forms.baked(one) == {"precision": "bf16"}
    assert forms.baked(Candidate(steps=(), engine="plain", settings={"precision": "bf16"})) == {}


def test_the_search_keeps_to_what_can_be_deployed(engines: dict[str, Any]) -> None:
    assert list(forms.of_format(engines, "own")) == ["own"]
    assert forms.of_format(engines, None) == engines
    with pytest.raises(UsageError, match="no engine here writes the format 'plian'") as told:
        forms.of_format(engines, "plian")
    assert "did you mean 'plain'?" in told.value.help
    able, missed = forms.serving(engines, ["own: not installed", "plain: broken"], ["onnx"], None)
    assert set(able) == {"both", "plain"}
    assert missed == ["plain: broken"], "nobody is told of engines that could not serve this network anyway"
    with rejected("none of these engines can serve the network", "own takes mine", kind=UsageError):
        forms.serving({"own": OWN}, [], ["onnx"], ["own"])


def test_an_onnx_network_and_an_engine_for_others(tmp_path: Path) -> None:
    if registry.find("engines", "torch").missing():
        with pytest.raises(hasten.EnvironmentFault) as told:
            hasten.optimize(networks.mlp(tmp_path / "m.onnx"), {"x": np.zeros((9, 16))}, engines=["torch"])
        assert pip("torch") in told.value.cause
    with pytest.raises(UsageError, match=r"keras cannot serve m\.onnx") as refused:
        hasten.optimize(
            networks.mlp(tmp_path / "m.onnx"),
            {"x": np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)},
            served_by="keras",
        )
    assert "at hand as onnx" in refused.value.cause


def test_a_format_alone_restricts_the_search(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((120, 16)).astype(np.float32)
    path = networks.mlp(tmp_path / "m.onnx")
    labels = networks.answers(path, x).argmax(1)
    result = hasten.optimize(path, {"x": x, "labels": labels}, format="openvino", seconds=0)
    assert {t.candidate.engine for t in result.trials[1:]} == {"openvino"}


def test_a_confident_no_is_no_mistake_of_a_conversion() -> None:
    """As a Keras network with one sigmoid: all 32 samples are far from it, and its ONNX differs by 1e-7."""
    found = {"p": compare.compare(np.array([1e-9]), np.array([1e-7])), "y": compare.compare(np.ones(1), np.ones(1))}
    assert compare.first_problem(found, compare.CONVERTED)
    assert not compare.first_problem(conversion.with_range(found, {"p"}), compare.CONVERTED)


def test_outputs_of_a_sigmoid_are_known_by_their_graph(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x) => (float[N,4] p, float[M,1] q, float[N,4] y, float[N,8] z) {
        s = Sigmoid(x) p = Softmax<axis = -1>(x) shape = Constant<value_ints = [-1, 1]>() q = Reshape(s, shape)
        y = Mul(s, p) z = Concat<axis = 1>(s, x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert conversion.bounded_outputs(str(tmp_path / "m.onnx")) == ["q"]


def nbits(path: Path) -> Path:
    """x -> MatMulNBits -> y: weights of four bits."""
    packed = np.random.default_rng(0).integers(0, 255, (8, 1, 16), np.uint8)
    nodes = [
        helper.make_node(
            "MatMulNBits", ["x", "w", "s"], ["y"], name="four", domain="com.microsoft", K=32, N=8, bits=4, block_size=32
        )
    ]
    weights = [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(np.full(8, 0.1, np.float32), "s")]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["n", 32])], [info("y", TensorProto.FLOAT, ["n", 8])], weights
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def qoperator(path: Path) -> Path:
    """x -> QuantizeLinear -> QLinearMatMul -> DequantizeLinear -> y."""
    constants = {
        "s": np.float32(0.1), "z": np.uint8(128), "w": np.ones((16, 4), np.int8), "ws": np.float32(0.1),
        "wz": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "s", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    return networks.save(path, nodes, {k: np.asarray(v) for k, v in constants.items()}, ["N", 16])


@pytest.mark.parametrize("make", [nbits, qoperator])
def test_what_is_quantized_is_not_quantized_again(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "q.onnx")
    assert inspect(str(path))["quantized"]
    model = tiny.as_model(onnx.load(path))
    for step in (Quantize(), QuantizeDynamic()):
        with pytest.raises(NotApplicable, match="the network is quantized already"):
            step(model, tiny.context([]))


def test_a_search_on_a_quantized_network_tries_what_is_lossless(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32)
    result = hasten.optimize(nbits(tmp_path / "q.onnx"), {"x": x}, max_drop="agree:90%", engines=["onnxruntime"])
    tried = [t for t in result.trials if any("quantize" in s.name for s in t.candidate.steps)]
    assert tried
    assert all(t.status == "skipped" and "quantized already" in t.reason for t in tried)


def test_a_network_that_does_not_enter(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("hello, this is text")
    with pytest.raises(InputError, match="is a text file"):
        enter(tmp_path / "m.txt", tmp_path / "run")
