"""The arithmetic of the front doors' benchmarks: whole notes, one network at three doors, the docs' table."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import door_tables, fuzz_doors, mutations, pitch
from benchmarks.markdown import filled
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


class Answers:
    """Stands in for the readers: every fifth file is refused, by its content."""

    def __init__(self, door: str) -> None:
        self.door = door

    def read(self, path: Path, place: Path) -> tuple[str, str]:
        odd = sum(path.read_bytes()) % 5 == 0
        return ("refused", "error: damaged") if odd else ("read", "")

    convert = read

    def close(self) -> None:
        pass


def test_a_fuzz_run_that_was_cut_short_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_doors, "Reader", Answers)
    monkeypatch.setattr(fuzz_doors, "Whole", Answers)
    seed = tmp_path / "seed.keras"
    with zipfile.ZipFile(seed, "w") as archive:
        for name, content in {
            "config.json": '{"a": [1, 2]}',
            "metadata.json": "{}",
            "model.weights.h5": "w" * 300,
        }.items():
            archive.writestr(name, content)
    whole = fuzz_doors.run(fuzz_doors.Told("keras"), seed, 300).plain()
    stored: list[dict[str, Any]] = []
    part = fuzz_doors.Told("keras")
    fuzz_doors.run(part, seed, 170, lambda: stored.append(json.loads(json.dumps(part.plain()))))
    assert [told["files"] for told in stored] == [50, 100, 150, 170]
    rest = fuzz_doors.run(fuzz_doors.Told.read(stored[2]), seed, 300).plain()
    assert (rest["fates"], rest["whole"]) == (whole["fates"], whole["whole"])
    assert sum(rest["fates"].values()) == 300
    assert rest["fates"]["refused"] > 10
    assert 5 < rest["whole"] <= 300 / fuzz_doors.WHOLE + len(mutations.MUTATIONS)
