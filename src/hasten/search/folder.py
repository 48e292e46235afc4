"""Where a run works: a folder beside its output, alone in it, and kept when the run is cut short, to go on from."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hasten import durable
from hasten.errors import EnvironmentFault, InputError, Stopped, UsageError
from hasten.journal import Journal

JOURNAL, ARTEFACTS, LOCK = "journal.jsonl", "artefacts", "lock"
LASTING = (JOURNAL, JOURNAL + ".corrupt", ARTEFACTS, LOCK)


class RunFolder:
    """A run's folder with its journal. ``keep`` leaves it there at the end, for the same command to go on from."""

    def __init__(self, path: Path) -> None:
        self.path, self.keep = path, False
        self.journal = Journal()

    @property
    def artefacts(self) -> Path:
        """Where built networks lie."""
        return self.path / ARTEFACTS

    def open_journal(self, identity: Mapping[str, str]) -> Journal:
        """What an unfinished run with the same ``identity`` left here; of any other nothing is taken over."""
        self.journal = Journal(self.path / JOURNAL, identity)
        if not len(self.journal):
            shutil.rmtree(self.artefacts, ignore_errors=True)
        return self.journal


def _temporary() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="hasten-run-")
    except OSError as fault:
        cause = fault.strerror or str(fault)
        help_ = "set TMPDIR to a folder that can be written and has room"
        raise EnvironmentFault("there is no place for temporary files", cause=cause, help=help_) from fault


@contextmanager
def run_folder(out: Path | None) -> Iterator[RunFolder]:
    """A folder of one's own: beside ``out`` and named after it, so that the same command finds it again.

    It is removed at the end, but for a run that was cut short after it had something to keep. Without ``out`` it is
    temporary.

    Raises:
        UsageError: another run with the same ``out`` is under way.
        Stopped: the run was interrupted, and what it had is kept.
    """
    if out is None:
        with _temporary() as temporary:
            yield RunFolder(Path(temporary))
        return
    path = out.resolve().with_name(f".hasten-run-{out.resolve().name}")
    with _alone(path, out):
        _sweep(path)
        folder = RunFolder(path)
        try:
            yield folder
        except (InputError, UsageError):
            raise
        except BaseException as stop:
            folder.keep = folder.journal.noted > 0 or len(folder.journal) > 0
            if not folder.keep or not isinstance(stop, KeyboardInterrupt):
                raise
            with suppress(EnvironmentFault):
                folder.journal.stopped()
            raise Stopped(
                "stopped before the end",
                cause=f"what was done is kept in {path}",
                help="run the same command again: it goes on from there",
            ) from stop
        finally:
            if not folder.keep:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(path: Path, out: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however it ends."""
    with durable.disk(f"beside the output {str(out)!r}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path, out)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def _locked(path: Path, out: Path) -> int:
    while True:
        path.mkdir(exist_ok=True)
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the run before has just removed its folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace") or "unknown"
            os.close(lock)
            raise UsageError(
                f"another run is writing to {str(out)!r} (pid {pid})", help="wait for it, or name another folder: --out"
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), (path / LOCK).stat()):
                return lock
        os.close(lock)


def _sweep(path: Path) -> None:
    """Samples and the network are read afresh; only what can be checked stays."""
    for child in path.iterdir():
        if child.name not in LASTING:
            shutil.rmtree(child, ignore_errors=True) if child.is_dir() else child.unlink(missing_ok=True)
