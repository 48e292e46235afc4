"""Harm by region on a network with one delicate layer, and a search that finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hasten
from hasten.errors import InputError
from hasten.frontends.onnx import load
from hasten.graph import evaluate
from hasten.measure.divergence import mean_divergence
from hasten.passes.quantize import Quantize
from hasten.samples import load_samples
from hasten.search import harm, judge, rounding
from hasten.search.explain import why
from hasten.search.plan import Problem
from hasten.search.workshop import Material, calibration
from hasten.trial import decode, encode
from tests import networks
from tests.engines import mixing

OPTIONS = {"ranges": "minmax", "bias": "kept"}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The network with 24 samples, as builders are told of it."""
    folder = tmp_path_factory.mktemp("wide")
    path = networks.wide_ranged(folder / "wide.onnx", channels=24, size=16)
    x = networks.lit(24, 16, seed=1)
    store = load_samples({"x": x}).spool(folder / "samples", load(path).inputs)
    return {
        "source": str(path),
        "store": str(store.directory),
        "calibrate": list(range(24)),
        "cache": str(folder / "stats.npz"),
    }


def of(material: dict[str, Any]) -> Material:
    return Material.read(**material)


def test_the_survey_names_regions_with_the_sizes_that_cross(material: dict[str, Any]) -> None:
    found = harm.survey(**material, scheme="openvino")
    linear = [region["linear"] for region in found["regions"]]
    assert linear == [("first",), ("delicate",), ("third",), ("fourth",), ("head",)]
    delicate = found["regions"][1]
    assert delicate["reads"] == (("r_first", 0, 24 * 16 * 16),)
    assert found["places"]["relu_third"] == found["places"]["r_third"] == 2


@pytest.mark.parametrize("scheme", ["onnxruntime", "openvino"])
def test_harm_points_at_the_delicate_region(material: dict[str, Any], scheme: str) -> None:
    found = harm.measure(
        **material, scheme=scheme, options=OPTIONS, formats=["int8", "bf16"], outputs=["y"], classes=False, seconds=0.1
    )
    int8 = [h["int8"] for h in found["harm"]]
    assert int(np.argmax(int8)) == 1
    assert int8[1] > 2 * sorted(int8)[-2]
    assert all(0 < h["bf16"] < 1e-2 for h in found["harm"])
    assert found["samples"] >= judge.LEAST


def test_joint_harm_is_that_of_the_network_that_the_pass_writes(material: dict[str, Any]) -> None:
    spared = ["first", "third", "fourth", "head"]
    everything = [*spared, "delicate"]
    nothing, some, all_of_it = harm.joint(
        **material, scheme="openvino", options=OPTIONS, wide="f32", plans=[[], spared, everything],
        outputs=["y"], classes=False, samples=8,
    )  # fmt: skip
    assert nothing == pytest.approx(0, abs=1e-9)
    assert some < all_of_it / 5
    model, context = load(Path(material["source"])), calibration(of(material)).context()
    feeds = list(context.feeds())[:8]
    written = Quantize(scheme="openvino", **OPTIONS)(model, context)  # type: ignore[arg-type]
    wanted, got = ([[r["y"]] for r in evaluate.run(m.graph, feeds)] for m in (model, written))
    assert all_of_it == pytest.approx(mean_divergence(wanted, got), rel=0.05)


def test_bf16_around_int8_adds_its_own_harm(material: dict[str, Any]) -> None:
    alone, with_bf16 = (
        harm.joint(
            **material, scheme="openvino", options=OPTIONS, wide=wide, plans=[["third"]],
            outputs=["y"], classes=False, samples=8,
        )[0]
        for wide in ("f32", "bf16")
    )  # fmt: skip
    assert with_bf16 > alone


def test_the_way_to_round_is_chosen_by_the_answers(material: dict[str, Any]) -> None:
    found = harm.choose_rounding(**material, scheme="openvino", outputs=["y"], classes=False)
    assert found["options"]["ranges"] in found["harm"]
    best = min(found["harm"].values())
    named = found["options"]["ranges"] + (", bias kept" if found["options"]["bias"] == "kept" else "")
    assert found["harm"][named] == best


def test_every_region_is_told_why() -> None:
    problem = Problem(
        np.array([[2.0, 1.0], [1.0, 1.5], [1.0, 0.5]]), np.array([[0.0, 0.01], [0.0, 0.1], [0.0, 0.89]]), (False, True)
    )
    told = [why(problem, (1, 0, 0), g, ("f32", "int8")) for g in range(3)]
    assert told[0] == "saves 25.0% of the time for 1.0% of the harm"
    assert told[1] == "kept f32: int8 is no faster here (1.5 ms against 1 ms)"
    assert told[2] == "kept f32: 89% of the harm, 25% of the time"
    assert why(problem, (1, 1, 0), 1, ("f32", "int8")) == "int8 like its neighbours: converting would cost more"


def searched(folder: Path) -> hasten.Result:
    """The answer for a network whose second layer is delicate."""
    return hasten.optimize(
        networks.wide_ranged(folder / "wide.onnx"),
        {"x": networks.lit(1500, 24, seed=2)},
        max_drop="agree:80%",
        engines=["tests.engines.mixing"],
        served_by="tests.engines.mixing",
        out=folder / "out",
    )


def test_a_search_keeps_the_delicate_layer_in_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "PREPARATIONS", ())
    result = searched(tmp_path)
    assert result.verdict == "met", [(t.candidate.label, t.reason) for t in result.trials]
    [plan] = result.plans
    chosen = {group.name: group.chosen for group in plan.groups}
    assert chosen["delicate"] == "f32"
    assert "int8" in chosen.values()
    everywhere = next(t for t in result.trials if t.status == "rejected" and "regions" not in t.candidate.label)
    assert everywhere.search is not None
    assert everywhere.search.drop > 0.5
    assert "delicate" in result.winner.candidate.steps[-1].options["exclude"]  # type: ignore[operator]
    assert result.speedup > 1.5
    assert len(plan.foretold_ms) == len(plan.measured_ms) >= 2
    assert decode(encode(result), hasten.Result) == result


def test_a_search_prepares_the_network_where_int8_alone_breaks_it(tmp_path: Path) -> None:
    result = searched(tmp_path)
    assert result.verdict == "met", [(t.candidate.label, t.reason) for t in result.trials]
    alone = next(t for t in result.trials if [s.name for s in t.candidate.steps] == ["clean", "quantize"])
    assert alone.status == "rejected"
    names = [step.name for step in result.winner.candidate.steps]
    assert "equalize" in names
    assert names[-1] == "quantize"
    assert result.winner.candidate.steps[-1].options["exclude"] == []


def test_inspect_shows_where_the_time_goes_and_what_int8_would_do(tmp_path: Path) -> None:
    path, data = networks.wide_ranged(tmp_path / "wide.onnx"), {"x": networks.lit(200, 24, seed=2)}
    plan = hasten.inspect(path, data, engines=["tests.engines.mixing"])["regions"]
    harms = {group.name: group.harm["int8"] for group in plan.groups}
    assert max(harms, key=lambda name: harms[name]) == "delicate"
    for group in plan.groups[:-1]:  # the head is no convolution, and costs nothing here
        assert group.ms["f32"] == pytest.approx(mixing.FLOAT_MS)
        assert group.ms["int8"] == pytest.approx(mixing.INT8_MS)
        assert group.chosen == "int8"


def test_inspect_names_an_engine_that_tells_where_its_time_goes(tmp_path: Path) -> None:
    path, data = networks.wide_ranged(tmp_path / "wide.onnx"), {"x": networks.lit(200, 24, seed=2)}
    with pytest.raises(InputError, match="where the time goes cannot be measured") as caught:
        hasten.inspect(path, data, engines=["tests.engines.quick"])
    assert "quick cannot run int8" in caught.value.cause
    assert "engines='onnxruntime'" in caught.value.help
