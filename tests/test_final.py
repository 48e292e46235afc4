"""The last word: what is not faster in the final timing, or only between pauses, is not returned."""

from __future__ import annotations

from dataclasses import replace
from math import log
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hasten.search import final
from hasten.search.answer import _speed_warnings
from hasten.search.objective import promised, rested_ms
from hasten.trial import Candidate, Certificate, Quality, Scalar, Step, Timing, Trial

PROVEN = Quality(
    metric="top1", split="confirm", n=900, value=0.9, baseline=0.9, drop=0.0, lower=-0.001, upper=0.001,
    p_value=0.001, method="score", met=True,
)  # fmt: skip


def timed(speedup: float, waking: float | None = None, spread: float = 0.05) -> Timing:
    about = None if waking is None else (waking, waking - spread, waking + spread)
    return Timing(
        speedup=speedup, low=speedup - 0.02, high=speedup + 0.02, pairs=40,
        median_ms=1 / speedup, baseline_ms=1.0, waking=about,
    )  # fmt: skip


class Finished:
    """A run in which all was proven; the final timing finds what ``final`` says, in milliseconds a block as well."""

    def __init__(self, raced: dict[str, float], finally_: dict[str, Timing], monkeypatch: pytest.MonkeyPatch) -> None:
        self.given, self.objective, self.stopping = "given", "latency", lambda: False
        self.splits = SimpleNamespace(confirm=[], search=[0] * 600, pilot_is_small=False)
        self.finally_, self.rounds, self.alone = finally_, list[list[str]](), list[list[str]]()
        self.trials = {
            name: Trial(
                candidate=Candidate(steps=(), engine=name, lossless=name == "tuned"), status="ok",
                timing=timed(speed), confirm=None if name == "given" else PROVEN,
            )
            for name, speed in raced.items()
        }  # fmt: skip
        monkeypatch.setattr(final, "final_timing", self.time)

    def time(self, run: Any, keys: list[str], restarts: int, rounds: int) -> dict[str, list[float]]:
        (self.rounds if "tuned" in keys else self.alone).append(list(keys))
        for key in keys:
            if key in self.finally_:
                self.update(key, timing=self.finally_[key])
        return {k: [1 / t.speedup] * 40 if (t := self.trials[k].timing) else [1.0] * 40 for k in keys}

    def update(self, key: str, **changes: Any) -> None:
        self.trials[key] = replace(self.trials[key], **changes)


def settled(run: Any) -> str:
    return final.settle(run, "fast", "tuned", 4, 10)


def test_the_fastest_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(1.9), "second": timed(2.1)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "second": 1.95}, found, monkeypatch)
    assert settled(run) == "second"
    assert run.rounds == [["given", "tuned", "fast", "second"]]
    assert run.alone == [["given", "second"]], "what was chosen for its speed is timed once more"


def apart(run: Finished, ratio: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of ``second`` are those of ``fast`` times ``ratio``, over and over; harms 0.03 and 0.01."""

    def blocks(_: Any, keys: list[str], restarts: int, rounds: int) -> dict[str, list[float]]:
        found = run.time(run, keys, restarts, rounds)
        if "fast" in found:  # else it is timed alone
            found["second"] = [b * ratio[i % len(ratio)] for i, b in enumerate(found["fast"])]
        return found

    monkeypatch.setattr(final, "final_timing", blocks)
    run.update("fast", harm=0.03)
    run.update("second", harm=0.01, candidate=replace(run.trials["second"].candidate, label="int8 everywhere"))


def test_of_two_that_are_equally_fast_the_less_harmful_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(2.02), "second": timed(2.0)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "second": 1.95}, found, monkeypatch)
    apart(run, [1.03, 0.99], monkeypatch)
    assert settled(run) == "second"
    reason = "no faster than int8 everywhere within the noise, and does more harm"
    assert (run.trials["fast"].status, run.trials["fast"].reason) == ("ok", reason)


def test_harm_decides_nothing_between_speeds_that_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(2.02), "second": timed(2.0)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "second": 1.95}, found, monkeypatch)
    apart(run, [1.02, 1.01], monkeypatch)
    assert settled(run) == "fast"
    assert not run.trials["second"].reason


def test_nor_between_speeds_that_differ_by_more_than_a_change_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(2.02), "second": timed(2.0)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "second": 1.95}, found, monkeypatch)
    apart(run, [1.14, 0.98], monkeypatch)
    assert settled(run) == "fast"


def test_harm_brings_nothing_back_that_is_slower_than_the_network_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(1.05), "second": timed(1.01)}
    run = Finished({"given": 1.0, "tuned": 1.0, "fast": 2.0, "second": 1.95}, found, monkeypatch)
    apart(run, [1.04, 0.98], monkeypatch)
    assert settled(run) == "fast"
    assert run.trials["second"].status == "slower"


def test_the_least_harmful_of_those_that_may_be_as_fast_is_timed_with_the_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raced = {
        "given": 1.0,
        "tuned": 1.2,
        "fast": 2.0,
        "second": 1.99,
        "third": 1.98,
        "calm": 1.96,
        "fourth": 1.97,
        "behind": 1.5,
    }
    run = Finished(raced, {}, monkeypatch)
    for key, harm in {
        "fast": 0.03,
        "second": 0.02,
        "third": 0.04,
        "fourth": 0.05,
        "calm": 0.01,
        "behind": 0.001,
    }.items():
        run.update(key, harm=harm)
    assert settled(run) == "fast"
    assert run.rounds == [["given", "tuned", "fast", "second", "third", "calm"]]


def test_what_is_slow_after_each_pause_is_not_returned_and_the_next_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(2.0, 0.8), "calm": timed(1.6, 1.5)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "calm": 1.6}, found, monkeypatch)
    assert settled(run) == "calm"
    assert run.rounds == [["given", "tuned", "fast"], ["given", "tuned", "calm"]]
    assert run.trials["fast"].status == "slower"
    reason = "after each pause it may be slower than the network as given (0.75× to 0.85×) in the final timing"
    assert run.trials["fast"].reason == reason


def test_what_is_fast_after_some_pauses_and_slow_after_others_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fast": timed(2.0, 1.3, spread=0.4), "calm": timed(1.6, 1.3, spread=0.32)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "calm": 1.6}, found, monkeypatch)
    assert settled(run) == "calm"
    assert "(0.90× to 1.70×)" in run.trials["fast"].reason


def test_a_lossless_setting_that_wakes_slowly_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: Any = Finished(
        {"given": 1.0, "tuned": 1.2, "fast": 1.3}, {"fast": timed(0.9), "tuned": timed(1.2, 0.7)}, monkeypatch
    )  # fmt: skip
    run.trials["tuned"] = replace(run.trials["tuned"], confirm=PROVEN)
    assert settled(run) == "given"
    assert "after each pause it may be slower" in run.trials["tuned"].reason


def test_narrow_arithmetic_must_beat_the_best_lossless_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Finished(
        {"given": 1.0, "tuned": 1.5, "fast": 1.6}, {"tuned": timed(1.55), "fast": timed(1.5)}, monkeypatch
    )  # fmt: skip
    assert settled(run) == "tuned"
    assert run.trials["fast"].reason == "not faster than the best lossless setting in the final timing"


def test_a_winner_that_wakes_slowly_is_told() -> None:
    assert _speed_warnings(timed(2.0, 1.9)) == []
    assert _speed_warnings(timed(2.0)) == _speed_warnings(None) == []
    [text] = _speed_warnings(timed(2.0, 1.2))
    assert text == "right after a pause it is 1.20× as fast as the network as given: its threads wake slowly"


def test_a_winner_of_two_speeds_is_told_and_promises_the_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """As EfficientNet in LiteRT was: 2.9 times as fast in 23 rounds of 32, and 1.5 to 1.9 times in nine."""
    two = replace(timed(2.9), low=2.8, high=2.95, log_ratios=(*[log(2.9)] * 23, *[log(1.6)] * 9))
    [text] = _speed_warnings(two)
    assert text == "in a quarter of the rounds it was 1.60× as fast, or less: its threads may share a core"
    run = Finished({"given": 1.0, "tuned": 1.0, "fast": 2.9}, {"fast": two}, monkeypatch)
    run.trials["fast"] = replace(run.trials["fast"], timing=two)
    assert promised(cast(Any, run), "fast") == pytest.approx(1.6)
    steady = {"fast": two, "calm": replace(timed(2.3), low=2.2, high=2.4, log_ratios=(log(2.3),) * 32)}
    run = Finished({"given": 1.0, "tuned": 1.0, "fast": 2.8, "calm": 2.7}, steady, monkeypatch)
    assert settled(run) == "calm"
    assert run.trials["fast"].reason.startswith("faster at times, but promises 1.60×")


def test_those_who_may_be_proven_are_raced_from_rest_beside_the_best_lossless_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: Any = Finished({"given": 1.0, "tuned": 1.2, "fast": 2.0, "second": 1.9, "gone": 1.95}, {}, monkeypatch)
    raced = list[Any]()
    monkeypatch.setattr(final, "front", lambda _: ["fast", "gone", "second"])
    monkeypatch.setattr(final, "looks_inside", lambda *_: True)
    monkeypatch.setattr(final, "race", lambda _, keys, rounds, rested: raced.append((keys, rested)))
    final.from_rest(run, "tuned")
    assert raced.pop() == (["tuned", "fast", "gone", "second"], True), "who was closed to save memory comes back"
    final.from_rest(run, "given")
    assert raced.pop() == (["fast", "gone", "second"], True)
    monkeypatch.setattr(final, "front", lambda _: ["fast"])
    final.from_rest(run, "tuned")
    assert not raced, "of one there is nothing to choose"


def test_what_is_fast_only_without_pauses_gives_way_to_what_is_always(monkeypatch: pytest.MonkeyPatch) -> None:
    moody = replace(timed(1.6), low=1.05, high=2.0)
    found = {"fast": moody, "slow": timed(1.4), "given": timed(1.0)}
    run = Finished({"given": 1.0, "tuned": 1.0, "fast": 2.0, "slow": 1.4}, found, monkeypatch)
    assert settled(run) == "slow"
    assert run.rounds == [["given", "tuned", "fast"], ["given", "tuned", "slow"]]


def test_what_may_beat_what_the_fastest_promises_is_timed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT's two threads on magika: 4.3 in the middle, 2.9 at the least; OpenVINO's 3.4 is the better promise."""
    twofold = replace(timed(4.3), low=2.9)
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 4.4, "steady": 3.3}, {"fast": twofold}, monkeypatch)
    run.trials["fast"] = replace(run.trials["fast"], timing=twofold)
    assert settled(run) == "steady"
    assert run.rounds == [["given", "tuned", "fast", "steady"]]
    assert run.trials["fast"].reason == "faster at times, but promises 2.90× where  promises 3.28×"


def test_of_two_rounds_the_better_promise_is_kept_and_the_faster_middle_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {"fast": replace(timed(4.3), low=2.0), "steady": timed(3.4)}
    run = Finished({"given": 1.0, "tuned": 1.2, "fast": 4.4, "steady": 3.3}, found, monkeypatch)
    assert settled(run) == "steady"
    assert run.rounds == [["given", "tuned", "fast"], ["given", "tuned", "steady"]]
    assert run.trials["fast"].reason.startswith("faster at times, but promises 2.00×")


def test_what_promises_enough_is_not_timed_against_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Finished({"given": 1.0, "tuned": 1.0, "fast": 2.0, "slow": 1.4}, {"fast": timed(1.9)}, monkeypatch)
    assert settled(run) == "fast"
    assert len(run.rounds) == 1


def test_the_best_lossless_setting_alone_is_timed_afresh_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Finished({"given": 1.0, "tuned": 0.6}, {"tuned": timed(1.3)}, monkeypatch)
    assert final.settle(run, "tuned", "tuned", 4, 10) == "tuned"
    assert run.rounds == [["given", "tuned"]]


def test_the_fastest_of_each_engine_is_raced_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"given": 1.0, "tuned": 1.2, "fast": 4.4, "faster": 4.6, "elsewhere": 2.4, "far behind": 2.2, "over": 3.0}
    run: Any = Finished(speeds, {}, monkeypatch)
    for name, trial in run.trials.items():
        engine = "litert" if name in ("fast", "faster") else name
        search = replace(PROVEN, split="search", drop=0.02 if name == "over" else 0.0)
        own = replace(trial.candidate, engine=engine, lossless=name in ("given", "tuned"))
        run.trials[name] = replace(trial, candidate=own, search=search)
    run.budget = SimpleNamespace(max_drop=0.01)
    assert final.of_each_engine(run) == ["faster", "elsewhere"]


def test_a_first_look_is_slowed_as_its_setting_was_by_pauses() -> None:
    two: dict[str, Scalar] = {"threads": 2}
    one: dict[str, Scalar] = {}
    clean = (Step(name="clean"),)

    def looked(engine: str, settings: dict[str, Scalar], ms: float, speedup: float | None = None) -> Trial:
        steps = clean if speedup else (*clean, Step(name="quantize"))
        candidate = Candidate(steps=steps, engine=engine, settings=settings, lossless=speedup is not None)
        return Trial(candidate=candidate, status="ok", quick_ms=ms, timing=timed(speedup) if speedup else None)

    trials = [
        looked("litert", two, 2.0, 0.5),  # twice as fast as the network as given at a first look, half with pauses
        looked("openvino", one, 2.0, 2.0),
        looked("litert", two, 1.0),
        looked("litert", one, 1.0),
        looked("openvino", {"precision": "bf16"}, 1.5),
    ]
    run: Any = SimpleNamespace(trials={t.candidate.key: t for t in trials}, usual_ms=4.0)
    assert [rested_ms(run, t.candidate.key) for t in trials[2:]] == [4.0, 1.0, 1.5]


@pytest.mark.parametrize(("speed", "chosen"), [(1.9, "sure"), (1.7, "fast")])
def test_a_guaranteed_certificate_is_worth_a_tenth_of_the_speed(
    monkeypatch: pytest.MonkeyPatch, speed: float, chosen: str
) -> None:
    raced = {"given": 1.0, "tuned": 1.0, "fast": 2.0, "second": 1.99, "third": 1.98, "fourth": 1.97, "sure": speed}
    run: Any = Finished(raced, {}, monkeypatch)
    for key in run.trials:
        grade: Certificate = "guaranteed" if key == "sure" else "statistical"
        run.update(key, harm=0.01, confirm=None if key == "given" else replace(PROVEN, certificate=grade))
    assert settled(run) == chosen
    if chosen == "sure":
        assert "less than a tenth faster than" in run.trials["fast"].reason


def test_what_was_chosen_by_luck_gives_way_when_it_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Finished({"given": 1.0, "tuned": 1.0, "fast": 1.3, "calm": 1.25}, {}, monkeypatch)
    short = {"fast": timed(1.3), "calm": timed(1.2)}
    alone = {"fast": timed(1.01), "calm": timed(1.19)}

    def twice(_: Any, keys: list[str], restarts: int, rounds: int) -> dict[str, list[float]]:
        run.finally_ = short if "tuned" in keys else alone
        assert (restarts, rounds) == ((1, final.CHOICE_ROUNDS) if "tuned" in keys else (4, 10))
        found: dict[str, list[float]] = run.time(run, keys, restarts, rounds)
        return found

    monkeypatch.setattr(final, "final_timing", twice)
    assert settled(run) == "calm"
    assert run.alone == [["given", "fast"], ["given", "calm"]]
    assert run.trials["fast"].reason == "not faster than the network as given in the final timing"


def test_one_alone_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Finished({"given": 1.0, "fast": 2.0}, {"fast": timed(1.9)}, monkeypatch)
    assert final.settle(run, "fast", "given", 8, 4) == "fast"
    assert (run.rounds, run.alone) == ([], [["given", "fast"]])


def test_an_estimate_is_timed_beside_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Finished({"given": 1.0, "tuned": 1.1, "fast": 2.0, "bold": 3.0}, {}, monkeypatch)
    run.budget = SimpleNamespace(max_drop=0.01)
    run.update("bold", confirm=replace(PROVEN, met=False, chance=0.8))
    assert settled(run) == "fast"
    assert run.rounds == [["given", "tuned", "fast", "bold"]]
    assert run.alone == [["given", "fast", "bold"]]
