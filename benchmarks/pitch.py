"""``python -m benchmarks.pitch PACKAGES OUT.json``: one network through three doors must end as one network.

Basic-pitch comes as its authors ship it: SavedModel, TFLite and ONNX. Each is optimised; the original in its own
runtime, the float graph that the search works on, and the winner are then asked about clips that no search has seen.
Exit 0 when

- every verdict is the same,
- each float graph agrees with its original's runtime to 1e-4 of an output's largest value,
- the scores of the originals agree, and those of the winners (F1 of whole notes, a score a clip): the 95 % intervals of
  all three paired differences, with Bonferroni's correction, hold zero.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import hasten
from benchmarks.doors import summary
from benchmarks.frontends import artefact
from benchmarks.networks import chords
from benchmarks.networks.bundle import Array
from hasten import compare, replies
from hasten.machine import machine
from hasten.samples import SampleStore, load_samples
from hasten.search.enter import Entered, enter
from hasten.trial import Result, plain
from hasten.worker import Worker

GIVEN = {
    "SavedModel": ("nmp", "input_2"),
    "TFLite": ("nmp.tflite", "input_2"),
    "ONNX": ("nmp.onnx", "serving_default_input_2:0"),
}
CLIPS, FRESH, FIRST_FRESH = 600, 200, 100_000
TOLERANCE, ALPHA, CHUNK = 1e-4, 0.05, 25
Answers = dict[str, Array]


def through(door: str, packages: Path, scratch: Path, seconds: float) -> dict[str, Any]:
    """One form of the network: optimised, and asked about fresh clips three times."""
    file, name = GIVEN[door]
    sounds, notes = chords.clips(CLIPS)
    path, out, data = packages / "basic_pitch" / file, scratch / "out", {name: sounds, "labels": notes}
    found = hasten.optimize(path, data, metric=chords.whole_note_f1, max_drop="1%", seed=0, seconds=seconds, out=out)
    entered = enter(path, scratch / "entered")
    fresh, fresh_notes = chords.clips(FRESH, FIRST_FRESH)
    store = load_samples({name: fresh}).spool(scratch / "fresh", entered.inputs)
    names = [o.name for o in entered.outputs]
    own = ask(entered.origin.engine, Path(entered.origin.path), entered.origin.settings, store, names)
    graph = Path(artefact(entered, "onnxruntime", {}, scratch / "graph", store))
    kept = served(entered, found, out)
    converted = ask("onnxruntime", graph, {}, store, names)
    won = ask(found.winner.candidate.engine, kept, found.winner.candidate.settings, store, names)
    return {
        **summary(found),
        "conversion_error": max(compare.compare(own[n], converted[n]).relative for n in names),
        "original_scores": [float(s) for s in chords.whole_note_f1(own, fresh_notes)],
        "winner_scores": [float(s) for s in chords.whole_note_f1(won, fresh_notes)],
    }


def served(entered: Entered, found: Result, out: Path) -> Path:
    """The file that the winner serves; what stayed as it was given is served from there."""
    if not found.winner.candidate.steps and found.winner.candidate == found.as_given.candidate:
        return Path(entered.origin.path)
    return next(p for p in sorted(out.glob("model.*"), reverse=True) if p.suffix not in (".bin", ".data"))


def ask(engine: str, path: Path, settings: Mapping[str, Any], store: SampleStore, names: list[str]) -> Answers:
    """All outputs by name, every clip on its own."""
    parts: dict[str, list[Array]] = {name: [] for name in names}
    with Worker(name=engine) as worker:
        replies.load(worker, engine, path, settings, names)
        for start in range(0, len(store), CHUNK):
            ids = list(range(start, min(start + CHUNK, len(store))))
            arrays = replies.run(worker, store.directory, ids).arrays
            for number, name in enumerate(names):
                parts[name] += arrays[number :: len(names)]
    return {name: np.concatenate(part) for name, part in parts.items()}


def pairs(rows: Mapping[str, Mapping[str, Any]], which: str) -> list[dict[str, Any]]:
    """Paired differences of the scores ``which`` between every two doors, with intervals that hold together."""
    found = []
    for one, other in combinations(rows, 2):
        d = np.subtract(rows[one][which], rows[other][which])
        half = float(stats.t.isf(ALPHA / 2 / len(GIVEN), len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5)
        low, high = float(d.mean()) - half, float(d.mean()) + half
        pair = {"scores": which, "one": one, "other": other, "difference": float(d.mean())}
        found.append({**pair, "equal": low <= 0 <= high, "interval": [low, high]})
    return found


def judged(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the three rows say together."""
    compared = [pair for which in ("original_scores", "winner_scores") for pair in pairs(rows, which)]
    errors = {door: row["conversion_error"] for door, row in rows.items()}
    return {
        "same_verdict": len({row["verdict"] for row in rows.values()}) == 1,
        "conversions_agree": max(errors.values()) <= TOLERANCE, "conversion_errors": errors,
        "scores_equal": all(pair["equal"] for pair in compared), "pairs": compared,
        "mean_scores": {door: [float(np.mean(row[f"{w}_scores"])) for w in ("original", "winner")]
                        for door, row in rows.items()},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--door", choices=tuple(GIVEN), action="append", help="these; the others as they were stored")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each search")
    arguments = parser.parse_args()
    rows: dict[str, Any] = json.loads(arguments.out.read_text())["doors"] if arguments.out.exists() else {}
    for door in arguments.door or GIVEN:
        with tempfile.TemporaryDirectory(prefix="hasten-") as folder:
            rows[door] = through(door, arguments.packages, Path(folder), arguments.seconds)
        print(door, rows[door]["sentence"], flush=True)
        told = {"machine": plain(machine()), "clips": CLIPS, "fresh_clips": FRESH, **judged(rows), "doors": rows}
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")
    found = judged(rows)
    print(json.dumps(found, indent=1))
    holds = all(found[what] for what in ("same_verdict", "conversions_agree", "scores_equal"))
    return 0 if holds and len(rows) == len(GIVEN) else 1


if __name__ == "__main__":
    sys.exit(main())
