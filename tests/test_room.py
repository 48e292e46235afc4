"""Memory runs short before a candidate is loaded: others go, or the candidate is left out with a reason."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hasten.search import loading
from hasten.trial import Candidate, Status, Timing, Trial
from hasten.worker import WorkerDied

GIB = 1 << 30


class Crowd:
    """A run with loaded candidates of 1 GiB each, on a machine with so much memory free."""

    def __init__(self, free: int, speeds: dict[str, float | None], monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.given = free, "given"
        self.loaded = {name: SimpleNamespace(pid=1) for name in speeds}
        self.stage, self.journal = "narrow", None
        self.trials = {}
        for name, s in speeds.items():
            timing = None if s is None else Timing(speedup=s, low=s, high=s, pairs=9, median_ms=1 / s, baseline_ms=1.0)
            self.trials[name] = Trial(candidate=Candidate(steps=(), engine=name), status="ok", timing=timing)
        monkeypatch.setattr(loading, "private_bytes", lambda pid: GIB)
        monkeypatch.setattr(loading, "memory_bytes", lambda: (16 * GIB, self.free))

    def retire(self, keys: list[str]) -> None:
        for key in filter(self.loaded.__contains__, keys):
            del self.loaded[key]
            self.free += GIB

    def record(self, trial: Trial) -> Trial:
        self.trials["new" if trial.candidate.key not in self.trials else trial.candidate.key] = trial
        return trial

    def update(self, key: str, **changes: Any) -> Trial:
        return self.record(replace(self.trials[key], **changes))

    def closed(self, key: str, status: Status) -> Candidate:
        """A candidate that ran before, and whose process was closed to save memory."""
        candidate = Candidate(steps=(), engine=key)
        self.trials[candidate.key] = Trial(candidate=candidate, status=status, reason="" if status == "ok" else "told")
        return candidate


def test_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(3 * GIB, {"given": 1.0, "slow": 1.1}, monkeypatch)
    assert loading.make_room(crowd) == ""
    assert set(crowd.loaded) == {"given", "slow"}


def test_the_slowest_go_first_and_the_baseline_never(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(GIB // 2, {"given": 1.0, "slow": 1.1, "fast": 2.0, "slower": 1.05}, monkeypatch)
    assert loading.make_room(crowd) == ""
    assert set(crowd.loaded) == {"given", "fast"}


def test_without_room_the_candidate_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(GIB // 2, {"given": 1.0, "unseen": None}, monkeypatch)
    assert loading.load(crowd, Candidate(steps=(), engine="one more")) is None
    assert crowd.trials["new"].status == "skipped"
    assert crowd.trials["new"].reason == (
        "no room: one more copy of the network takes 1024 MiB or more, and 512 MiB are free"
    )
    assert set(crowd.loaded) == {"given", "unseen"}


def test_memory_that_cannot_be_read_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(0, {"given": 1.0}, monkeypatch)
    assert loading.make_room(crowd) == ""


def test_no_room_to_load_one_again_is_its_fate(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(GIB // 2, {"given": 1.0, "unseen": None}, monkeypatch)
    candidate = crowd.closed("once loaded", "ok")
    assert not loading.ready(crowd, candidate)
    told = crowd.trials[candidate.key]
    assert (told.status, told.reason) == (
        "skipped",
        "no room to load it again: one more copy of the network takes 1024 MiB or more, and 512 MiB are free",
    )


def test_one_that_does_not_start_again_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(9 * GIB, {"given": 1.0}, monkeypatch)
    fault = WorkerDied("it crashed with SIGSEGV while it loaded")
    monkeypatch.setattr(loading, "_begin", lambda run, candidate: (_ for _ in ()).throw(fault))
    candidate = crowd.closed("once loaded", "ok")
    assert not loading.ready(crowd, candidate)
    assert (crowd.trials[candidate.key].status, crowd.trials[candidate.key].reason) == ("crashed", str(fault))


@pytest.mark.parametrize("status", ["slower", "rejected"])
def test_a_fate_that_was_told_stays(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Crowd(GIB // 2, {"given": 1.0, "unseen": None}, monkeypatch)
    candidate = crowd.closed("once loaded", status)
    assert not loading.ready(crowd, candidate, loading.SERVES)
    assert (crowd.trials[candidate.key].status, crowd.trials[candidate.key].reason) == (status, "told")
