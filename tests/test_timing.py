"""Interleaved timing on workers with a virtual clock: what it claims, and what it does when a side dies."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from hasten.measure import timing as module
from hasten.measure.timing import Workload, interleave, timing
from hasten.replies import Times
from hasten.search.screening import beaten
from hasten.worker import WorkerDied

WORK = Workload("store", (0, 1))


class FakeWorker:
    """Answers ``time`` from a rule; time passes only on paper."""

    spins = False

    def __init__(self, ms: float, noise: float = 0.0, dies_after: int = 10**9, seed: int = 0) -> None:
        self.ms, self.noise, self.left = ms, noise, dies_after
        self.random = np.random.default_rng(seed)
        self.held = 0
        self.usual_ms = float("inf")
        self.waits = list[float]()
        self.starts = list[int]()

    def hold(self) -> None:
        self.held += 1

    def call(self, operation: str, kind: type[Any], *, seconds: float, inner: int, **_: Any) -> Any:
        assert operation == "time"
        self.waits.append(seconds)
        self.starts.append(_.get("start", 0))
        self.left -= 1
        if self.left < 0:
            raise WorkerDied("killed by SIGSEGV in time after 1.0 s")
        return Times(list(self.ms * np.exp(self.noise * self.random.standard_normal(inner))))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasten.measure.timing.time.sleep", lambda _: None)


def raced(sides: dict[str, Any], rounds: int = 20) -> module.Series:
    return interleave(sides, WORK, rounds=rounds)


def test_a_known_ratio_is_found() -> None:
    series = raced({"a": FakeWorker(10.0, 0.02, seed=1), "b": FakeWorker(5.0, 0.02, seed=2)})
    found = timing(series.blocks["a"], series.blocks["b"])
    assert found.low < 2 < found.high or abs(found.speedup - 2) < 0.02
    assert found.pairs == 20
    assert found.median_ms == pytest.approx(5, rel=0.05)
    assert found.baseline_ms == pytest.approx(10, rel=0.05)


def test_identical_sides_are_not_called_different() -> None:
    series = raced({"a": FakeWorker(3.0, 0.05, seed=3), "b": FakeWorker(3.0, 0.05, seed=4)})
    found = timing(series.blocks["a"], series.blocks["b"])
    assert found.low <= 1 <= found.high


def test_a_side_that_dies_leaves_and_the_others_go_on() -> None:
    series = raced({"a": FakeWorker(1.0), "b": FakeWorker(1.0, dies_after=6)})
    assert "SIGSEGV" in str(series.lost["b"])
    assert len(series.blocks["a"]) == 20
    assert len(series.blocks["b"]) < 20


def test_who_was_timed_before_is_not_waited_for_as_long() -> None:
    """A hang in the middle of a race costs seconds, not the minutes that a first call may take."""
    quick, slow = FakeWorker(1.0), FakeWorker(2000.0)
    raced({"quick": quick, "slow": slow})
    assert quick.waits[0] == slow.waits[0] == WORK.limit_seconds
    assert quick.waits[-1] == pytest.approx(module.PATIENCE_SECONDS + module.HUNG * 21 * 1.0 / 1000)
    assert set(slow.waits) == {WORK.limit_seconds}


def test_a_side_that_dies_in_its_warm_up_never_starts() -> None:
    series = raced({"a": FakeWorker(1.0), "b": FakeWorker(1.0, dies_after=0)})
    assert series.blocks["b"] == []
    assert len(series.blocks["a"]) == 20


def test_it_stops_when_told() -> None:
    series = interleave({"a": cast(Any, FakeWorker(1.0))}, WORK, rounds=50, stop=lambda s: len(s.blocks["a"]) >= 7)
    assert len(series.blocks["a"]) == 7


def test_drift_widens_the_interval_by_averaging_neighbours() -> None:
    drift = np.repeat(np.exp(0.1 * np.sin(np.arange(8))), 5)
    found = timing(list(10 * drift), [10.0] * 40)
    assert any("drifted" in flag for flag in found.flags)


def test_the_first_calls_after_a_rest_are_told_apart() -> None:
    assert module.first_calls([9.0, 1.0, 1.0]) == [9.0]
    assert module.first_calls([2.0, 2.0, 2.0, 2.0]) == [2.0, 2.0, 2.0]


class Sleepy(FakeWorker):
    """Its first ten calls of a block take four times as long."""

    def call(self, operation: str, kind: type[Any], *, seconds: float, inner: int, **_: Any) -> Any:
        times = super().call(operation, Times, seconds=seconds, inner=inner).milliseconds
        return Times([4 * t if k < 10 else t for k, t in enumerate(times)])


def test_a_side_that_wakes_slowly_is_seen() -> None:
    sides: dict[str, Any] = {"a": FakeWorker(0.4, 0.02, seed=1), "b": Sleepy(0.2, 0.02, seed=2)}
    series = interleave(sides, WORK, rounds=20, rested=True)
    found = timing(series.blocks["a"], series.blocks["b"], waking=(series.waking["a"], series.waking["b"]))
    assert found.low > 1.9
    assert found.waking is not None
    assert found.waking[2] < 0.6


def test_a_rested_field_rests_before_every_block_and_any_other_is_held_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests = list[float]()
    monkeypatch.setattr("hasten.measure.timing.time.sleep", rests.append)
    sides: dict[str, Any] = {"a": FakeWorker(1.0), "b": FakeWorker(1.0)}
    interleave(sides, WORK, rounds=3, rested=True)
    assert set(rests) == {module.REST_SECONDS, module.PAUSE_SECONDS}
    assert rests.count(module.PAUSE_SECONDS) == 2, "before each block of every other round"
    assert [side.held for side in sides.values()] == [0, 0]
    rests.clear()
    interleave(sides, WORK, rounds=3)
    assert set(rests) == {module.SETTLE_SECONDS}
    assert [side.held for side in sides.values()] == [1 + 1 + 3] * 2  # at first, after warming up, after each block


def test_those_who_are_told_to_leave_are_timed_no_more() -> None:
    sides: dict[str, Any] = {"a": FakeWorker(1.0), "b": FakeWorker(3.0)}
    series = interleave(sides, WORK, rounds=9, leave=lambda s: ["b"] if len(s.blocks["b"]) > 3 else [])
    assert [len(blocks) for blocks in series.blocks.values()] == [9, 4]
    assert not series.lost


def test_who_loses_every_round_clearly_leaves_but_never_the_baseline() -> None:
    fast, close, slow = [1.0] * 6, [1.05] * 6, [1.3] * 6
    unlucky = [1.3] * 5 + [1.0]
    sides = {"given": [2.0] * 6, "fast": fast, "close": close, "slow": slow, "unlucky": unlucky, "dead": [9.0] * 2}
    assert beaten(module.Series(sides), "given") == ["slow"]
    assert beaten(module.Series({k: v[:5] for k, v in sides.items()}), "given") == []


def test_all_samples_take_turns_even_where_a_block_is_one_call() -> None:
    slow, fast = FakeWorker(400.0), FakeWorker(5.0)
    for seed in (1, 2):
        interleave({"a": cast(Any, slow), "b": cast(Any, fast)}, WORK, rounds=4, seed=seed)
    timed = [start for start in slow.starts if start]
    assert timed == [8, 9, 10, 11, 12, 13, 14, 15]
    assert set(timed) <= set(fast.starts), "both sides of a pair begin at the same sample"
