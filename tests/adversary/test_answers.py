"""Engines that answer wrongly where no score looks: every output counts, on every sample, NaN included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import hasten
from hasten.search import first_timing
from hasten.trial import Result, Trial
from tests.engines import feigning

THREE = """<ir_version: 8, opset_import: ["" : 17]>
three (float[N,8] x) => (float[N,4] y, float[N,4] z, int64[N] found)
{
  y = MatMul(x, w)
  low = Constant<value_float = 0.7>()
  z = Mul(y, low)
  k = Constant<value_ints = [0]>()
  l = Constant<value_ints = [1]>()
  one = Constant<value_ints = [1]>()
  first = Slice(y, k, l, one)
  flat = Squeeze(first, one)
  zero = Constant<value_float = 0.0>()
  yes = Greater(flat, zero)
  found = Cast<to = 7>(yes)
}"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A network with scores, a vector and a label, and 700 samples that it answers rightly."""
    path, rng = tmp_path_factory.mktemp("three") / "three.onnx", np.random.default_rng(6)
    model = onnx.parser.parse_model(THREE)
    w = rng.standard_normal((8, 4)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(model, path)
    x = rng.standard_normal((700, 8)).astype(np.float32)
    return path, {"x": x, "labels": (x @ w).argmax(1)}


@pytest.fixture(scope="module")
def result(network: tuple[Path, dict[str, Any]]) -> Result:
    """What a search with the lying engine comes to; a call takes microseconds, so that no clock may put one out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_timing.Span, "behind", lambda *_: False)
        return hasten.optimize(
            *network, output="y", metric="top1", max_drop="2%", seconds=600,
            served_by="tests.engines.brisk", engines=["tests.engines.feigning"],
        )  # fmt: skip


def of(result: Result, **settings: str) -> Trial:
    """The trial with these settings."""
    return next(t for t in result.trials if settings.items() <= t.candidate.settings.items())


@pytest.mark.parametrize("lie", [lie for lie in feigning.LIES if lie != "wrong in the end"])
def test_a_setting_that_calls_itself_lossless_and_lies_is_caught_at_the_gate(result: Result, lie: str) -> None:
    trial = next(t for t in result.trials if t.candidate.settings == {"lie": lie})
    assert trial.status in ("rejected", "unsupported", "crashed"), trial
    assert trial.confirm is None, "before the proof"
    assert "not lossless: output" in trial.reason or lie == "one output fewer"


@pytest.mark.parametrize("spoiled", [lie for lie in feigning.SPOILS if lie != "wrong in the end"])
def test_a_narrow_network_may_not_spoil_what_the_metric_does_not_read(result: Result, spoiled: str) -> None:
    trial = of(result, precision=spoiled)
    assert trial.status == "rejected"
    name = "found" if spoiled == "a constant label" else "z"
    assert trial.reason.startswith(f"output {name}"), trial.reason


def test_what_goes_wrong_only_later_is_caught_by_the_proof(result: Result) -> None:
    for settings in ({"lie": "wrong in the end"}, {"precision": "wrong in the end"}):
        trial = of(result, **settings)
        assert trial.status == "rejected" or trial.status == "slower", trial
        assert not (trial.confirm and trial.confirm.met)


def test_no_liar_wins(result: Result) -> None:
    assert result.winner.candidate.engine == "tests.engines.brisk", result.sentence
    assert not result.certified
