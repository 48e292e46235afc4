"""Who gets the seconds: the promise, what fits into it, what is tried next, and what comes back."""

from __future__ import annotations

import io
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from hasten import asked, console
from hasten.console import progress
from hasten.protocols import Event
from hasten.search import lossless, next_step, pace, policy, promise, waves
from hasten.search.first_timing import Span, of_ratios
from hasten.search.next_step import Action, Costs
from hasten.trial import Candidate, Scalar, Step
from tests.test_confirm import a_run, quality, trial


def candidate(engine: str, *steps: str, lossless: bool = False, **settings: Scalar) -> Candidate:
    named = tuple(Step(name=name) for name in ("clean", *steps))
    return Candidate(steps=named, engine=engine, settings=settings, lossless=lossless, label=f"{engine} {steps}")


F32, BF16, INT8 = candidate("a", lossless=True), candidate("a", precision="bf16"), candidate("a", "quantize")
COSTS = Costs(1.0, 1.0, {"int8": 8.0})


@pytest.mark.parametrize(("ms", "seconds"), [(0.01, 30), (0.1, 30), (1000, 600), (5000, 600)])
def test_the_time_by_itself_is_half_a_minute_to_ten(ms: float, seconds: float) -> None:
    assert pace.auto_seconds(ms) == pytest.approx(seconds)


def test_slower_networks_get_more_time_and_a_long_end_gets_its_own() -> None:
    several = [pace.auto_seconds(ms) for ms in (0.1, 1, 10, 100, 400)]
    assert several == sorted(several)
    assert pace.auto_seconds(1.0, end=60) == 180
    assert pace.auto_seconds(1.0, compiled=1) > pace.auto_seconds(1.0) + 30
    assert pace.auto_seconds(400.0, end=500) == 600


@pytest.mark.parametrize("ms", [0.1, 1.0, 10.0, 100.0, 400.0])
@pytest.mark.parametrize("seconds", [60.0, 300.0, 3000.0])
def test_test_and_final_timing_are_inside_the_promise(ms: float, seconds: float) -> None:
    seen = pace.Seen(ms, load=1.0, tested=100)
    trying = pace.search_seconds(seen, seconds)
    end = pace.ending(seen, seconds - trying)
    assert trying == seconds or trying + end.seconds <= seconds + 1e-6
    assert end.restarts * end.rounds >= 6, "fewer pairs give no interval"


def test_a_time_too_short_for_a_test_is_for_timing_alone() -> None:
    assert pace.search_seconds(pace.Seen(10.0, 1.0, 600), 5.0) == 5.0
    assert pace.search_seconds(pace.Seen(10.0, 1.0, 600), float("inf")) == float("inf")


def test_a_race_of_long_calls_has_fewer_rounds() -> None:
    assert pace.rounds_for(4.0, 3, 1.0, 12, 6) == 12
    assert pace.rounds_for(4.0, 3, 400.0, 12, 6) == 6
    assert pace.call_seconds(400.0) == 0.4, "a block is one call"


@pytest.mark.parametrize(
    ("one", "other", "behind"),
    [
        (Span(4.0, 5.0, 6.0), Span(2.0, 3.0, 3.9), True),
        (Span(3.5, 5.0, 6.0), Span(2.0, 3.0, 3.9), False),
        (Span(0.35, 0.4, 0.5), Span(0.1, 0.15, 0.2), False),  # two threads may have shared a core
        (Span(0.45, 0.5, 0.6), Span(0.1, 0.15, 0.2), True),
    ],
)
def test_only_what_the_intervals_show_is_behind(one: Span, other: Span, behind: bool) -> None:
    assert one.behind(other) is behind


def test_a_first_timing_is_an_interval_as_wide_as_the_noise() -> None:
    found = of_ratios([0.5, 0.4, 0.6], 10.0, noise=1.25)
    assert (found.low, found.middle, found.high) == pytest.approx((3.2, 5.0, 7.5))


def test_a_narrow_float_and_int8_come_before_second_settings() -> None:
    second = candidate("a", precision="bf16", threads=1)
    other = candidate("b", "quantize")
    several = next_step.actions([BF16, second, INT8, other], [(F32, 1.0)], COSTS)
    order = [action.candidate for action in next_step.in_order(several, 1.0)]
    assert order[0] == BF16, "the cheapest gain"
    assert order[-1] == second


def test_a_kind_is_expected_as_fast_as_it_was_on_this_network() -> None:
    other, seen = candidate("b", "quantize"), [(F32, 1.0), (INT8, 4.0)]
    assert next_step.expected(INT8, []) == next_step.PRIOR["int8"]
    assert next_step.expected(other, seen) == 4.0
    assert next_step.expected(other, [*seen, (candidate("b", lossless=True), 0.5)]) == 2.0


def test_an_action_is_worth_its_gain_a_second() -> None:
    fast, slow = Action(INT8, 2.0, 1.0), Action(INT8, 2.0, 10.0)
    assert fast.worth(1.0) > slow.worth(1.0) > 0
    assert fast.worth(3.0) == 0


def test_every_engine_has_its_stock_setting_first() -> None:
    several = [candidate(e, lossless=True, threads=n) for e in "ab" for n in (1, 2)]
    assert [(c.engine, c.settings["threads"]) for c in lossless.in_turns(several)] == [
        ("a", 1), ("b", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip


def test_lossless_settings_end_with_their_share_of_the_time(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.seconds, run.clock = 100.0, time.monotonic() - 50
    run.deadline = run.clock + 80
    assert lossless.timed_first(run, [F32], lossless.lossless_until(run)) == []
    assert run.trials[F32.key].reason == f"not tried: {lossless.THEIR_SHARE}"


@pytest.mark.parametrize("failed", [True, False])
def test_what_was_left_out_comes_back_when_what_was_faster_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, failed: bool
) -> None:
    fast = replace(trial("fast", 4.0, quality(0.0, 0.004)), quick_ms=2.5)
    slow = replace(trial("slow", 1.0, None), quick_ms=5.0, status="slower", reason="5 ms in a quick look", timing=None)
    run = a_run(tmp_path, fast, slow)
    run.usual_ms = 10.0
    if failed:
        run.update(fast.candidate.key, status="rejected")
    tried: list[Candidate] = []
    monkeypatch.setattr(waves, "try_all", lambda run, candidates, tuned: tried.extend(candidates))
    waves.come_back(run, "given")
    assert tried == ([slow.candidate] if failed else [])
    assert run.trials[slow.candidate.key].status == ("ok" if failed else "slower")


def test_a_step_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    given = replace(trial("given", 1.0, None), seconds=20.0)
    run = a_run(tmp_path, given)
    run.given, run.usual_ms, run.seconds = given.candidate.key, 10.0, 60.0
    run.deadline = time.monotonic() + 10
    assert waves.first_timings(run, [replace(INT8, engine="onnxruntime")]) == []
    [told] = [t.reason for t in run.trials.values() if t.status == "skipped"]
    assert told.startswith("not tried: it takes about 2")


@pytest.mark.parametrize(("seconds", "fit"), [(float("inf"), 1000), (1000.0, 1000), (60.0, 999)])
def test_a_test_takes_as_many_samples_as_the_time_allows(tmp_path: Path, seconds: float, fit: int) -> None:
    given = replace(trial("given", 1.0, None), seconds=1.0)
    run = a_run(tmp_path, given)
    run.given, run.usual_ms, run.seconds = given.candidate.key, 100.0, seconds
    run.evaluator.baseline_rows = {}
    found = promise.in_time(run, given.candidate.key, list(range(1000)))
    assert len(found) == 1000 if fit == 1000 else 1 < len(found) < 400


def test_every_threshold_has_a_unit_a_reason_and_evidence() -> None:
    found = [t for t in vars(policy).values() if isinstance(t, policy.Threshold)]
    assert len(found) > 10
    assert all(getattr(t, f.name) for t in found for f in fields(t) if f.name != "value")


def test_time_is_chosen_for_those_who_do_not_choose() -> None:
    assert asked.time_limit("auto") is None
    assert asked.time_limit(None) is None
    assert asked.time_limit("5m") == 300


def test_a_long_step_is_repeated_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.1)
    stream = io.StringIO()
    with console.Progress(stream, 1) as drawn:
        drawn(Event(kind="trial", stage="1/3", text="openvino float32"))
        time.sleep(0.5)
    first, *others = stream.getvalue().splitlines()
    assert first == "1/3 · openvino float32"
    assert others
    assert others[0].startswith("1/3 · openvino float32, for ")
