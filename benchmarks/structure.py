"""What pruning and factorising buy: ``python -m benchmarks.structure {equal,search,without} NETS SCRATCH NAME ...``.

``equal``   structured pruning at equal measured latency: channels by compensated loss and measured time, refitted,
            against the same share of every layer's filters, smallest first, nothing refitted (Li et al., ICLR 2017).
            Repair on and off for both; float32 in ONNX Runtime; judged on samples that no choice saw.
``search``  what the search makes of it on top of precision: its structural candidates and their fates.
``without`` where one of them won: the search once more, without structure. The two answers, each proven inside the
            budget, are then timed in interleaved pairs. Goes on from what ``search`` left in SCRATCH.

Results go to ``results/structure.json``; earlier networks stay there. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import msgspec

import hasten
from benchmarks.contest.arena import specs
from benchmarks.networks import bundle
from benchmarks.networks.bundle import Bundle
from benchmarks.recovery import Bench
from hasten import api, registry
from hasten.frontends.onnx import load
from hasten.measure import steps as stairs
from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.passes.prune import Prune
from hasten.protocols import Event, NotApplicable
from hasten.quant.allocate import Option
from hasten.samples import load_samples
from hasten.search import offers, shrink, structure
from hasten.search.prepare import cut
from hasten.search.shrink import Knob
from hasten.search.workshop import Material, calibration
from hasten.trial import Result, Trial

RESULT = Path(__file__).parent / "results" / "structure.json"
SAVED = (0.1, 0.2, 0.3)  # of the latency
JUDGED = 600  # samples
KEEPS = tuple(round(0.98 - 0.02 * i, 2) for i in range(37))
ROUNDS = 31
CLOCK_SECONDS = 120.0  # for the times of all groups of channels
SECONDS = 240.0  # of a search
PAIRS = 100  # of interleaved blocks
STRUCTURAL = ("prune", "factorize", "sparsify")


@dataclass(frozen=True)
class Contest:
    """A network at hand: its bench, and what builders are told of it."""

    bench: Bench
    material: dict[str, Any]

    def times(self, models: Mapping[int, Model]) -> dict[int, float]:
        """Median milliseconds of whole networks in ONNX Runtime, in turns on one sample."""
        engine = registry.find("engines", "onnxruntime")
        return stairs.times(models, engine, {}, self.bench.store.sample(self.bench.judged[0]), rounds=ROUNDS)


def equal(found: Bundle, scratch: Path) -> list[dict[str, Any]]:
    """A row a share saved and a way of pruning."""
    contest = opened(found, scratch)
    rows = []
    base = contest.bench.score(contest.bench.float_answers)
    uniform = filters(contest)
    knobs, options = measured(contest)
    whole = contest.times({0: contest.bench.model})[0]
    for share in SAVED:
        plan = offers.saving(options, share * whole)
        if plan is None:
            rows.append({"network": found.meta.name, "saved": share, "note": "no choice of channels saves so much"})
            continue
        counts = tuple(f"{name}={knobs[name].told[o.size]}" for name, o in plan.chosen.items() if o.size)
        ours = Prune(counts=counts)(contest.bench.model, contest.bench.context)
        keep, ms = matched(contest, ours, uniform)
        entries = {
            "hasten": ours,
            "hasten, no repair": Prune(counts=counts, repair="none")(contest.bench.model, contest.bench.context),
            f"smallest filters, keep {keep:g}": uniform[keep],
            f"smallest filters, keep {keep:g}, repaired": Prune(keep=keep, multiple=1, importance="magnitude")(
                contest.bench.model, contest.bench.context
            ),
        }
        for way, model in entries.items():
            divergence, score = contest.bench.judge(model, "onnxruntime")
            own = ms["ours"] if way.startswith("hasten") else ms["theirs"]
            row = {"network": found.meta.name, "saved": share, "way": way, "ms": own, "float_ms": ms["float"]}
            rows.append(
                {**row, "score": score, "float": base, "divergence": divergence, "n": len(contest.bench.judged)}
            )
            told = f"{own:7.3f} ms of {ms['float']:.3f}  score {score:.4f} of {base:.4f}  divergence {divergence:.2e}"
            print(f"{found.meta.name:20} {share:.0%} {way:40} {told}", flush=True)
    return rows


def opened(found: Bundle, scratch: Path) -> Contest:
    """The tidied network with its calibrate split, for passes and for builders, and confirm samples to judge on."""
    meta = found.meta
    samples = load_samples(found.data, groups=meta.groups or None, state=meta.state)
    store = samples.spool(scratch / meta.name, specs(found.model)[0])
    splits = cut(store)
    folder = scratch / f"{meta.name}-structure"
    folder.mkdir(exist_ok=True)
    given = {"store": str(store.directory), "calibrate": [int(i) for i in splits.calibrate]}
    material = {"source": str(folder / "model.onnx"), **given, "cache": str(folder / "stats.npz")}
    context = calibration(Material.read(**material)).context()  # type: ignore[arg-type]
    model = load(found.model)
    with suppress(NotApplicable):
        model = Clean()(model, context)
    model.save(folder / "model.onnx")
    bench = Bench(found, model, store, context, [int(i) for i in splits.confirm[:JUDGED]])
    bench.float_answers = bench.answers(model, "onnxruntime")
    return Contest(bench, material)


def measured(contest: Contest) -> tuple[dict[str, Knob], dict[str, list[Option]]]:
    """Every group of channels with the loss and the measured time of each size."""
    told = shrink.survey(**contest.material, way="prune")["knobs"]
    knobs = {k.name: k for k in msgspec.convert(told, list[Knob])}
    given: dict[str, Any] = {"way": "prune", "engine": "onnxruntime", "settings": {}, "steps": [], "batch": 1}
    ms = shrink.clock(**contest.material, **given, knobs=told, seconds=CLOCK_SECONDS)
    options = {n: [Option(i, k.loss[i], ms[n][i]) for i in range(len(k.told))] for n, k in knobs.items() if n in ms}
    return knobs, options


def filters(contest: Contest) -> dict[float, Model]:
    """The other way: the same share of each layer's filters, the smallest gone, at every share."""
    found = {}
    for keep in KEEPS:
        try:
            prune = Prune(keep=keep, multiple=1, importance="magnitude", repair="none")
            found[keep] = prune(contest.bench.model, contest.bench.context)
        except NotApplicable:
            continue
    return found


def matched(contest: Contest, ours: Model, uniform: Mapping[float, Model]) -> tuple[float, dict[str, float]]:
    """The largest share of filters whose network is not slower than ours: never less time than we take."""
    models = {0: contest.bench.model, 1: ours, **{2 + i: m for i, m in enumerate(uniform.values())}}
    ms = contest.times(models)
    near = min(range(len(uniform)), key=lambda i: abs(ms[2 + i] - ms[1]))
    slower = [i for i in range(len(uniform)) if ms[2 + i] >= ms[1]]  # the benefit of the doubt is theirs
    best = min(slower, key=lambda i: ms[2 + i] - ms[1], default=near)
    return list(uniform)[best], {"float": ms[0], "ours": ms[1], "theirs": ms[2 + best]}


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
    pair = api.bench(folders, found.data, batch=found.meta.batch, pairs=PAIRS)[1]
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
