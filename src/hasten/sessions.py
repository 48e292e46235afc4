"""How fast a result was each time that it was measured: ``sessions.json`` in its folder, written by verify and bench.

Sessions of one machine differ by 3 to 10 %, more than the restarts of one session do. So an interval is widened to what
all of them found. The file is no part of the result: it is checked, and left out, where it is damaged or about another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from hasten import bounded, durable
from hasten.errors import HastenError
from hasten.machine import machine, now
from hasten.result_files import RECIPE, SESSIONS, Manifest
from hasten.trial import Timing, decode, encode

LARGEST, MOST = 1 << 20, 1000  # bytes; sessions


@dataclass(frozen=True, kw_only=True)
class Session:
    """One measurement: when, on what, and the speed-up over the network as given with its interval."""

    at: str
    cpu: str
    speedup: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class History:
    """The sessions of the network whose recipe has the digest ``recipe``."""

    recipe: str
    sessions: Annotated[tuple[Session, ...], msgspec.Meta(max_length=MOST)] = ()


def earlier(out: Path, manifest: Manifest) -> tuple[Session, ...]:
    """The sessions of this machine that the folder knows of its network; none where the file cannot be read."""
    recipe, path = manifest.files.get(RECIPE, ""), out / SESSIONS
    try:
        if not bounded.kind_of(path):
            return ()
        found = decode(bounded.read(path, LARGEST), History)
    except (HastenError, OSError, msgspec.MsgspecError):
        return ()
    cpu = machine().cpu
    return tuple(s for s in found.sessions if s.cpu == cpu) if found.recipe == recipe else ()


def add(out: Path, manifest: Manifest, found: Timing) -> None:
    """Write a session into the folder; one that cannot be written to keeps its history."""
    known = earlier(out, manifest)
    session = Session(at=now(), cpu=machine().cpu, speedup=found.speedup, low=found.low, high=found.high)
    history = History(recipe=manifest.files.get(RECIPE, ""), sessions=(*known, session)[-MOST:])
    try:
        durable.replace(out / SESSIONS, encode(history))
    except (HastenError, OSError):
        return


def widened(low: float, high: float, sessions: tuple[Session, ...]) -> tuple[float, float]:
    """An interval that holds what every session found."""
    found = [s.speedup for s in sessions if s.speedup > 0]
    return min([low, *found]), max([high, *found])
