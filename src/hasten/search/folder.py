"""Where a run works: a folder beside its output, alone in it, and kept when the run is cut short, to go on from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from hasten import durable, owned, scratch
from hasten.errors import EnvironmentFault, InputError, Stopped, UsageError
from hasten.journal import Journal
from hasten.search import shelf
from hasten.search.interrupts import undisturbed

PREFIX, KIND = ".hasten-run-", "run folder"
BUILDING, PID = "new", "pid"
README = "README.txt"
TOLD = """This folder was made by hasten. It holds what an unfinished run measured and built.

Run the same command again, and hasten goes on from here, with its full time. It removes this folder when that run is
done. To begin afresh, delete this folder: nothing outside it depends on it.
"""
LONGEST = 120  # bytes of the output's name in the name of its run folder
AGAIN = "run the same command again: it goes on from there, with its full time; delete that folder to begin afresh"


class RunFolder:
    """A run's folder with its journal. ``keep`` leaves it there at the end, for the same command to go on from."""

    def __init__(self, path: Path) -> None:
        self.path, self.keep = path, False
        self.journal = Journal()

    @property
    def artefacts(self) -> Path:
        """Where built networks lie."""
        return self.path / shelf.ARTEFACTS

    @property
    def building(self) -> Path:
        """Where the output folder is built, before it is put in its place."""
        return self.path / BUILDING

    def open_journal(self, identity: Mapping[str, str]) -> Journal:
        """What an unfinished run with the same ``identity`` left here; that of any other is set aside."""
        with durable.disk(f"the run folder {self.path}"):
            warnings = shelf.bring_up(self.path, identity)
        self.journal = Journal(self.path / shelf.JOURNAL, identity)
        self.journal.warnings[:0] = warnings
        if not len(self.journal):
            owned.remove(self.artefacts)
        return self.journal

    def forget(self) -> None:
        """Remove what this run wrote for its question; another question's stays."""
        if self.journal.path is not None:
            shelf.clear(self.path)


def beside(out: Path) -> Path:
    """The run folder of an output: the same for the same output, and never too long a name."""
    name = out.name
    if len(os.fsencode(name)) > LONGEST:
        name = f"{os.fsencode(name)[:LONGEST].decode(errors='ignore')}-{sha256(os.fsencode(name)).hexdigest()[:12]}"
    return out.with_name(f"{PREFIX}{name}")


@contextmanager
def run_folder(out: Path | None, *, goes_on: bool = True) -> Iterator[RunFolder]:
    """A folder of one's own: beside ``out`` and named after it, so that the same command finds it again.

    What is kept of a question is removed after success with the same question only. Without ``out`` the folder is
    temporary. ``goes_on`` is False for commands that keep nothing.

    Raises:
        UsageError: another run with the same ``out`` is under way, or the folder of that name is not ours.
        Stopped: the run was interrupted, and what it had is kept.
    """
    if out is None:
        with scratch.Temporary("run") as temporary:
            yield RunFolder(temporary)
        return
    place = out.resolve()
    held = _taken(place, out)
    folder = RunFolder(held.path)
    try:
        with durable.disk(f"beside the output {str(out)!r}"):
            _begin(held, place)
        yield folder
        with undisturbed():
            if not folder.keep:
                folder.forget()
    except BaseException as stop:
        with undisturbed():
            _cut_short(held, folder, stop)
            if goes_on and isinstance(stop, KeyboardInterrupt) and _kept(held):
                cause = f"what was done is kept in {held.path}"
                raise Stopped("stopped before the end", cause=cause, help=AGAIN) from stop
        raise
    finally:
        with undisturbed():
            held.sweep(_lasting(held)) if _kept(held) else held.remove()
            held.close()


def _taken(place: Path, out: Path) -> owned.Owned:
    path = beside(place)
    try:
        with durable.disk(f"beside the output {str(out)!r}"):
            place.parent.mkdir(parents=True, exist_ok=True)
            held = owned.take(path, KIND)
        try:
            held.check((PID, README, shelf.JOURNAL, shelf.CORRUPT), (shelf.ARTEFACTS, BUILDING, *shelf.others(path)))
            for name in shelf.others(path):
                held.check((f"{name}/{shelf.JOURNAL}", f"{name}/{shelf.CORRUPT}"), (f"{name}/{shelf.ARTEFACTS}",))
        except owned.NotOurs:
            held.close()
            raise
    except owned.Busy as fault:
        help_ = "wait for it, or name another folder: --out"
        raise UsageError(f"another run is writing to {str(out)!r} (pid {_pid(path)})", help=help_) from fault
    except owned.NotOurs as fault:
        help_ = "move it away, or name another folder: --out"
        raise UsageError(f"cannot work in {str(path)!r}", cause=str(fault), help=help_) from fault
    return held


def _pid(path: Path) -> str:
    """The process that works in a folder, as far as it is known."""
    try:
        file = os.open(path / PID, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "unknown"
    try:
        text = os.read(file, 20).decode("ascii", "replace")
    except OSError:
        text = ""
    finally:
        os.close(file)
    return text if text.isdecimal() else "unknown"


def _begin(held: owned.Owned, place: Path) -> None:
    """Only what can be checked stays; samples and the network are read afresh."""
    durable.restore(held.path / BUILDING, place)
    held.sweep(_lasting(held))
    for name in (shelf.ARTEFACTS, *shelf.others(held.path)):
        held.only_plain(name)
    durable.put(held.path / PID, str(os.getpid()).encode())
    durable.put(held.path / README, TOLD.encode())


def _lasting(held: owned.Owned) -> list[str]:
    return [README, shelf.JOURNAL, shelf.CORRUPT, shelf.ARTEFACTS, *shelf.others(held.path)]


def _kept(held: owned.Owned) -> bool:
    """True when a run of any question can go on from here."""
    return shelf.finished(held.path) or bool(shelf.others(held.path))


def _cut_short(held: owned.Owned, folder: RunFolder, stop: BaseException) -> None:
    """A run ended early: its own steps stay where there are any to go on from, and its disk is made free."""
    refused = isinstance(stop, InputError | UsageError)
    if len(folder.journal) == 0 if refused else not folder.journal.kept:
        folder.forget()
        return
    held.sweep(_lasting(held))
    if refused or isinstance(stop, KeyboardInterrupt | EnvironmentFault):  # it ended by itself: no step is to blame
        with suppress(EnvironmentFault):
            folder.journal.stopped()
