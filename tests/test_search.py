"""The whole search on small networks with engines whose behaviour is known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

import hasten
from hasten import reproduce
from hasten.errors import InputError, UsageError
from hasten.looks import open_ledger
from hasten.measure.proportions import tango_upper
from hasten.model import TensorSpec
from hasten.protocols import Event
from hasten.samples import load_samples
from hasten.search import narrow
from tests import networks

N = 700


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A network and samples on which it is right nine times in ten."""
    path = networks.mlp(tmp_path_factory.mktemp("net") / "mlp.onnx")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((N, 16)).astype(np.float32) * 2
    labels = networks.answers(path, x).argmax(1)
    wrong = rng.random(N) < 0.1
    labels[wrong] = (labels[wrong] + 1) % 10
    return path, {"x": x, "labels": labels}


def test_the_fastest_inside_the_budget_wins_and_the_others_say_why(
    network: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, data = network
    heard: list[Event] = []
    result = hasten.optimize(
        path,
        data,
        max_drop="2%",
        engines=["tests.engines.quick", "tests.engines.crashing"],
        served_by="tests.engines.quick",
        out=tmp_path / "out",
        listen=heard.append,
    )
    assert result.verdict == "met", result.sentence
    assert result.winner.candidate.settings["precision"] == "good"
    assert 1.3 < result.speedup < 3
    assert result.winner.confirm is not None
    assert result.winner.confirm.split == "confirm"
    assert result.winner.confirm.upper <= 0.02
    fates = {t.candidate.label: t for t in result.trials}
    assert fates["tests.engines.quick bad"].status == "rejected"
    assert "lost" in fates["tests.engines.quick bad"].reason
    assert fates["tests.engines.crashing float32"].status == "crashed"
    assert "SIGSEGV" in fates["tests.engines.crashing float32"].reason
    assert all(t.reason for t in result.trials if t.status != "ok")
    assert [e for e in heard if e.kind == "best"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["question"]["model"] == str(path)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}, "the working folder is gone"


def test_nothing_faster_is_an_answer(network: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, data = network
    asked: dict[str, Any] = {"engines": ["tests.engines.crashing"], "served_by": "tests.engines.quick"}
    result = hasten.optimize(path, data, out=tmp_path / "out", **asked)
    told: list[str] = []
    checked = hasten.verify(tmp_path / "out", data, trust=True, listen=lambda event: told.append(event.text))
    assert checked["ok"], checked
    assert [c["text"] for c in checked["checks"] if c["name"] == "speed"] == [reproduce.AS_GIVEN]
    assert not [text for text in told if "against itself" in text], "the network is not timed against itself"
    assert result.verdict == "nothing_faster"
    assert result.winner.candidate.steps == ()
    assert not result.certified


@pytest.mark.slow
def test_a_real_search_and_its_verification(tmp_path: Path) -> None:
    path = networks.cnn(tmp_path / "cnn.onnx", channels=64, depth=4, size=32)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((600, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=networks.answers(path, x).argmax(1))
    result = hasten.optimize(path, tmp_path / "data.npz", max_drop="5%", out=tmp_path / "out")
    assert result.verdict in ("met", "undecided", "nothing_faster")
    checked = hasten.verify(tmp_path / "out")
    assert checked["checks"][0]["ok"]
    again = hasten.apply(tmp_path / "out" / "recipe.json", path, tmp_path / "data.npz", out=tmp_path / "again")
    assert again["difference"] < 0.05
    rows = hasten.bench([path, tmp_path / "out"], tmp_path / "data.npz", pairs=8)
    assert [row["pairs"] for row in rows] == [8, 8]
    changed = next((tmp_path / "out").glob("model.*"))
    changed.write_bytes(changed.read_bytes()[:-1])
    assert hasten.verify(tmp_path / "out")["ok"] is False


STEPS = """<ir_version: 10, opset_import: ["" : 17]>
steps (float[1,3] x, float[1,2] h) => (float[1,3] y, float[1,2] hn) { y = Relu(x)  hn = Relu(h) }"""


def test_a_network_with_state_is_timed_step_by_step(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(STEPS), tmp_path / "steps.onnx")
    data = {"x": np.ones((4, 5, 1, 3), np.float32)}
    rows = hasten.bench([tmp_path / "steps.onnx"] * 2, data, pairs=8, state={"h": "hn"})
    assert [row["pairs"] for row in rows] == [8, 8]


@pytest.mark.parametrize("verb", [hasten.optimize, hasten.bench, hasten.inspect])
def test_a_state_that_nobody_feeds_is_told_how_to_be_fed_back(tmp_path: Path, verb: Callable[..., object]) -> None:
    path = tmp_path / "steps.onnx"
    onnx.save(onnx.parser.parse_model(STEPS), path)
    with pytest.raises(InputError, match="no array for input 'h'") as told:
        verb([path] if verb is hasten.bench else path, {"x": np.ones((40, 5, 1, 3), np.float32)})
    assert told.value.help.endswith("; optimize and bench feed a state back: state={'h': 'hn'}")


@pytest.mark.parametrize("seconds", [0.0, 9.0])
def test_a_short_time_ends_the_search_and_never_the_result(
    network: tuple[Path, dict[str, Any]], seconds: float
) -> None:
    path, data = network
    result = hasten.optimize(path, data, max_drop="2%", seconds=seconds)
    assert result.winner.status == "ok"
    if seconds == 0:
        assert any("time was up" in t.reason for t in result.trials)
    assert all(t.reason for t in result.trials if t.status != "ok")


def test_weights_alone_are_narrowed_in_networks_that_outgrow_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = networks.mlp(tmp_path / "mlp.onnx", inputs=64)
    x = np.random.default_rng(2).standard_normal((N, 64)).astype(np.float32)

    def labels() -> dict[str, str]:
        result = hasten.optimize(path, {"x": x}, max_drop="agree:90%", engines=["onnxruntime"])
        return {t.candidate.label: t.reason for t in result.trials}

    assert not any("bit weights" in label for label in labels())
    monkeypatch.setattr(narrow, "HEAVY", 0)
    tried = labels()
    assert {"onnxruntime 8-bit weights", "onnxruntime 4-bit weights"} <= set(tried)
    assert not any("built" in reason or "refuses" in reason for reason in tried.values()), tried


def test_labels_that_contradict_the_network_are_refused_and_guessing_is_told(
    network: tuple[Path, dict[str, Any]],
) -> None:
    path, data = network
    with pytest.raises(InputError, match="worse than a constant answer") as told:
        hasten.optimize(path, {**data, "labels": (data["labels"] + 3) % 10})
    assert "preprocessing" in told.value.help
    shuffled = {**data, "labels": np.random.default_rng(3).permutation(data["labels"])}
    result = hasten.optimize(path, shuffled, engines="tests.engines.quick", served_by="tests.engines.quick")
    assert any("chance level" in text for text in result.warnings)


def test_a_metric_that_needs_labels_says_so(network: tuple[Path, dict[str, Any]]) -> None:
    path, data = network
    with pytest.raises(InputError, match="needs labels"):
        hasten.optimize(path, {"x": data["x"]}, metric="top1")


def test_an_unknown_output_lists_the_known(network: tuple[Path, dict[str, Any]]) -> None:
    path, data = network
    with pytest.raises(InputError, match="no output 'logits'") as told:
        hasten.optimize(path, data, output="logits")
    assert "y" in told.value.help


def test_a_recipe_that_is_none(tmp_path: Path, network: tuple[Path, dict[str, Any]]) -> None:
    path, data = network
    (tmp_path / "recipe.json").write_text('{"steps": 3}')
    with pytest.raises(UsageError, match="is not a recipe"):
        hasten.apply(tmp_path / "recipe.json", path, data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bench_of_what_is_not_there(tmp_path: Path, network: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="there is no"):
        hasten.bench([tmp_path / "nowhere.onnx"], network[1])


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_an_interrupt_keeps_the_best_so_far(network: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, data = network
    np.savez(tmp_path / "data.npz", **data)
    script = (
        "import os, signal, sys, hasten\n"
        "def listen(event):\n"
        "    if event.kind == 'stage' and event.stage.startswith('3/3'):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "model, samples, out = sys.argv[1:]\n"
        "engine = 'tests.engines.quick'\n"
        "result = hasten.optimize(model, samples, max_drop='2%', engines=[engine], served_by=engine, out=out, "
        "listen=listen)\n"
        "print(result.verdict)\n"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "data.npz"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "met"
    assert (tmp_path / "out" / "manifest.json").exists()
    assert not list(tmp_path.glob(".hasten-run-*"))


def test_used_samples_are_tested_harder_and_the_same_question_does_not_use_them(
    network: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, data = network
    inputs = (TensorSpec("x", ("N", 16), "float32"),)
    digest = load_samples(data).spool(tmp_path / "spool", inputs).digest
    for number in (1, 2):
        assert open_ledger(digest, f"another question, {number}").begin(["some candidate"]) == number
    heard: list[str] = []
    engine = "tests.engines.brisk"
    result = hasten.optimize(
        path, data, max_drop="5%", engines=[engine], served_by=engine, out=tmp_path / "out",
        listen=lambda event: heard.append(event.text),
    )  # fmt: skip
    assert (result.verdict, result.looks, result.data_sha256) == ("met", 3, digest)
    assert any("look 3 at these samples: tested at 99.85%" in text for text in heard)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["looks"] == 3
    seen = result.winner.confirm
    assert seen is not None
    assert seen.flips == 0
    level = 0.8 * 0.01 * 6 / (2 * np.pi) ** 2
    assert seen.upper == pytest.approx(tango_upper(0, 0, seen.n, level))
    mine = open_ledger(digest, "yet another").looks[2]
    assert [key for key, test in mine.tests.items() if test.passed] == [result.winner.candidate.key]
    assert open_ledger(digest, mine.question).number([result.winner.candidate.key]) == 3
