"""The arithmetic of the front doors' benchmarks: whole notes, one network at three doors, the docs' table."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import door_tables, pitch
from benchmarks.markdown import filled
from benchmarks.mutations import __main__ as mutations
from benchmarks.mutations import formats, seeds
from benchmarks.mutations.readers import READERS
from benchmarks.networks import chords


def test_whole_notes_need_their_key_and_their_onset() -> None:
    _, notes = chords.clips(3, first=7)
    onsets = np.diff(notes, axis=1, prepend=0).clip(0)
    perfect = {"StatefulPartitionedCall:2": onsets, "StatefulPartitionedCall:1": notes}
    np.testing.assert_array_equal(chords.whole_note_f1(perfect, notes), 1)
    late = {"onset": np.roll(onsets, 6, axis=1), "note": notes}
    np.testing.assert_array_equal(chords.whole_note_f1(late, notes), 0)
    near = {"onset": np.roll(onsets, 3, axis=1), "note": notes}
    np.testing.assert_array_equal(chords.whole_note_f1(near, notes), 1)
    other = {"onset": np.roll(onsets, 1, axis=2), "note": np.roll(notes, 1, axis=2)}
    assert chords.whole_note_f1(other, notes).max() < 1


def test_short_notes_do_not_count_and_short_gaps_do_not_part() -> None:
    onsets, frames = np.zeros((172, 88)), np.zeros((172, 88))
    onsets[[10, 50, 120], [3, 4, 4]] = 1
    frames[10:20, 3] = 1  # ten frames
    frames[50:170, 4] = 1
    frames[60:69, 4] = 0
    assert chords._decoded(onsets, frames) == [(50, 4)]


def row(original: list[float], winner: list[float], error: float = 1e-6) -> dict[str, Any]:
    return {"verdict": "met", "conversion_error": error, "original_scores": original, "winner_scores": winner}


@pytest.mark.parametrize(("shift", "equal"), [(0.0, True), (0.1, False)])
def test_scores_are_equal_when_every_interval_holds_zero(shift: float, equal: bool) -> None:
    scores, noise = np.random.default_rng(0).random((2, 200))
    moved = list(scores + shift + 0.02 * (noise - noise.mean()))
    rows = {
        "SavedModel": row(list(scores), list(scores)),
        "TFLite": row(list(scores), moved),
        "ONNX": row(moved, moved),
    }
    found = pitch.judged(rows)
    assert found["scores_equal"] == equal
    assert found["same_verdict"]
    assert len(found["pairs"]) == 6
    same = next(
        p for p in found["pairs"] if (p["scores"], p["one"], p["other"]) == ("original_scores", "SavedModel", "TFLite")
    )
    assert (same["difference"], same["interval"]) == (0, [0, 0])


def test_a_conversion_that_is_off_is_told() -> None:
    rows = {"SavedModel": row([1, 0], [1, 0]), "TFLite": row([1, 0], [1, 0], 2e-4)}
    assert not pitch.judged(rows)["conversions_agree"]


def test_the_page_of_doors_holds_the_stored_figures() -> None:
    page = door_tables.PAGE.read_text()
    assert set(json.loads(door_tables.STORED.read_text())["networks"]) == set(door_tables.TITLES)
    assert "<!-- engines -->" in page
    assert filled(page, {"engines": door_tables.engines()}) == page, "python -m benchmarks.door_tables --write"


def test_damage_is_the_same_again_and_reaches_every_format(tmp_path: Path) -> None:
    """Each kind of file that needs no framework: damaged twice alike, and mostly not what it was."""
    for kind in ("npz", "npy", "csv", "csv.gz", "recipe", "journal", "onnx"):
        whole = seeds.make(kind, tmp_path / kind)[0].read_bytes()
        damaged = [way(whole, random.Random(k)) for k, way in enumerate(formats.damages(kind) * 3)]
        assert damaged == [way(whole, random.Random(k)) for k, way in enumerate(formats.damages(kind) * 3)]
        assert sum(one != whole for one in damaged) > 0.8 * len(damaged), kind


def test_a_child_that_dies_is_counted_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks" / "mutations").mkdir(parents=True)
    (tmp_path / "benchmarks" / "mutations" / "__main__.py").write_text(
        "import sys, json, os\n"
        "for line in sys.stdin:\n"
        "    first, count = map(int, line.split())\n"
        "    for n in range(first, first + count):\n"
        "        n % 7 or os._exit(3)\n"
        "        told = {'number': n, 'fate': 'refused' if n % 2 else 'valid', 'text': '', 'seconds': 0.1, 'peak': n}\n"
        "        print(json.dumps(told), flush=True)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    row = mutations.Row("recipe")
    mutations.run(row, [], 1, 20)
    assert row.fates == {"valid": 9, "refused": 9, "died": 2}
    assert [finding.split(":")[0] for finding in row.findings] == ["7", "14"], "the parent reads recipes itself"
    assert row.peak_bytes == 20


def test_the_shares_of_all_kinds_are_the_whole() -> None:
    assert abs(sum(mutations.shares(50_000, list(READERS)).values()) - 50_000) < 500
