"""The arithmetic of the front doors' benchmarks: whole notes, one network at three doors, the docs' table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import pitch, table
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


def test_the_table_of_doors_and_engines_is_what_was_measured() -> None:
    stored = json.loads(table.STORED.read_text())["networks"]
    docs = (Path(__file__).parents[1] / "docs" / "doors.md").read_text()
    assert set(stored) == set(table.TITLES)
    for line in table.rows(stored):
        assert line in docs
