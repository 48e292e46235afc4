"""What pruning and factorising buy: ``python -m benchmarks.structure {equal,search,without} NETS SCRATCH NAME ...``.

``equal``   structured pruning at equal measured latency: channels by compensated loss and measured time, refitted,
            against the same share of every layer's filters, smallest first, nothing refitted (Li et al., ICLR 2017).
            Repair on and off for both; float32 in ONNX Runtime; judged on samples that no choice saw.
``search``  what the search makes of it on top of precision: its structural candidates and their fates.
``without`` where one of them won: the search once more, without structure. The two answers, each tested inside the
            budget, are then timed in interleaved pairs. Goes on from what ``search`` left in SCRATCH.

Results go to ``results/structure.json``; earlier networks stay there. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import hasten
from benchmarks.filters import equal
from benchmarks.networks import bundle
from benchmarks.networks.bundle import Bundle
from hasten import api
from hasten.protocols import Event
from hasten.search import structure
from hasten.trial import Result, Trial

RESULT = Path(__file__).parent / "results" / "structure.json"
SECONDS = 240.0  # of a search
PAIRS = 100  # of interleaved blocks
STRUCTURAL = ("prune", "factorize", "sparsify")


def search(found: Bundle, scratch: Path) -> list[dict[str, Any]]:
    """What the search makes of structure."""
    begin = time.perf_counter()
    on = optimised(found, scratch / f"{found.meta.name}-on")
    row: dict[str, Any] = {
        "network": found.meta.name, "budget": found.meta.budget, "seconds": round(time.perf_counter() - begin, 1),
        "with": on.sentence, "winner": on.winner.candidate.label, "structural": structural(on.winner),
        "candidates": [fate(trial) for trial in on.trials if structural(trial)], "bought": None,
    }  # fmt: skip
    print(json.dumps(row, indent=1), flush=True)
    return [row]


def without(found: Bundle, scratch: Path) -> list[dict[str, Any]]:
    """What structure bought: the answer of a search that knows nothing of it, beside the one that ``search`` found."""
    [row] = [row for row in json.loads(RESULT.read_text())["search"] if row["network"] == found.meta.name]
    if not row["structural"]:
        return [row]
    with mock.patch.object(structure, "structure_stage"):
        off = optimised(found, scratch / f"{found.meta.name}-off")
    folders: list[str | Path] = [scratch / f"{found.meta.name}-{side}" for side in ("off", "on")]
    state = found.meta.state or None
    pair = api.bench(folders, found.data, batch=found.meta.batch, pairs=PAIRS, state=state)[1]
    row |= {
        "without": off.sentence, "winner_without": off.winner.candidate.label,
        "bought": {k: pair[k] for k in ("speedup", "low", "high", "pairs")},
    }  # fmt: skip
    print(json.dumps({k: v for k, v in row.items() if k != "candidates"}, indent=1), flush=True)
    return [row]


def optimised(found: Bundle, out: Path) -> Result:
    """A whole search with nothing left of earlier ones: no run to go on from, no looks at the samples."""
    shutil.rmtree(out, ignore_errors=True)
    meta = found.meta
    with TemporaryDirectory() as cache, mock.patch.dict(os.environ, {"XDG_CACHE_HOME": cache}):
        return hasten.optimize(
            found.model, found.data, max_drop=meta.budget, metric=meta.metric, output=meta.output or None,
            groups=meta.groups or None, state=meta.state or None, batch=meta.batch, seconds=SECONDS, out=out,
            listen=tell,
        )  # fmt: skip


def tell(event: Event) -> None:
    """Progress, with the seconds that are left."""
    left = "" if event.seconds_left is None else f"{event.seconds_left:5.0f} s left"
    print(f"{left}  {event.kind}: {event.text}", flush=True)


def structural(trial: Trial) -> bool:
    """Does it take something out of the network?"""
    return any(step.name in STRUCTURAL for step in trial.candidate.steps)


def fate(trial: Trial) -> dict[str, Any]:
    """A candidate in few words."""
    quality = trial.confirm or trial.search
    found: dict[str, Any] = {"label": trial.candidate.label, "status": trial.status, "reason": trial.reason}
    if quality is not None:
        found |= {"split": quality.split, "n": quality.n, "drop": quality.drop, "upper": quality.upper}
    if trial.timing is not None:
        found |= {"speedup": trial.timing.speedup, "low": trial.timing.low, "high": trial.timing.high}
    return found


def save(part: str, name: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows in place of older ones of the same network."""
    old: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    kept = [row for row in old.get(part, []) if row["network"] != name]
    RESULT.write_text(json.dumps({**old, part: kept + rows}, indent=1) + "\n")


PARTS = {"equal": equal, "search": search, "without": without}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("nets", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        found = bundle.read(options.nets / name)
        rows = PARTS[options.part](found, options.scratch)
        save("equal" if options.part == "equal" else "search", name, rows)


if __name__ == "__main__":
    main()
