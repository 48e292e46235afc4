"""Records for ``small_data``: ``python -m benchmarks.small_data_record NETS magika ppocr_cls ...``.

One search a network tries its candidates; every one that runs is then scored on every sample, sample by sample, also
those over the budget. ``results/small_data/NAME.npz`` keeps the scores of both networks, the divergence of a random
part of the answers, and the speed-ups. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import hasten
from benchmarks.networks import bundle
from hasten.measure.divergence import DECIDES, mean_divergence
from hasten.measure.evaluate import NewNaN
from hasten.search import final
from hasten.search.baseline import measure_baseline
from hasten.search.field import Run
from hasten.search.loading import SERVES, baseline, ready
from hasten.search.objective import gain
from hasten.worker import CallFailed, WorkerDied

FOLDER = Path(__file__).with_name("results") / "small_data"
MOST = 24  # candidates a network, the fastest of those that were raced or looked at
WEIGHED = 192  # samples whose answers' divergence is kept
SECONDS = 60.0
FASTEST, SLOWEST = 50.0, 1.02


def record(run: Run, tuned: str, most: int = MOST) -> dict[str, Any]:
    """Scores of every candidate on every sample."""
    every = list(range(len(run.evaluator.store)))
    some = [int(i) for i in np.random.default_rng(0).permutation(len(every))[:WEIGHED]]
    measure_baseline(run, every)
    old = [answers for _, answers in run.evaluator.answers(baseline(run), some)]
    classes = run.evaluator.metric.name in DECIDES
    rows, harms, labels, speeds = list[NDArray[Any]](), list[list[float]](), list[str](), list[float]()
    for key in fastest(run)[:most]:
        candidate = run.trials[key].candidate
        if not ready(run, candidate, SERVES):
            continue
        try:
            mine = run.evaluator.rows(run.loaded[key], every)
            new = [answers for _, answers in run.evaluator.answers(run.loaded[key], some)]
        except (WorkerDied, CallFailed, NewNaN):
            continue
        finally:
            run.retire([key])
        rows.append(mine)
        harms.append([mean_divergence([a], [b], classes=classes) for a, b in zip(old, new, strict=True)])
        labels.append(candidate.label)
        speeds.append(speed(run, key))
        print(f"  {candidate.label}: {speeds[-1]:.2f}", flush=True)
    best = gain(run, tuned) if tuned != run.given else 1.0
    return {
        "baseline": run.evaluator.known(every), "candidates": np.stack(rows), "harm": np.array(harms), "some": some,
        "speed": np.array(speeds), "lossless": best, "labels": np.array(labels),
    }  # fmt: skip


def speed(run: Run, key: str) -> float:
    """The speed-up of a race, else of a first look."""
    trial = run.trials[key]
    return gain(run, key) or (run.usual_ms / trial.quick_ms if trial.quick_ms else 0.0)


def fastest(run: Run) -> list[str]:
    """Lossy candidates that run and are faster than the baseline, one of each recipe and engine."""
    able = [k for k, t in run.trials.items() if not t.candidate.lossless and t.status in SERVES and k != run.given]
    ordered = sorted((k for k in able if SLOWEST < speed(run, k) < FASTEST), key=lambda k: -speed(run, k))
    first: dict[str, str] = {}
    for key in ordered:
        c = run.trials[key].candidate
        first.setdefault(json.dumps([str(c.steps), c.engine, str(c.settings.get("precision"))]), key)
    return list(first.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--most", type=int, default=MOST)
    asked = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in asked.names:
        one(bundle.read(asked.nets / name), asked.most)


def one(given: bundle.Bundle, most: int) -> None:
    """Search, record and store."""
    kept: dict[str, Any] = {}

    def confirm_stage(run: Run, tuned: str) -> tuple[str, Sequence[Any]]:
        kept.update(record(run, tuned, most))
        return run.given, []

    meta = given.meta
    with mock.patch.object(final, "confirm_stage", confirm_stage), tempfile.TemporaryDirectory() as out:
        hasten.optimize(
            given.model, given.data, max_drop=meta.budget, metric=meta.metric, output=meta.output or None,
            batch=meta.batch, state=meta.state or None, seconds=SECONDS, out=Path(out) / "out", progress=False,
        )  # fmt: skip
    target = FOLDER / f"{meta.name}.npz"
    kept |= {"metric": meta.metric, "budget": meta.budget}
    np.savez_compressed(target, allow_pickle=False, **{k: narrowed(v) for k, v in kept.items()})
    print(f"{meta.name}: {len(kept['labels'])} candidates, {target.stat().st_size >> 10} KiB", flush=True)


def narrowed(value: Any) -> NDArray[Any]:
    """Single precision is enough."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


if __name__ == "__main__":
    main()
