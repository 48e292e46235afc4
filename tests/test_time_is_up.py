"""A search whose time is up before narrow arithmetic was tried does not pass for one that found nothing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hasten
from hasten import cli, console
from hasten.search import answer, pace
from hasten.trial import Result
from tests import networks, results

BRISK = "tests.engines.brisk"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A question to the brisk engine, whose good precision is faster and keeps the answers."""
    path = networks.mlp(tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=networks.answers(path, x).argmax(1))
    monkeypatch.setattr(pace, "SIZES", ((1, 24),))
    return {
        "model": path, "data": tmp_path / "data.npz", "max_drop": "5%", "engines": [BRISK], "served_by": BRISK,
        "out": tmp_path / "out",
    }  # fmt: skip


def shown(result: Result) -> str:
    text = io.StringIO()
    console.show(console.result_block(result), text)
    return " ".join(text.getvalue().split())


def test_without_time_nothing_is_decided_and_the_same_command_goes_on(asked: dict[str, Any]) -> None:
    result = hasten.optimize(**asked, seconds=0.01)
    assert (result.verdict, result.out_of_time) == ("undecided", True)
    assert result.untried == (f"good on {BRISK}", f"bad on {BRISK}")
    assert "the search's time was up before it tried good" in result.sentence
    assert "seconds='80s'" in result.sentence
    assert "Verdict: undecided; the time was up before every narrow format was tried (exit code 1)" in shown(result)
    left = asked["out"].with_name(".hasten-run-out")
    assert str(left) in result.warnings[-1]
    assert "the same command with seconds='80s' goes on from there" in result.warnings[-1]
    assert "Run the same command again" in (left / "README.txt").read_text()
    told: list[str] = []
    again = hasten.optimize(**asked, seconds=60, listen=lambda event: told.append(event.text))
    assert any("goes on from an unfinished run" in text and "its own 60 s for the rest" in text for text in told)
    assert (again.looks, again.out_of_time, again.untried) == (1, False, ())
    good = next(t for t in again.trials if t.candidate.settings.get("precision") == "good")
    assert good.search is not None, "what there was no time for is tried now"
    assert not left.exists()


def test_a_firm_verdict_says_in_its_sentence_that_the_time_was_up() -> None:
    late = "nothing faster was found; the search's time was up before everything was tried"
    result = replace(results.nothing_faster(), sentence=late, out_of_time=True)
    assert "the search's time was up before everything was tried" in shown(result)


def test_the_command_line_names_its_option(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--engine", BRISK, "--served-by", BRISK, "--max-drop", "5%", "--time", "0", "--out", str(asked["out"])]
    assert cli.main(["optimize", str(asked["model"]), "--data", str(asked["data"]), *options]) == 1
    assert "more time may find a faster network (--time 80s)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("low", "high", "warns"), [(0.993, 0.999, False), (0.8, 1.2, True), (0.99, 1.15, True)])
def test_the_warning_of_noise_follows_the_noise_that_is_shown(low: float, high: float, warns: bool) -> None:
    """A small difference that is certain is no noise, and a wide interval about one is."""
    noise = replace(results.met().noise, low=low, high=high, speedup=(low + high) / 2)
    assert bool(answer._noise_warning(noise)) == warns
