"""A search that a signal or the clock ended early: what it did is kept, and the user learns where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hasten.errors import Stopped
from hasten.search.folder import AGAIN, RunFolder, beside
from hasten.search.untried import more_time
from hasten.trial import Result

NAME_OUT = "name an output folder with --out: such a run keeps what it did"


def kept(result: Result, folder: RunFolder, out: Path | None, seconds: float) -> Result:
    """``result``, with a warning that says where the run lies that the same command goes on from.

    A run is kept that a signal ended, or that the clock ended before anything faster had a certificate. ``seconds`` is
    the time that it had.

    Raises:
        Stopped: a signal ended it before anything faster was proven.
    """
    won = result.verdict == "met"
    if not result.stopped and (won or not result.out_of_time):
        return result
    folder.keep = out is not None and folder.journal.kept
    folder.journal.stopped()
    place = f"what was done is kept in {shown(folder, out)}" if folder.keep and out is not None else ""
    if result.stopped and not won:
        raise Stopped(
            "stopped before anything faster had a certificate", cause=place, help=AGAIN if place else NAME_OUT
        )
    longer = f"the same command with {more_time(seconds)} goes on from there; delete that folder to begin afresh"
    advice = AGAIN if result.stopped else longer
    return replace(result, warnings=(*result.warnings, f"{place}; {advice}")) if place else result


def shown(folder: RunFolder, out: Path) -> Path:
    """The run folder as seen from where the user is."""
    near = beside(out) if out.name not in ("", "..") else folder.path
    return near if near.resolve() == folder.path else folder.path
