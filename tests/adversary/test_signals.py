"""Signals, kills and lost output: nothing is left behind, and the exit code is one that is documented."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import hasten
from hasten import console, owned, process, scratch, worker
from hasten.search.interrupts import ENDING, interrupts, undisturbed
from tests import networks

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a network, samples, a recipe, and a temporary folder of its own."""
    networks.mlp(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32))
    (tmp_path / "recipe.json").write_text('{"steps": [], "engine": "onnxruntime", "settings": {}}')
    (tmp_path / "tmp").mkdir()
    return tmp_path


def start(place: Path, *arguments: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """The command in a process of its own; signals arrive however the tests were started."""
    code = "import signal, sys; [signal.signal(n, signal.SIG_DFL) for n in (1, 15)]"
    code += "; signal.signal(2, signal.default_int_handler); sys.argv[0] = 'hasten'; import hasten.cli as c; c.run()"
    environment = {**os.environ, "TMPDIR": str(place / "tmp"), "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=place, env=environment, stdout=stdout, stderr=subprocess.PIPE)


def until(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to be true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def workers(place: Path) -> list[Path]:
    """Folders of living workers."""
    return list((place / "tmp").glob("hasten-*/worker-*/log.txt"))


VERBS: dict[str, Sequence[str]] = {
    "optimize": ["optimize", "m.onnx", "--data", "d.npz", "--engine", "onnxruntime", "--out", "out"],
    "bench": ["bench", "m.onnx", "m.onnx", "--data", "d.npz"],
    "apply": ["apply", "recipe.json", "m.onnx", "--data", "d.npz", "--out", "applied"],
    "inspect": ["inspect", "m.onnx"],
    "doctor": ["doctor"],
}
SIGNALLED = [*((verb, signal.SIGTERM) for verb in VERBS), ("inspect", signal.SIGHUP), ("doctor", signal.SIGINT)]
BEFORE = {"m.onnx", "d.npz", "recipe.json", "tmp"}


@pytest.mark.parametrize(("verb", "number"), SIGNALLED)
def test_a_signal_ends_every_command_and_leaves_nothing(place: Path, verb: str, number: signal.Signals) -> None:
    run = start(place, *VERBS[verb])
    until(lambda: workers(place) or run.poll() is not None)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said.decode()
    assert b"Traceback" not in said
    assert not list((place / "tmp").iterdir())
    assert {p.name for p in place.iterdir()} == BEFORE


def test_ctrl_c_is_acknowledged_at_once_and_the_end_says_where_the_run_lies(place: Path) -> None:
    run = start(place, *VERBS["optimize"])
    assert run.stderr is not None
    heard = b""
    while b"1/3 lossless" not in heard:
        heard += os.read(run.stderr.fileno(), 1000)
    run.send_signal(signal.SIGINT)
    sent = time.monotonic()
    while console.STOPPING.encode() not in heard:
        heard += os.read(run.stderr.fileno(), 1000)
    assert time.monotonic() - sent < 5, "long before the step is done"
    _, said = run.communicate(timeout=120)
    assert run.returncode == 5, said.decode()
    assert b"cause: what was done is kept in .hasten-run-out" in said
    assert b"help: run the same command again" in said
    assert b"delete that folder" in said
    assert "hasten" in (place / ".hasten-run-out" / "README.txt").read_text()


def test_what_a_killed_command_left_is_swept_by_the_next(place: Path) -> None:
    run = start(place, *VERBS["inspect"])
    until(lambda: workers(place))
    run.kill()
    run.communicate()
    left = list((place / "tmp").iterdir())
    assert len(left) == 1
    assert left[0].name.startswith("hasten-")
    (place / "tmp" / "hasten-theirs").mkdir()
    (place / "tmp" / "hasten-theirs" / "thesis").write_text("years")
    (place / "tmp" / "hasten-linked").symlink_to(place)
    again = start(place, *VERBS["inspect"])
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said.decode()
    assert sorted(p.name for p in (place / "tmp").iterdir()) == ["hasten-linked", "hasten-theirs"]
    assert (place / "tmp" / "hasten-theirs" / "thesis").read_text() == "years"
    assert (place / "m.onnx").exists()


def test_a_living_process_keeps_its_temporary_folder(tmp_path: Path) -> None:
    held = owned.take(tmp_path / "hasten-living", scratch.KIND)
    (tmp_path / "hasten-living" / "worker").mkdir()
    scratch.sweep(tmp_path)
    assert (tmp_path / "hasten-living" / "worker").exists()
    held.close()  # its process ends
    scratch.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_worker_had_in_temporary_folders_goes_with_it() -> None:
    with worker.Worker() as one:
        own = Path(f"/proc/{one.pid}/cwd").readlink()
        with pytest.raises(worker.CallFailed):  # a folder is no JSON
            one.call("call", dict[str, object], function="hasten.scratch:Temporary", keywords={"name": "left"})
        assert list(own.glob("hasten-*/left-*"))
    assert not own.exists()


@contextmanager
def arriving() -> Iterator[None]:
    """Signals arrive however the tests were started."""
    before = {n: signal.signal(n, signal.SIG_DFL) for n in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDING)
def test_what_is_written_or_cleaned_up_is_not_interrupted(number: signal.Signals) -> None:
    with arriving(), interrupts() as asked:
        with undisturbed():
            send(number)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(number)


def test_the_systems_signal_wraps_up_only_where_something_is_proven() -> None:
    with arriving(), interrupts(wraps_up=True) as asked:
        heard = threading.Event()
        asked.acknowledge = heard.set
        send(signal.SIGINT)
        assert asked.is_set()
        assert heard.wait(10), "said at once, whatever is under way"
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    with arriving(), interrupts(wraps_up=True) as asked:
        asked.worth = lambda: True
        send(signal.SIGTERM)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
    with arriving(), interrupts(wraps_up=True) as asked, pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["inspect", "m.onnx", "--json"], ["inspect", "m.onnx"], ["--help"]])
def test_a_full_disk_behind_standard_output_is_exit_4(place: Path, arguments: Sequence[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        run = start(place, *arguments, stdout=full.fileno())
        _, said = run.communicate(timeout=60)
    assert run.returncode == 4
    assert b"error: " in said
    assert b"Traceback" not in said
    assert b"Exception ignored" not in said


@pytest.mark.parametrize(("option", "code"), [(["--json"], 4), ([], 0)])
def test_json_that_nobody_reads_is_an_error_and_text_is_none(place: Path, option: Sequence[str], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = start(place, "inspect", "m.onnx", *option, stdout=writing)
    os.close(writing)
    _, said = run.communicate(timeout=60)
    assert run.returncode == code, said.decode()
    assert b"Traceback" not in said


def test_an_error_as_json_keeps_its_exit_code_where_it_cannot_be_written(place: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        run = start(place, "inspect", "no.onnx", "--json", stdout=full.fileno())
        _, said = run.communicate(timeout=60)
    assert run.returncode in (2, 3)
    assert b"no.onnx" in said


def test_the_peak_of_memory_belongs_to_one_run() -> None:
    with worker.Peak() as first:
        first.note(1 << 50)
        with worker.Peak() as second:
            assert 0 < second.bytes() < 1 << 50
        assert first.bytes() == 1 << 50


def test_no_runtime_reports_over_the_network_or_keeps_files_of_its_own(place: Path) -> None:
    """ONNX Runtime does both from 1.29 on, when it is imported."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(place / "tmp"), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import os, hasten; import onnxruntime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "1\n"
    assert not list((place / "tmp").iterdir())


def test_a_call_that_fails_early_leaves_no_process_and_no_folder(place: Path) -> None:
    """In Python the process lives on: what a refused network or sample left would stay as long."""
    living, used = set(process._live), set(scratch._used)
    with pytest.raises(hasten.HastenError):
        hasten.optimize(place / "m.onnx", place / "d.npz", output="no such output", out=place / "out")
    assert set(process._live) <= living
    assert scratch._used <= used
    assert {p.name for p in place.iterdir()} == BEFORE


STORM = """
import random, signal, sys, tempfile
def strike(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, strike)
from hasten import scratch
tempfile.gettempdir()  # it tries the folder with a file of its own
seed = int(sys.argv[1])
try:
    signal.setitimer(signal.ITIMER_REAL, random.Random(seed).uniform(1e-5, 3e-3))
    while True:
        with scratch.Temporary("storm"):
            pass
except KeyboardInterrupt:
    sys.exit(0)
"""


def test_a_temporary_folder_goes_wherever_a_signal_strikes(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([sys.executable, "-c", STORM, str(seed)], env=environment) for seed in range(12)]
    assert [one.wait(60) for one in running] == [0] * 12
    assert not list(tmp_path.iterdir())


def test_an_interrupt_inside_exec_ends_the_module_with_its_own_code(tmp_path: Path) -> None:
    code = "import sys\nfrom hasten import cli\ndef end(*_, **__): exec('raise KeyboardInterrupt')\n"
    (tmp_path / "struck.py").write_text(f"{code}cli.cli.main = end\nsys.argv[1:] = ['doctor']\ncli.run()\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ended = subprocess.run([sys.executable, "-m", "struck"], env=environment, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, b"stopped\n")
