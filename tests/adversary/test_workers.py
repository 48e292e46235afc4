"""Processes that are closed, killed or short of memory: each says how it ended, and none ends a search."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hasten
from hasten import deaths, process, worker
from hasten.cli import main
from hasten.errors import EnvironmentFault
from hasten.graph.regions import Region
from hasten.protocols import Event
from hasten.search import findings
from hasten.worker import CallFailed, Worker, WorkerDied, once
from tests import networks

CORES: dict[str, Any] = {"function": "hasten.machine:cores", "keywords": {}}
REQUESTS: dict[str, Callable[[Worker], object]] = {
    "ask": lambda one: one.ask("call", **CORES),
    "answer": lambda one: one.answer(int),
    "call": lambda one: one.call("call", int, **CORES),
    "hold": lambda one: one.hold(),
}


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_closed_worker_reports_that_it_was_closed(request_: str) -> None:
    one = Worker()
    one.close()
    with pytest.raises(WorkerDied, match="closed before"):
        REQUESTS[request_](one)


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_dead_worker_reports_how_it_died_again_and_again(request_: str) -> None:
    with Worker() as one:
        one.call("call", int, **CORES)
        os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="killed by SIGKILL") as first:
            one.call("call", int, **CORES)
        assert first.value.killed
        for _ in range(2):
            with pytest.raises(WorkerDied, match="killed by SIGKILL") as again:
                REQUESTS[request_](one)
            assert (str(again.value), again.value.killed) == (str(first.value), True)


def test_what_a_closed_worker_is_asked_never_reaches_another_process() -> None:
    before = open_files()
    for _ in range(5):
        old = Worker()
        old.close()
        with Worker() as new:  # takes the descriptors that the old one had
            for request in REQUESTS.values():
                with pytest.raises(WorkerDied):
                    request(old)
            old.close()
            assert new.call("call", int, **CORES) >= 1
    assert open_files() == before


def test_two_workers_share_no_descriptor() -> None:
    with Worker() as first, Worker() as second:
        assert first.call("call", int, **CORES) == second.call("call", int, **CORES)
        pipes = [{str(end.readlink()) for end in Path(f"/proc/{one.pid}/fd").iterdir()} for one in (first, second)]
        assert not [name for name in pipes[0] & pipes[1] if name.startswith("pipe:")]
        first.close()
        assert second.call("call", int, **CORES) >= 1


def test_a_process_that_cannot_be_started_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()

    def full(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        with pytest.raises(EnvironmentFault, match="cannot be started"):
            Worker()
    assert open_files() == before


def test_time_in_which_the_parent_stood_still_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    deadline = process.Deadline(5.0)
    now[0] += 1.0
    assert not deadline.passed()
    now[0] += 30.0  # stopped
    assert not deadline.passed()
    seen = []
    for _ in range(6):
        now[0] += 1.0
        seen.append(deadline.passed())
    assert seen == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (WorkerDied("killed by SIGKILL", killed=True, memory=True), 4),
        (WorkerDied("killed by SIGKILL", killed=True), 4),
        (WorkerDied("used 900 MiB, over its 800 MiB", memory=True), 4),
        (CallFailed("MemoryError", "MemoryError"), 4),
        (CallFailed("RuntimeException", "std::bad_alloc"), 4),
        (CallFailed("OSError", "[Errno 12] Cannot allocate memory"), 4),
        (CallFailed("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 4),
        (CallFailed("MemoryError", "Unable to allocate 8.00 TiB for an array with shape (1024,)"), 4),
        (WorkerDied("killed by SIGSEGV"), 3),
        (CallFailed("ValueError", "invalid"), 3),
    ],
)
def test_a_lack_of_memory_is_the_machines_fault(fault: WorkerDied | CallFailed, code: int) -> None:
    found = deaths.blamed(fault, "m.onnx cannot be read", process="the reader")
    assert found.exit_code == code
    assert "m.onnx cannot be read" in found.message
    if code == 4:
        assert "MiB of memory are free" in found.cause


def test_a_runtime_that_aborts_for_want_of_memory_is_told_from_its_last_words() -> None:
    with pytest.raises(WorkerDied) as told:
        once("hasten.testing:abort", {"words": "terminate called after throwing an instance of 'std::bad_alloc'"}, int)
    assert told.value.memory
    with pytest.raises(WorkerDied) as told:
        once("hasten.testing:abort", {"words": "double free or corruption"}, int)
    assert not told.value.memory


def test_a_reader_over_its_memory_is_exit_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    monkeypatch.setattr(worker, "memory_bytes", lambda: (8 << 20, 8 << 20))  # as if no more were free
    assert main(["inspect", str(path)]) == 4


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Kill the first processes that are started, as many as asked."""
    left = [0]
    spawn = process.Process.__init__

    def start(self: process.Process, memory_limit: int | None) -> None:
        spawn(self, memory_limit)
        if left[0] > 0:
            left[0] -= 1
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(process.Process, "__init__", start)
    return lambda count: left.__setitem__(0, count)


def test_a_reader_that_somebody_kills_is_started_again(
    tmp_path: Path, killed: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    killed(1)
    assert main(["inspect", str(path)]) == 0
    killed(3)
    assert main(["inspect", str(path)]) == 4
    assert "killed by SIGKILL" in capsys.readouterr().err


def test_a_baseline_that_is_killed_while_it_loads_is_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = list[int]()

    def listen(event: Event) -> None:
        for one in list(process._live):
            if not victims and "openvino" not in str(event.text):
                victims.append(one.pid)
                os.kill(one.pid, signal.SIGKILL)

    path = networks.mlp(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((120, 16)).astype(np.float32)
    result = hasten.optimize(path, {"x": x}, engines=["onnxruntime"], seconds=3, listen=listen)
    assert victims
    assert result.verdict in ("met", "nothing_faster", "undecided")


def test_a_search_outlives_kills_of_any_child(tmp_path: Path) -> None:
    """Every few seconds, once the search has moved on, some child dies by SIGKILL; the search ends with a verdict."""
    path = networks.mlp(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    begun, over, moved, dead = threading.Event(), threading.Event(), threading.Event(), list[int]()
    random = np.random.default_rng(5)

    def kill() -> None:
        begun.wait(60)
        while not over.wait(1.0):
            living = [one.pid for one in list(process._live)]
            if living and len(dead) < 5 and moved.is_set():  # one request is repeated once, and not for ever
                moved.clear()
                dead.append(int(random.choice(living)))
                try:
                    os.kill(dead[-1], signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def listen(event: Event) -> None:
        moved.set()
        if event.kind == "note":
            begun.set()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = hasten.optimize(path, {"x": x}, engines=["onnxruntime"], seconds=8, listen=listen)
    finally:
        begun.set()
        over.set()
        killer.join()
    assert result.verdict in ("met", "nothing_faster", "undecided")
    assert all(t.reason for t in result.trials if t.status != "ok")
    assert len(dead) > 2


REGION = Region(("a",), ("a",), (("t", -1, 4),), "Conv")
WHOLE: dict[str, Any] = {"bytes": 1, "digest": "0" * 64, "seconds": 1, "history": []}


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (findings.placed, {"regions": [REGION], "places": {"a": 1}}),
        (findings.placed, {"regions": [REGION], "places": {"a": -2}}),
        (findings.placed, {"regions": [Region((), (), (), "Conv")], "places": {}}),
        (findings.placed, {"regions": [Region(("a",), ("a",), (("t", 9, 4),), "Conv")], "places": {}}),
        (findings.either("knobs", "work"), {}),
        (findings.either("knobs", "work"), {"knobs": []}),
        (findings.either("knobs", "work"), {"knobs": [], "work": 1.0, "not_applicable": "no"}),
        (findings.as_many(2), [1.0]),
        (findings.named(("2:4",)), {"2:4": 1.0, "0.75": 1.0}),
        (findings.built_in(Path("/tmp")), {"artefact": "/etc/passwd", **WHOLE}),
        (findings.built_in(Path("/tmp")), {"artefact": "/tmp/nowhere", **WHOLE}),
        (findings.built_in(Path("/tmp")), {"artefact": "/tmp"}),
        (findings.built_in(Path("/tmp")), {"artefact": "/tmp", "not_applicable": "no"}),
    ],
)  # fmt: skip
def test_findings_that_do_not_fit_are_named(check: Any, found: Any) -> None:
    assert check(found)
