"""Nothing good is withheld: what is clearly faster and has no certificate is handed over with its estimate."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hasten
from hasten import artefacts, console
from hasten.model import TensorSpec
from hasten.report.build import build
from hasten.result_files import read_manifest, read_report
from hasten.search import estimated, pace, weigh_up
from hasten.search.field import Run
from hasten.trial import Quality, Result, Trial, decode, encode
from tests import networks, result_folders, results
from tests.test_confirm import a_run, labels, quality, timed, trial


def seen(drop: float, chance: float, *, met: bool = False, n: int = 120) -> Quality:
    return replace(quality(drop, drop + 0.01, met=met, n=n), split="confirm", chance=chance)


def finalist(name: str, speedup: float, found: Quality, *, final: bool = True) -> Trial:
    about = (speedup, speedup, speedup) if final else None
    return replace(trial(name, speedup, None), confirm=found, timing=replace(timed(speedup), waking=about))


def a_search(tmp_path: Path, *trials: Trial) -> Run:
    given = replace(trial("given", 1.0, None), candidate=replace(trial("given", 1.0, None).candidate, lossless=True))
    run = a_run(tmp_path, given, *trials)
    run.given = given.candidate.key
    run.evaluator.metric = type("Metric", (), {"needs_labels": True})()
    return run


def test_the_choice_weighs_the_gain_with_the_chance_of_being_inside(tmp_path: Path) -> None:
    run = a_search(
        tmp_path,
        finalist("bold", 3.0, seen(0.009, 0.5)),
        finalist("likely", 2.8, seen(0.0, 0.9)),
        finalist("slow", 1.3, seen(0.0, 0.99)),
        finalist("hardly", 1.05, seen(0.0, 0.99)),
        finalist("over", 9.0, seen(0.011, 0.45)),
        replace(finalist("spoilt", 9.0, seen(0.0, 0.9)), status="rejected"),
    )
    assert labels(run, estimated.clearly_faster(run, run.given)) == ["likely", "bold", "slow"]
    found = estimated.estimated(run, run.given)
    assert found is not None
    assert (found.trial.candidate.label, found.chance, found.needed) == ("likely", 0.9, "labelled")


def test_it_must_be_clearly_faster_than_what_has_a_certificate(tmp_path: Path) -> None:
    certified = finalist("certified", 2.0, seen(0.0, 0.99, met=True))
    run = a_search(tmp_path, certified, finalist("near", 2.1, seen(0.0, 0.9)))
    assert estimated.estimated(run, certified.candidate.key) is None
    run = a_search(tmp_path, certified, finalist("faster", 2.6, seen(0.0, 0.9)))
    found = estimated.estimated(run, certified.candidate.key)
    assert found is not None
    assert found.trial.candidate.label == "faster"


def test_only_the_final_timing_counts(tmp_path: Path) -> None:
    run = a_search(tmp_path, finalist("raced", 3.0, seen(0.0, 0.9), final=False))
    assert estimated.estimated(run, run.given) is None


def test_the_sentence_says_what_it_may_cost_and_what_settles_it(tmp_path: Path) -> None:
    run = a_search(tmp_path, replace(finalist("int8", 3.0, seen(0.003, 0.82)), harm=0.0312))
    found = estimated.estimated(run, run.given)
    assert found is not None
    first, cost, more = found.sentence.split("; ")
    assert first == "int8 is 3.00× faster [2.85, 3.15] and has no certificate"
    assert cost == "estimated drop 0.30 points [-0.70, 1.30] on 120 samples, inside 1% with a chance of 82%"
    assert more == f"about {found.needed_samples:,} more labelled samples would settle it"
    one = a_search(tmp_path, replace(finalist("int8", 3.0, seen(0.0, 0.5, n=1)), harm=0.0312))
    alone = estimated.estimated(one, one.given)
    assert alone is not None
    assert "diverge by 0.0312" in alone.sentence
    assert "points" not in alone.sentence


X = TensorSpec("x", ("N", 16), "float32")


def written(tmp_path: Path, result: Result) -> Path:
    model = networks.mlp(tmp_path / "m.onnx")
    artefacts.write(
        tmp_path / "out", result=result, artefact=model, estimated=model, inputs=(X,), force=False, extra={},
        splits=result_folders.SPLITS, building=tmp_path / "building",
    )  # fmt: skip
    return tmp_path / "out"


@pytest.mark.parametrize("make", [results.estimated, results.met_and_estimated])
def test_the_folder_is_a_whole_result(tmp_path: Path, make: Callable[[], Result]) -> None:
    result = make()
    assert result.estimated is not None
    out = written(tmp_path, result)
    inner = out / "estimated"
    assert {p.name for p in inner.iterdir()} == {p.name for p in out.iterdir()} - {"estimated"}
    manifest = read_manifest(out)
    assert "estimated/manifest.json" in manifest.files
    assert set(manifest.network_files) == {"model.onnx"}
    report = read_report(inner)
    assert (report.verdict, report.winner.candidate) == ("undecided", result.estimated.trial.candidate)
    assert (report.sentence, report.estimated) == (result.estimated.sentence, None)
    assert json.loads((inner / "recipe.json").read_bytes())["label"] == result.estimated.trial.candidate.label
    assert "not_proven" not in (inner / "report.html").read_text()
    (inner / "sessions.json").write_text("what verify found")
    artefacts.write(
        out, result=results.met(), artefact=tmp_path / "m.onnx", inputs=(X,), force=False, extra={},
        splits=result_folders.SPLITS, building=tmp_path / "building",
    )  # fmt: skip
    assert not inner.exists(), "the next result of the folder has no estimate"


def test_a_result_with_an_estimate_is_json_both_ways() -> None:
    result = results.met_and_estimated()
    assert decode(encode(result), Result) == result


@pytest.mark.parametrize("make", [results.estimated, results.met_and_estimated])
def test_the_last_lines_say_where_it_is_and_what_it_may_cost(
    make: Callable[[], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result, stream = make(), io.StringIO()
    assert result.estimated is not None
    console.show(console.result_block(result, Path("out")), stream)
    text = stream.getvalue()
    last = text.splitlines()[-1]
    assert "out/estimated is 3." in last
    assert "faster without a certificate, it may lose up to 1." in last
    assert last.endswith("(exit code 1)") == (result.verdict == "undecided")
    assert "python out/estimated/example.py" in text
    assert result.estimated.sentence in text


@pytest.mark.parametrize("make", [results.estimated, results.met_and_estimated])
def test_the_page_shows_it_beside_the_verdict(make: Callable[[], Result]) -> None:
    page = build(make())
    for part in ("Estimated, no certificate", "Chance of being inside", "To settle it", "★ estimated"):
        assert part in page
    assert "Estimated, no certificate" not in build(results.met())


def test_verify_reads_the_estimate_too(tmp_path: Path) -> None:
    result = results.estimated()
    out = result_folders.write(tmp_path, result=lambda about: replace(
        result, model_sha256=about.model_sha256, machine=about.machine
    ))  # fmt: skip
    checked = hasten.verify(out)
    assert [c["text"] for c in checked["checks"] if c["name"] == "estimate"] == [
        "manifest.json does not list estimated/manifest.json"
    ]
    assert checked["ok"] is False


def _data(n: int, *, labelled: bool) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    x = np.random.default_rng(3).standard_normal((n, 16)).astype(np.float32) * 2
    return x, {"labels": True} if labelled else {}


@pytest.mark.parametrize(("n", "labelled"), [(40, True), (1, False)])
def test_with_few_samples_the_fast_network_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, *, labelled: bool
) -> None:
    monkeypatch.setattr(pace, "SIZES", ((2, 8),))
    path = networks.mlp(tmp_path / "mlp.onnx")
    x, more = _data(n, labelled=labelled)
    data: dict[str, Any] = {"x": x, **({"labels": networks.answers(path, x).argmax(1)} if more else {})}
    np.savez(tmp_path / "data.npz", **data)
    out = tmp_path / "out"
    result = hasten.optimize(
        path, tmp_path / "data.npz", engines=["tests.engines.quick"], served_by="tests.engines.quick", out=out,
        max_drop="1%" if labelled else "agree:99%",
    )  # fmt: skip
    assert result.verdict == "undecided", result.sentence
    found = result.estimated
    assert found is not None
    assert found.trial.candidate.settings["precision"] in (["good"] if n > 1 else ["good", "bad"])
    assert found.needed == ("labelled" if labelled else "unlabelled")
    assert read_report(out).estimated == found
    if not labelled:
        return
    checked = hasten.verify(out / "estimated", trust=True)
    assert checked["ok"], checked


def test_what_leads_is_compared_on_the_test_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven pilot samples are no reason to hand over the boldest candidate: three passes find the one that holds."""
    pilot = replace(quality(0.0, 0.3, n=7), chance=0.55)
    found = {"bold": seen(0.05, 0.1), "bolder": seen(0.02, 0.3), "calm": seen(0.0, 0.8)}
    run = a_search(tmp_path, *(trial(name, speed, pilot) for name, speed in zip(found, (4.0, 3.9, 3.0), strict=True)))
    weighed = []

    def weigh(_: Run, key: str) -> None:
        name = run.trials[key].candidate.label
        weighed.append(name)
        run.update(key, confirm=found[name])

    monkeypatch.setattr(weigh_up, "weigh", weigh)
    assert labels(run, weigh_up.weighed_up(run, run.given)) == ["calm"]
    assert weighed == ["bold", "bolder", "calm"]
    assert labels(run, weigh_up.weighed_up(run, run.given)) == ["calm"]
    assert len(weighed) == 3, "what is known is not compared again"
