"""Which mixes are not planned, since what is there already cannot be beaten by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hasten.protocols import Event
from hasten.search import grounds, mixed, narrow
from hasten.search.field import Run
from hasten.search.mixes import Ground
from hasten.search.plan import Plan, Problem, fastest
from hasten.search.rounding import Rounding
from hasten.search.space import CLEAN
from hasten.search.times import Spent
from hasten.trial import Candidate, Quality, Step, Trial
from tests.test_confirm import a_run, quality, timed, trial

CERTAIN, EVEN = quality(0.0, 0.004, flips=0), quality(0.006, 0.02, flips=5)


def int8(precision: str, speedup: float, found: Quality | None, excluded: str = "") -> Trial:
    """A trial of static int8 on OpenVINO beside a float."""
    steps = (Step(name="clean"), Step(name="quantize", options={"exclude": [excluded]}))
    candidate = Candidate(
        steps=steps, engine="openvino", settings={"precision": precision}, label=f"int8 + {precision}"
    )
    return replace(trial("any", speedup, found), candidate=candidate)


def on(narrow: Trial, **changes: Any) -> Ground:
    """The ground that ends at ``narrow``."""
    c = replace(narrow.candidate, **changes)
    return Ground(c.engine, "openvino", dict(c.settings), c, c, Rounding({}), (c, c))


def heard(run: Run) -> list[str]:
    """What the run says from now on."""
    texts: list[str] = []

    def listen(event: Event) -> None:
        texts.append(event.text)

    run.listen = listen
    return texts


def test_mixes_with_float32_are_not_planned_beside_a_faster_float_that_holds(tmp_path: Path) -> None:
    plain, mixed = int8("f32", 2.0, EVEN), int8("bf16", 2.2, CERTAIN, "delicate")
    run = a_run(tmp_path, plain, mixed)
    texts = heard(run)
    assert grounds.outclassed(run, on(plain))
    assert texts == run.unplanned == ["openvino int8 with f32 was not planned: int8 + bf16 is all but certain to pass"]


@pytest.mark.parametrize(
    ("rival", "ground"),
    [
        (int8("bf16", 2.2, EVEN), {}),  # may fail the proof
        (replace(int8("bf16", 2.2, CERTAIN), status="slower"), {}),
        (int8("f32", 2.2, CERTAIN), {}),  # no other float
        (int8("bf16", 2.2, CERTAIN), {"engine": "onnxruntime"}),
        (int8("bf16", 2.2, CERTAIN), {"settings": {"precision": "bf16"}}),
        (int8("bf16", 2.2, CERTAIN), {"steps": (Step(name="clean"), Step(name="equalize"), Step(name="quantize"))}),
    ],
)
def test_they_are_planned_otherwise(tmp_path: Path, rival: Trial, ground: dict[str, Any]) -> None:
    run = a_run(tmp_path, rival)
    texts = heard(run)
    assert not grounds.outclassed(run, on(int8("f32", 2.0, EVEN), **ground))
    assert texts == []


@pytest.mark.parametrize(("gained", "beaten"), [(1.0, True), (1.05, True), (1.2, False)])
def test_what_cannot_reach_what_holds_is_not_planned(tmp_path: Path, gained: float, beaten: bool) -> None:
    plain, best = int8("f32", 2.0, EVEN), int8("bf16", 2.2, CERTAIN)
    run = a_run(tmp_path, plain, best)
    texts = heard(run)
    assert grounds.out_of_reach(run, on(plain), gained) == beaten
    told = (
        f"openvino int8 with f32 would be {2 * gained:.2f}× at best, and 2.20× is all but certain to pass: not planned"
    )
    assert texts == ([told] if beaten else [])


def test_what_was_never_raced_may_reach_anything(tmp_path: Path) -> None:
    run = a_run(tmp_path, replace(int8("f32", 2.0, EVEN), timing=None), int8("bf16", 2.2, CERTAIN))
    assert not grounds.out_of_reach(run, on(int8("f32", 2.0, EVEN)), 1.0)
    assert grounds.surest(run) == 2.2
    assert grounds.surest(a_run(tmp_path)) == 0.0


def test_of_two_ways_to_narrow_a_network_the_faster_is_planned_for(tmp_path: Path) -> None:
    wide = Candidate(steps=(CLEAN,), engine="openvino", settings={"precision": "f32"}, lossless=True, label="wide")
    plain, bytes_too = int8("f32", 2.0, EVEN), int8("f32", 2.2, EVEN, "nothing")
    steps = (Step(name="clean"), Step(name="quantize", options={"attention": "int8"}))
    bytes_too = replace(bytes_too, candidate=replace(bytes_too.candidate, steps=steps), quick_ms=1.0)
    run = a_run(tmp_path, replace(trial("any", 1.0, None), candidate=wide, quick_ms=2.0), bytes_too)
    run.record(replace(plain, quick_ms=1.1))
    engines = {"openvino": SimpleNamespace(scheme="openvino")}
    both = {"openvino": [plain.candidate, bytes_too.candidate]}
    [found] = grounds.grounds(run, engines, both, Rounding({"ranges": "mse"}))
    assert found.narrow == bytes_too.candidate
    assert found.rounding.options == {"ranges": "mse", "attention": "int8"}


@pytest.mark.parametrize(("raced", "planned"), [(0.0, True), (1.9, True), (1.5, False)])
def test_a_race_tells_which_engine_to_plan_for_and_a_first_look_where_there_was_none(
    tmp_path: Path, raced: float, planned: bool
) -> None:
    """Both take a millisecond at a first look, of two that the network as given takes; one is 2.2 times as fast."""
    wide = Candidate(steps=(CLEAN,), engine="openvino", settings={"precision": "f32"}, lossless=True, label="wide")
    other = replace(wide, engine="onnxruntime")
    best, second = (replace(int8("f32", speed, EVEN), quick_ms=1.0) for speed in (2.2, raced))
    second = replace(second, candidate=replace(second.candidate, engine="onnxruntime"))
    second = second if raced else replace(second, timing=None)
    floats = (replace(trial("any", 1.0, None), candidate=c, quick_ms=2.0) for c in (wide, other))
    run = a_run(tmp_path, *floats, best, second)
    run.usual_ms = 2.0
    engines = {name: SimpleNamespace(scheme=name) for name in ("openvino", "onnxruntime")}
    both = {t.candidate.engine: [t.candidate] for t in (best, second)}
    found = [g.engine for g in grounds.grounds(run, engines, both, Rounding({"ranges": "mse"}))]
    assert sorted(found) == (["onnxruntime", "openvino"] if planned else ["openvino"])


@pytest.mark.parametrize(("int8_ms", "planned"), [(1.0, True), (2.2, True), (2.6, False)])
def test_a_mix_may_be_faster_than_either_end(tmp_path: Path, int8_ms: float, planned: bool) -> None:
    wide = Candidate(steps=(CLEAN,), engine="openvino", settings={"precision": "bf16"}, label="wide")
    narrow = replace(int8("bf16", 2.0, EVEN), quick_ms=int8_ms)
    run = a_run(tmp_path, replace(trial("any", 2.0, CERTAIN), candidate=wide, quick_ms=2.0), narrow)
    engines = {"openvino": SimpleNamespace(scheme="openvino")}
    found = grounds.grounds(run, engines, {"openvino": [narrow.candidate]}, Rounding({}))
    assert [g.narrow for g in found] == ([narrow.candidate] if planned else [])


def lent(tmp_path: Path, told: bool) -> tuple[Run, list[Ground]]:
    """LiteRT, which tells no times, beside OpenVINO, whose int8 can be ``told`` from its float or does not run."""
    trials = []
    static: dict[str, list[Candidate]] = {}
    for engine, wide_ms, int8_ms in (("litert", 2.0, 1.0), ("openvino", 3.0, 2.0)):
        wide = Candidate(steps=(CLEAN,), engine=engine, lossless=True, label=f"{engine} wide")
        narrow = Candidate(steps=(CLEAN, Step(name="quantize")), engine=engine, label=f"{engine} int8")
        trials.append(replace(trial("any", 1.0, None), candidate=wide, quick_ms=wide_ms, status="slower"))
        trials.append(replace(trial("any", 2.0, EVEN), candidate=narrow, quick_ms=int8_ms))
        static[engine] = [narrow]
    if not told:
        trials[-1] = replace(trials[-1], status="unsupported")
    run = a_run(tmp_path, *trials)
    run.usual_ms = 2.0
    engines = {name: SimpleNamespace(scheme=name) for name in static}
    return run, grounds.grounds(run, engines, static, Rounding({}))


def test_an_engine_that_tells_no_times_borrows_those_of_one_that_does(tmp_path: Path) -> None:
    run, found = lent(tmp_path, told=True)
    assert [(g.engine, g.borrows) for g in found] == [("openvino", False), ("litert", True)], "a guess comes last"
    assert [c.label for c in found[1].tellers] == ["openvino wide", "openvino int8"]
    assert run.unplanned == []
    wide, narrow = mixed.to_scale(run, found[1], Spent((4.0, 1.0), 1.0, 0.0), Spent((1.0, 2.0), 1.0, 0.0))
    assert wide.total == pytest.approx(2.0)
    assert narrow.regions == pytest.approx((0.25, 1 / 3)), "half of a region's share, but no more than in float"


def test_no_guess_is_made_for_int8_that_is_behind_already(tmp_path: Path) -> None:
    run, found = lent(tmp_path, told=True)
    run.update(found[1].narrow.key, status="slower")
    static = {g.engine: [g.narrow] for g in found}
    engines = {name: SimpleNamespace(scheme=name) for name in static}
    assert [g.engine for g in grounds.grounds(run, engines, static, Rounding({}))] == ["openvino"]


def test_grounds_that_no_time_is_left_for_are_named(tmp_path: Path) -> None:
    run, found = lent(tmp_path, told=True)
    run.deadline = 0.0
    narrow.mix_formats(run, [on(int8("bf16", 2.0, EVEN)), *found], "tuned", 1.0)
    left = "openvino (int8 with bf16), openvino (int8 with f32), litert (int8 with f32)"
    assert run.unplanned == [f"no time was left to mix formats on {left}"]


@pytest.mark.parametrize(("speedup", "planned"), [(2.3, False), (2.5, True)])
def test_a_plan_by_borrowed_times_must_promise_clearly_more(speedup: float, planned: bool, tmp_path: Path) -> None:
    run, [_, ground] = lent(tmp_path, told=True)
    run.update(ground.narrow.key, timing=timed(speedup))
    run.record(int8("bf16", 2.2, CERTAIN))
    assert grounds.out_of_reach(run, ground, 1.0) != planned


@pytest.mark.parametrize(("harmful", "planned"), [(0, True), (1, False)])
def test_a_plan_by_borrowed_times_must_reach_it_with_little_harm(harmful: int, planned: bool, tmp_path: Path) -> None:
    """As on PP-OCR's recogniser, where LiteRT's int8 is the fastest by far and no half of it holds."""
    run, [told, ground] = lent(tmp_path, told=True)
    run.update(ground.narrow.key, timing=timed(4.0), status="rejected")
    run.record(replace(int8("bf16", 2.2, CERTAIN), harm=0.01))
    ms, harm = np.array([[1.0, 0.2], [1.0, 0.2]]), np.array([[0.0, 0.015], [0.0, 1.0 if harmful else 0.001]])
    problem = Problem(ms, harm, (False, True))
    assert grounds.fruitless(run, problem, fastest, ground) != planned
    assert not grounds.fruitless(run, problem, fastest, told), "its own times"
    reach = "litert int8 with f32 would be 1.33× with as little harm as it takes"
    text = f"{reach}, and 2.20× is all but certain to pass: not planned"
    assert run.unplanned == ([] if planned else [text])


def test_without_such_an_engine_it_is_said_that_nothing_is_planned(tmp_path: Path) -> None:
    run, found = lent(tmp_path, told=False)
    assert found == []
    assert run.unplanned == [
        "neither litert nor another engine here reports times of its parts: no mixed precision planned"
    ]


@pytest.mark.parametrize(
    ("usual_ms", "certain", "planned"), [(0.1, True, (1, 1, 0)), (0.1, False, (1, 1, 1)), (9.0, True, (1, 1, 1))]
)
def test_int8_everywhere_gets_a_rung_of_half_its_harm_below_it(
    usual_ms: float, certain: bool, planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last layer that does most of the harm and takes no time: without it the proof is safer at no price."""
    ms, harm = np.array([[3.0, 1.0], [3.0, 1.0], [0.1, 0.05]]), np.array([[0, 0.1], [0, 0.1], [0, 0.9]])
    run, raced = a_run(tmp_path), list[Plan]()
    run.usual_ms = usual_ms
    bench = SimpleNamespace(
        run=run, solve=fastest, inside=lambda p: True, certain=lambda p: certain, times=lambda ps: raced.extend(ps)
    )
    monkeypatch.setattr(mixed, "weighed", lambda bench, problem: (replace(problem, harm=harm), 16))
    problem, samples, plan = mixed.rung(cast(Any, bench), Problem(ms, np.zeros_like(ms), (False, True)))
    assert plan == planned
    assert raced == ([plan] if not all(plan) else [])
    assert samples == (16 if usual_ms < 1 else 0)
    assert (problem.harm.sum() > 0) == (usual_ms < 1)
