"""Without data: made-up inputs, only what changes no arithmetic, and nothing is called certified."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import hasten
from hasten import cli
from hasten.console import result_block, show
from hasten.errors import InputError
from hasten.model import TensorSpec
from hasten.report.build import build
from hasten.samples.made_up import COUNT, STEPS, made_up
from hasten.search import pace
from tests import networks

TUNED = "tests.engines.tuned"


def test_types_and_shapes_are_the_networks_own() -> None:
    inputs = (
        TensorSpec("image", ("N", 3, "H", None), "float32"),
        TensorSpec("ids", (1, "T"), "int64"),
        TensorSpec("attention_mask", (1, "T"), "int64"),
        TensorSpec("bytes", ("N", 8), "uint8"),
        TensorSpec("flag", (), "bool"),
        TensorSpec("half", (2,), "float16"),
        TensorSpec("anything", ("...",), "float64"),
    )
    samples = made_up(inputs, {}, 20)
    assert len(samples) == COUNT
    first = samples[0]
    assert {k: a.shape for k, a in first.items()} == {
        "image": (1, 3, 20, 20), "ids": (1, 20), "attention_mask": (1, 20), "bytes": (1, 8), "flag": (), "half": (2,),
        "anything": (),
    }  # fmt: skip
    assert all(first[s.name].dtype.name == s.dtype for s in inputs)
    assert set(np.unique([s["ids"] for s in samples])) == {0, 1}
    assert all(s["attention_mask"].all() and s["flag"] for s in samples)
    assert not np.array_equal(samples[0]["image"], samples[1]["image"])
    again = made_up(inputs, {}, 20)
    assert np.array_equal(samples[-1]["image"], again[-1]["image"]), "the same every time"


def test_a_network_with_state_gets_sequences() -> None:
    inputs = (TensorSpec("x", (1, 5), "float32"), TensorSpec("h", (1, 4), "float32"), TensorSpec("rate", (), "int64"))
    sample = made_up(inputs, {"h": "h_out"}, 20)[0]
    assert {k: a.shape for k, a in sample.items()} == {"x": (STEPS, 1, 5), "rate": ()}


def test_without_data_only_lossless_is_tried_and_nothing_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pace, "SIZES", ((1, 8),))
    path = networks.mlp(tmp_path / "mlp.onnx")
    out = tmp_path / "out"
    result = hasten.optimize(path, engines=[TUNED], served_by=TUNED, out=out)
    assert result.verdict == "met", result.sentence
    assert not result.certified
    assert result.winner.candidate.settings == {"threads": 1}
    assert all(t.candidate.lossless for t in result.trials)
    assert "the answers are unchanged on 32 made-up inputs" in result.sentence
    assert "no data: lossless only, on made-up inputs" in result.warnings
    assert result.provable.sentence == "no data: lossless only, on made-up inputs"
    assert not (tmp_path / "cache" / "hasten").exists()
    page = build(result)
    assert "Unchanged answers, no test" in page
    assert "Certified" not in page
    assert "Nothing is certified" in page
    show(result_block(result, out))
    assert "✓" not in capsys.readouterr().out
    assert json.loads((out / "manifest.json").read_text())["question"]["made_up"] is True
    checked = hasten.verify(out, trust=True)
    names = ["files", "agreement", "timings", "accuracy", "speed"]
    assert [(c["name"], c["ok"]) for c in checked["checks"]] == [(name, True) for name in names]
    assert checked["answer"] == "verified"
    assert re.search(r"claimed .*; noise ±.* %, ±.* % in the search", checked["checks"][-1]["text"])


def test_the_command_needs_no_data_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = networks.mlp(tmp_path / "mlp.onnx")
    call = ["optimize", str(path), "--engine", TUNED, "--served-by", TUNED, "--out", str(tmp_path / "out")]
    assert cli.main([*call, "--metric", "top1"]) == 3
    assert "error: the metric top1 needs labels and the data has none" in capsys.readouterr().err


def test_a_network_that_takes_nothing_made_up_says_what_to_do(tmp_path: Path) -> None:
    """Two inputs whose free dimensions must differ."""
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "y"], ["xy"], axis=1), helper.make_node("Reshape", ["xy", "seven"], ["z"])],
        "odd",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, None]) for n in "xy"],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [helper.make_tensor("seven", TensorProto.INT64, [1], [7])],
    )
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(InputError, match="no inputs could be made up that the network takes") as told:
        hasten.optimize(path)
    assert "Reshape" in told.value.cause
    assert told.value.help == "give real data: data='samples.npz'"
