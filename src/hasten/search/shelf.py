"""Kept runs of several questions in one run folder: that of the question at hand at the top, the others set aside.

    journal.jsonl, artefacts/         the question at hand
    other-<digest>/journal.jsonl ...  another question, whose command goes on from it

A journal is moved after the artefacts that it names: after a crash between the two they are built again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hasten import owned
from hasten.journal import left, why_not
from hasten.search.question import digest

JOURNAL, ARTEFACTS = "journal.jsonl", "artefacts"
CORRUPT, OTHER = JOURNAL + ".corrupt", "other-"


def others(path: Path) -> list[str]:
    """Names of the folders with runs that were set aside."""
    return sorted(p.name for p in path.iterdir() if p.name.startswith(OTHER))


def finished(path: Path) -> bool:
    """True when a run left finished steps at the top."""
    return left(path / JOURNAL)[1] > 0


def clear(path: Path) -> None:
    """Remove the run at the top."""
    for name in (JOURNAL, CORRUPT, ARTEFACTS):  # without its journal nothing believes an artefact
        owned.remove(path / name)


def bring_up(path: Path, identity: Mapping[str, Any]) -> list[str]:
    """Put the run with this ``identity`` at the top, if there is one, and set aside what is there. Returns warnings."""
    header, steps = left(path / JOURNAL)
    warnings: list[str] = []
    if header and header.get("identity") != identity:
        if steps:
            aside = path / f"{OTHER}{_name(header.get('identity'))}"
            _move(path, aside)
            warnings = [
                f"{why_not(header, dict(identity))}; starting afresh",
                f"the unfinished run is kept in {aside}: its own command continues it",
            ]
        else:
            clear(path)
    mine = path / f"{OTHER}{_name(identity)}"
    if mine.is_dir() and not (path / JOURNAL).exists():
        _move(mine, path)
        owned.remove(mine)
        return []
    return warnings


def _name(identity: object) -> str:
    return digest(identity)[:16]


def _move(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    for name in (ARTEFACTS, CORRUPT, JOURNAL):
        owned.remove(target / name)
        if (source / name).exists():
            (source / name).rename(target / name)
