"""Temporary folders of this process: all in one folder of ours, which goes with the last of them.

A process that was killed leaves its folder behind. The next one that needs a temporary folder removes it: its lock is
free, and its marker says that hasten made it for this user.
"""

from __future__ import annotations

import atexit
import os
import secrets
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from hasten import owned
from hasten.errors import EnvironmentFault

PREFIX, KIND = "hasten-", "temporary folder"
_guard = threading.RLock()
_roots: dict[int, owned.Owned] = {}  # by process: a fork must not remove its parent's
_made: dict[int, Path] = {}  # by process: what a signal may have interrupted between making it and taking it
_used: set[Path] = set()


class Temporary:
    """A new temporary folder ``path``, until ``cleanup`` or the end of the process."""

    def __init__(self, name: str) -> None:
        with _guard:
            try:
                self.path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_root()))
            except OSError as fault:
                raise _nowhere(fault) from fault
            _used.add(self.path)

    def cleanup(self) -> None:
        """Remove it; no link in it is followed."""
        with _guard:
            owned.remove(self.path)
            _used.discard(self.path)
            if not _used:
                _forget()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.cleanup()


def _root() -> Path:
    """This process's folder, made when it is first needed."""
    here = os.getpid()
    if here not in _roots or not _roots[here].path.is_dir():
        _roots.clear()
        _used.clear()
        place = _place()
        sweep(place)
        _roots[here] = _new(place)
    return _roots[here].path


def _place() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as fault:
        raise _nowhere(fault) from fault


def _nowhere(fault: Exception) -> EnvironmentFault:
    cause = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
    help_ = "set TMPDIR to a folder that can be written and has room"
    return EnvironmentFault("there is no place for temporary files", cause=cause, help=help_)


def _new(place: Path) -> owned.Owned:
    try:
        while True:
            path = _made[os.getpid()] = place / f"{PREFIX}{secrets.token_hex(4)}"
            with suppress(owned.Busy):  # another process swept it just now
                return owned.take(path, KIND)
    except (OSError, owned.NotOurs) as fault:
        raise _nowhere(fault) from fault


def sweep(place: Path) -> None:
    """Remove what killed processes of ours left in ``place``."""
    with suppress(OSError):
        for path in place.glob(f"{PREFIX}*"):
            if path not in {root.path for root in _roots.values()} and (path / owned.MARKER).exists():
                with suppress(owned.NotOurs, owned.Busy, OSError):
                    left = owned.take(path, KIND)
                    left.remove()
                    left.close()


def _forget() -> None:
    """Remove this process's folder."""
    here = os.getpid()
    if here in _roots:
        _roots[here].remove()  # a signal may end this: at the end of the process it is done again
        _roots.pop(here).close()
    elif here in _made:
        owned.remove(_made.pop(here))


atexit.register(_forget)
