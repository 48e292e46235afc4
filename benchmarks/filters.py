"""Pruning at equal measured latency: ours against the smallest filters of every layer, repair on and off for both."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.contest.arena import specs
from benchmarks.networks.bundle import Bundle
from benchmarks.recovery import Bench
from hasten import registry
from hasten.frontends.onnx import load
from hasten.measure import steps as stairs
from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.passes.prune import Prune
from hasten.protocols import NotApplicable
from hasten.quant.allocate import Option
from hasten.samples import load_samples
from hasten.search import offers, shrink
from hasten.search.prepare import cut
from hasten.search.shrink import Knob
from hasten.search.workshop import Material, calibration

SAVED = (0.1, 0.2, 0.3)  # of the latency
JUDGED = 600  # samples
KEEPS = tuple(round(0.98 - 0.03 * i, 2) for i in range(26))
ROUNDS = 31
NEAR = 1.05  # times as slow counts as equal
CLOCK_SECONDS = 120.0  # for the times of all groups of channels


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
        rival, ms = matched(contest, ours, uniform)
        entries = {
            "hasten": ours,
            "hasten, no repair": Prune(counts=counts, repair="none")(contest.bench.model, contest.bench.context),
            f"smallest filters, keep {rival.keep:g}": uniform[rival],
            f"smallest filters, keep {rival.keep:g}, repaired": replace(rival, repair="once")(
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


def filters(contest: Contest) -> dict[Prune, Model]:
    """The other way: the same share of each layer's filters, the smallest gone, at every share; also in eights."""
    found = {}
    for prune in [Prune(keep=k, multiple=m, importance="magnitude", repair="none") for k in KEEPS for m in (1, 8)]:
        try:
            found[prune] = prune(contest.bench.model, contest.bench.context)
        except NotApplicable:
            continue
    return found


def matched(contest: Contest, ours: Model, uniform: Mapping[Prune, Model]) -> tuple[Prune, dict[str, float]]:
    """Of the networks within a twentieth of our time the one that keeps most; else the next slower one.

    Those that are faster than ours do not count: the benefit of the doubt is theirs.
    """
    models = {0: contest.bench.model, 1: ours, **{2 + i: m for i, m in enumerate(uniform.values())}}
    ms = contest.times(models)
    times = {prune: ms[2 + i] for i, prune in enumerate(uniform) if ms[2 + i] >= ms[1]}
    near = [prune for prune, t in times.items() if t <= NEAR * ms[1]] or [min(times, key=lambda p: times[p])]
    best = max(near, key=lambda p: (p.keep, times[p]))
    return best, {"float": ms[0], "ours": ms[1], "theirs": times[best]}
