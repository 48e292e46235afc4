"""A claimed speed is checked, and what other sessions found is remembered beside the result."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hasten import reproduce, sessions
from hasten.result_files import SESSIONS, read_manifest
from hasten.sessions import Session
from hasten.trial import Timing
from tests import result_folders, results


def found(low: float, high: float) -> Timing:
    return replace(results.timing((low * high) ** 0.5), low=low, high=high)


@pytest.mark.parametrize(
    ("low", "high", "ok", "word"),
    [
        (2.9, 3.1, True, "as claimed"),
        (3.2, 3.4, True, "more than claimed"),
        (2.7, 2.9, None, "less than claimed"),  # sessions differ by as much
        (1.2, 1.3, False, "less than claimed"),  # faster than the network as given, and not as claimed
        (0.8, 0.9, False, "less than claimed"),
        (0.9, 3.5, None, "as claimed"),
    ],
)
def test_the_claimed_speed_is_what_is_checked(low: float, high: float, ok: bool | None, word: str) -> None:
    result = results.met()
    check = reproduce.speed(result, found(low, high), result.noise)
    assert check.ok is ok, check.text
    assert word in check.text
    assert bool(check.help) == (ok is None)


def test_an_estimate_claims_a_speed_too() -> None:
    result = replace(results.met(), verdict="undecided")
    assert reproduce.speed(result, found(1.2, 1.3), result.noise).ok is False
    kept = results.undecided_kept()
    assert reproduce.speed(kept, found(0.9, 1.1), kept.noise).ok


def test_sessions_widen_the_interval_and_are_counted(tmp_path: Path) -> None:
    out = result_folders.write(tmp_path)
    manifest, result = read_manifest(out), results.met()
    assert sessions.earlier(out, manifest) == ()
    assert "sessions" not in reproduce.speed(result, found(2.9, 3.1), result.noise).text
    for low, high in ((2.4, 2.6), (3.3, 3.5)):
        sessions.add(out, manifest, found(low, high))
    known = sessions.earlier(out, manifest)
    assert [round(s.speedup, 1) for s in known] == [2.5, 3.4]
    text = reproduce.speed(result, found(2.9, 3.1), result.noise, earlier=known).text
    assert "over the search and 3 sessions [2.50, 3.40]" in text
    assert SESSIONS not in manifest.files
    result_folders.write(tmp_path)
    assert not (out / SESSIONS).exists(), "a new result starts its own history"


@pytest.mark.parametrize("damage", ["fifo", "other recipe", "no json", "a link"])
def test_a_history_that_is_none_is_left_out(tmp_path: Path, damage: str) -> None:
    out = result_folders.write(tmp_path)
    manifest, path = read_manifest(out), out / SESSIONS
    if damage == "fifo":
        os.mkfifo(path)
    elif damage == "a link":
        path.symlink_to("/etc/passwd")
    elif damage == "no json":
        path.write_text("{")
    else:
        sessions.add(out, manifest, found(2.9, 3.1))
        manifest = replace(manifest, files={**manifest.files, "recipe.json": "0" * 64})
    assert sessions.earlier(out, manifest) == ()


def test_a_folder_that_cannot_be_written_to_keeps_its_history(tmp_path: Path) -> None:
    out = result_folders.write(tmp_path)
    manifest = read_manifest(out)
    (out / SESSIONS).mkdir()
    sessions.add(out, manifest, found(2.9, 3.1))
    assert (out / SESSIONS).is_dir()


def test_an_interval_holds_what_every_session_found() -> None:
    seen = [Session(at="", cpu="c", speedup=s, low=s, high=s) for s in (1.9, 2.2)]
    assert sessions.widened(2.0, 2.1, tuple(seen)) == (1.9, 2.2)
    assert sessions.widened(2.0, 2.1, ()) == (2.0, 2.1)
