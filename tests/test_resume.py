"""A run that dies goes on: nothing finished is lost, nothing damaged is believed, and the verdict is the same."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hasten
from hasten import durable, owned
from hasten.errors import EnvironmentFault, InputError, Stopped, UsageError
from hasten.protocols import Event
from hasten.search import pace, structure
from hasten.trial import Result, decode
from tests import networks
from tests.faults import disk

KILLS = int(os.environ.get("HASTEN_KILLS", "2"))  # HASTEN_KILLS=200 for a soak
ROOT = Path(__file__).parent.parent
BRISK, DEADLY = "tests.engines.brisk", "tests.engines.deadly"
SCRIPT = """
import sys, hasten
from hasten.search import pace, structure
structure.PATIENT = float("inf")  # precision only: it has all kinds of steps
pace.SIZES = ((1, 24),)
def listen(event):
    print(event.kind, event.stage, event.text, sep="|", flush=True)
folder, engines = sys.argv[1], sys.argv[2].split(",")
hasten.optimize(
    folder + "/mlp.onnx", folder + "/data.npz", max_drop="4%", engines=engines, served_by=engines[0],
    out=folder + "/out", seconds=600, listen=listen,
)
"""


@pytest.fixture
def signals_arrive() -> Iterator[None]:
    """Whoever started the tests with nohup, or in the background, had some signals ignored; and so they would stay."""
    before = {n: signal.signal(n, signal.SIG_DFL) for n in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Enough(Exception):
    """The test has seen what it wanted."""


@dataclass(frozen=True)
class Case:
    """A network, its samples, and one question about them to a fake engine."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def run_folder(self) -> Path:
        return self.folder / ".hasten-run-out"

    @property
    def journal(self) -> Path:
        return self.run_folder / "journal.jsonl"

    def start(self, *engines: str) -> subprocess.Popen[str]:
        """The search in a process of its own."""
        command = [sys.executable, "-c", SCRIPT, str(self.folder), ",".join(engines or (BRISK,))]
        return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def here(self, listen: Callable[[Event], None] = lambda _: None, **options: Any) -> Result:
        """The search in this process."""
        asked: dict[str, Any] = {"max_drop": "4%", "engines": [BRISK], "served_by": BRISK, "out": self.out}
        asked["seconds"] = 600.0
        return hasten.optimize(self.folder / "mlp.onnx", self.folder / "data.npz", listen=listen, **asked | options)

    def heard_until(self, text: str, **options: Any) -> list[str]:
        """What a search in this process says, until it says ``text``."""
        heard: list[str] = []

        def listen(event: Event) -> None:
            heard.append(event.text)
            if text in event.text:
                raise Enough

        with pytest.raises(Enough):
            self.here(listen, **options)
        return heard

    def records(self) -> list[dict[str, Any]]:
        """The journal's records, whose checksums are not looked at."""
        return [json.loads(line[9:]) for line in self.journal.read_text().splitlines()]

    def done(self) -> set[tuple[str, str]]:
        """The steps that the journal has an outcome of."""
        return {(r["step"], r["key"]) for r in self.records() if r.get("do") == "done" and r["value"] is not None}


@pytest.fixture(autouse=True)
def precision_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less work is not searched, in this process as in that of ``SCRIPT``."""
    monkeypatch.setattr(structure, "PATIENT", float("inf"))


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network that is right nine times in ten on 500 samples."""
    folder = tmp_path_factory.mktemp("question")
    path = networks.mlp(folder / "mlp.onnx")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((500, 16)).astype(np.float32) * 2
    labels = networks.answers(path, x).argmax(1)
    wrong = rng.random(len(x)) < 0.1
    labels[wrong] = (labels[wrong] + 1) % 10
    np.savez(folder / "data.npz", x=x, labels=labels)
    return folder


@pytest.fixture(scope="module")
def dead(question: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after a search that was killed when it had tried everything and proven nothing."""
    folder = tmp_path_factory.mktemp("dead")
    shutil.copytree(question, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run = Case(folder).start()
    assert run.stdout is not None
    next(line for line in run.stdout if "3/3 confirm" in line)
    run.kill()
    run.communicate()
    return folder


@pytest.fixture(autouse=True)
def one_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The final timing is not what these tests are about, but it must stand a busy machine."""
    monkeypatch.setattr(pace, "SIZES", ((1, 24),))


@pytest.fixture
def case(question: Path, tmp_path: Path) -> Case:
    """A question that nobody has asked yet."""
    shutil.copytree(question, tmp_path, dirs_exist_ok=True)
    return Case(tmp_path)


@pytest.fixture
def killed(dead: Path, tmp_path: Path, own_cache: Path) -> Case:
    """A question whose search was killed; the folder is a copy, which this user's key has signed."""
    shutil.copytree(dead, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cache"))
    (own_cache / "hasten").mkdir()
    shutil.copy(dead / "cache" / "hasten" / owned.KEY, own_cache / "hasten")
    return Case(tmp_path)


def wins(case: Case, result: Result) -> None:
    """The one right answer, wholly written, with nothing left beside it."""
    assert (result.verdict, result.looks) == ("met", 1), result.sentence
    assert result.winner.candidate.settings["precision"] == "good"
    assert decode((case.out / "report.json").read_bytes(), Result) == result
    assert hasten.verify(case.out, trust=True)["checks"][0]["ok"]
    assert sorted(p.name for p in case.folder.iterdir()) == ["data.npz", "mlp.onnx", "out"]


def test_a_killed_run_goes_on_and_does_nothing_twice(killed: Case) -> None:
    before, done = len(killed.records()), killed.done()
    assert {step for step, _ in done} == {"baseline", "build", "answers", "clock", "screen", "race"}
    seconds = max(r["at"] for r in killed.records() if r.get("do") == "done")
    again: set[tuple[str, str]] = set()
    told: list[str] = []

    def listen(event: Event) -> None:
        told.append(event.text)
        if "final timing in" in event.text:
            again.update((r["step"], r["key"]) for r in killed.records()[before:] if r["do"] == "begin")

    start = time.monotonic()
    result = killed.here(listen)
    wins(killed, result)
    assert [text for text in told if "goes on" in text] == [
        f"goes on from an unfinished run: {len(done)} steps, {seconds:.0f} s are taken over; "
        "this run has its own 600 s for the rest; the final timing is fresh"
    ]
    assert {step.split()[0] for step, _ in again} == {"load", "look"}, "processes start again, and the proof is new"
    assert seconds < result.seconds < seconds + time.monotonic() - start, "the clock goes on where it stood"
    assert result.winner.timing is not None
    assert result.winner.timing.pairs == pace.SIZES[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("run", range(KILLS))
def test_a_kill_at_any_time_changes_no_verdict(case: Case, run: int) -> None:
    search = case.start()
    after = random.Random(f"{run} {time.time_ns()}").uniform(0.5, 12)
    try:
        search.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        children = subprocess.run(["pgrep", "-P", str(search.pid)], capture_output=True, text=True, check=False)
        search.kill()
        search.communicate()
        assert gone(children.stdout.split()), "no child outlives its parent"
    if case.out.exists():
        assert hasten.verify(case.out, trust=True)["checks"][0]["ok"], "whole or absent"
    done = case.done() if case.journal.exists() else set()
    told: list[str] = []
    wins(case, case.here(lambda event: told.append(event.text)))
    said = [text for text in told if "goes on" in text]
    assert [text for text in said if f": {len(done)} steps" in text] == said, f"killed after {after} s"
    assert len(said) == (1 if done else 0)


def gone(pids: Sequence[str], seconds: float = 5.0) -> bool:
    """True once none of these processes runs any more."""
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_damage_is_found_said_and_done_again(killed: Case) -> None:
    """A flipped bit in an artefact, another in the middle of the journal."""
    artefact = next((killed.run_folder / "artefacts").glob("*/model.onnx"))
    content = artefact.read_bytes()
    artefact.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    lines = killed.journal.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    wrong = b"0" if lines[middle].startswith(b"f") else b"f"  # each begins with its checksum
    killed.journal.write_bytes(b"".join([*lines[:middle], wrong + lines[middle][1:], *lines[middle + 1 :]]))
    told: list[str] = []
    result = killed.here(lambda event: told.append(event.text))
    wins(killed, result)
    assert f"damage behind record {middle} in the journal of the unfinished run; what is lost is done again" in told
    assert f"{BRISK} float32 is built again: model.onnx is not what was built" in told


def test_another_question_starts_afresh(killed: Case) -> None:
    heard = killed.heard_until("float32 on every engine", max_drop="5%")
    assert "the unfinished run had another question; starting afresh" in heard
    assert not [text for text in heard if "goes on" in text]


def test_other_data_starts_afresh_and_a_copy_of_the_same_does_not(killed: Case) -> None:
    with np.load(killed.folder / "data.npz") as data:
        arrays = dict(data)
    np.savez(killed.folder / "data.npz", **arrays)
    assert [text for text in killed.heard_until("float32 on every engine") if "goes on" in text]
    arrays["x"][0, 0] += 1
    np.savez(killed.folder / "data.npz", **arrays)
    assert "the unfinished run had another data; starting afresh" in killed.heard_until("float32 on every engine")


def test_the_second_run_with_the_same_output_is_turned_away(case: Case) -> None:
    run = case.start()
    assert run.stdout is not None
    run.stdout.readline()
    try:
        with pytest.raises(UsageError, match=rf"another run is writing to .*out' \(pid {run.pid}\)") as told:
            case.here()
        assert told.value.exit_code == 2
        assert case.run_folder.exists(), "its folder is not touched"
    finally:
        run.kill()
        run.communicate()
    case.heard_until("reading")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.usefixtures("signals_arrive")
def test_a_signal_keeps_the_run(case: Case, number: signal.Signals) -> None:
    """SIGINT comes twice: the first asks the search to wrap up."""

    def listen(event: Event) -> None:
        if event.stage.startswith("1/3") and event.kind == "stage":
            for _ in range(2 if number is signal.SIGINT else 1):
                os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match="stopped before the end") as told:
        case.here(listen)
    assert told.value.exit_code == 5
    assert str(case.run_folder) in told.value.cause
    assert "run the same command again" in told.value.help
    assert not case.out.exists()
    assert case.records()[-1] == {"do": "stopped"}
    assert [text for text in case.heard_until("float32 on every engine") if "goes on" in text]


@pytest.mark.slow
@pytest.mark.usefixtures("signals_arrive")
def test_one_interrupt_wraps_up_and_the_same_command_goes_on(case: Case) -> None:
    def listen(event: Event) -> None:
        if event.stage.startswith("2/3") and event.kind == "stage":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped, match="before anything faster had a certificate"):
        case.here(listen)
    assert not case.out.exists(), "half an answer does not replace one"
    wins(case, case.here())


@pytest.mark.slow
@pytest.mark.usefixtures("signals_arrive")
def test_an_interrupt_after_something_was_proven_writes_it_and_can_go_on(killed: Case) -> None:
    """The interrupt comes while the last wave is raced again, so that what was screened can still be proven."""
    lines = killed.journal.read_bytes().splitlines(keepends=True)
    killed.journal.write_bytes(b"".join(lines[:-2]))  # without the last race

    def listen(event: Event) -> None:
        if event.kind == "best":
            os.kill(os.getpid(), signal.SIGINT)

    result = killed.here(listen)
    assert (result.verdict, result.stopped) == ("met", True)
    assert decode((killed.out / "report.json").read_bytes(), Result).stopped
    assert killed.run_folder.exists()
    shutil.rmtree(killed.out)
    wins(killed, killed.here())


@pytest.mark.usefixtures("signals_arrive")
def test_an_interrupt_before_there_is_anything_keeps_nothing(case: Case) -> None:
    with pytest.raises(KeyboardInterrupt):
        case.here(lambda event: os.kill(os.getpid(), signal.SIGTERM) if "reading" in event.text else None)
    assert sorted(p.name for p in case.folder.iterdir()) == ["data.npz", "mlp.onnx"]


def test_ignored_signals_stay_ignored(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(Enough):
            case.here(lambda event: stop_after(signal.SIGHUP, event))
    finally:
        signal.signal(signal.SIGHUP, before)


def stop_after(number: signal.Signals, event: Event) -> None:
    """Send a signal that is ignored, and go on to the next event to show it."""
    if "reading" in event.text:
        os.kill(os.getpid(), number)
    else:
        raise Enough


def test_wrong_data_leaves_nothing_behind(case: Case) -> None:
    with np.load(case.folder / "data.npz") as data:
        arrays = dict(data)
    np.savez(case.folder / "data.npz", x=arrays["x"], labels=(arrays["labels"] + 3) % 10)
    with pytest.raises(InputError, match="worse than a constant answer"):
        case.here()
    assert sorted(p.name for p in case.folder.iterdir()) == ["data.npz", "mlp.onnx"]


@pytest.mark.slow
def test_what_kills_the_search_twice_is_left_alone(case: Case) -> None:
    """An engine that takes the search with it when it runs a network."""
    for _ in range(2):
        run = case.start(BRISK, DEADLY)
        _, said = run.communicate(timeout=120)
        assert run.returncode == -signal.SIGKILL, said
    result = case.here(engines=[BRISK, DEADLY])
    fates = {t.candidate.label: t for t in result.trials}
    assert fates[f"{DEADLY} float32"].status == "crashed"
    assert fates[f"{DEADLY} float32"].reason == "left alone: two runs died while it was tried"
    assert result.verdict == "met"


@pytest.mark.parametrize("k", [1, 14])
def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(case: Case, k: int) -> None:
    with disk(k), pytest.raises(EnvironmentFault, match=r"cannot write (the journal|beside)") as told:
        case.here()
    assert told.value.exit_code == 4
    assert "run the same command again" in told.value.help
    assert not case.out.exists()
    heard = case.heard_until("float32 on every engine")
    assert len([text for text in heard if "goes on" in text]) == (k > 1)


def test_a_disk_that_is_full_at_the_very_end_keeps_the_run(killed: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = durable._rename

    def full(source: Path, target: Path) -> None:
        if source.name == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(durable, "_rename", full)
    with pytest.raises(EnvironmentFault, match="cannot write the output"):
        killed.here()
    monkeypatch.setattr(durable, "_rename", rename)
    assert sorted(p.name for p in killed.folder.iterdir()) == [".hasten-run-out", "data.npz", "mlp.onnx"]
    heard = killed.heard_until("final timing in fresh processes")
    assert any("goes on" in text for text in heard)
