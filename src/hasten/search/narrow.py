"""Stage 2: narrower arithmetic. A first timing of each kind on each engine, then answers and races, then mixes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from hasten.machine import cores
from hasten.search import forms, policy, space
from hasten.search.field import Run, first_line
from hasten.search.finalists import holds, looks_inside
from hasten.search.first_timing import NOTHING
from hasten.search.grounds import grounds, outclassed
from hasten.search.loading import ready
from hasten.search.lossless import near_settings
from hasten.search.mixed import plan_for
from hasten.search.mixes import DEEP, Ground
from hasten.search.objective import bytes_count, first_span, quick_ms
from hasten.search.rounding import Rounding, choose_rounding, plain_rounding, recovered
from hasten.search.screening import outrun, screen
from hasten.search.waves import come_back, drop_losers, first_timings, race_beside, try_all
from hasten.trial import Candidate, Scalar, Step
from hasten.worker import CallFailed, WorkerDied

HEAVY = 32 << 20  # bytes: a smaller network stays in the processor's cache, and waits for no weights
COMPARED = 40  # runs of the network that comparing calibration methods takes at least

Settings = dict[str, list[dict[str, Scalar]]]


@dataclass(frozen=True)
class Int8:
    """Static int8 on the engines that have it, beside those narrow floats that pay on each."""

    engines: Mapping[str, Any]
    floats: Mapping[str, Sequence[Mapping[str, Scalar]]]

    def candidates(self, settings: Settings, rounding: Rounding) -> dict[str, list[Candidate]]:
        """By engine: every variant with each of its settings."""
        found: dict[str, list[Candidate]] = {}
        for name, engine in self.engines.items():
            variants = space.first_variants(engine.scheme, rounding.options, rounding.attends)
            several = (
                space.static(name, engine, variants, own, self.floats[name], rounding.before)
                for own in settings.get(name, [])
            )
            found[name] = [candidate for some in several for candidate in some]
        return found


def narrow_stage(run: Run, engines: dict[str, Any], tuned: str, threads: int | None, baseline_ms: float) -> None:
    """First timings of a narrow float and of int8 on every engine, then everything else, then a mix of both."""
    if run.splits.lossless_only:
        return  # no samples of the user: only what leaves the answers alone was tried
    near = near_settings(run)
    base = {name: settings[0] for name, settings in near.items()}
    floats = forms.fitting(space.narrow_floats(engines, base, cores(), threads, run.sizes), run)
    stock = first_of_each(floats)
    first = first_timings(run, stock)
    useful = {name: [n for n in space.narrowings(e) if pays(run, floats, name, n)] for name, e in engines.items()}
    able = {name: engines[name] for name in fastest_first(run, engines) if "int8" in engines[name].formats()}
    others = [c for c in floats if c not in stock]
    if not able:
        try_all(run, first, tuned)
        try_all(run, others, tuned)
        return
    scheme, int8 = next(iter(able.values())).scheme, Int8(able, useful)
    rounding = first_rounding(run, scheme)
    heads: Settings = {n: near.get(n, [{}])[:1] for n in able}
    several: Settings = {n: near.get(n, [{}]) for n in able}
    first += first_timings(run, every(int8.candidates(heads, rounding)))
    try_all(run, sorted(first, key=lambda c: quick_ms(run, c.key)), tuned)
    until = mix_begins(run) if none_inside(run, every(int8.candidates(heads, rounding))) else inf
    others += space.dynamic(engines, base, per_tensor=run.per_tensor, before=rounding.before)
    try_all(run, first_timings(run, [*others, *every(int8.candidates(several, rounding))], until), tuned, until)
    for other in (chosen_late, recovered):
        if run.over() or not none_inside(run, every(int8.candidates(several, rounding))):
            break
        before, rounding = rounding, other(run, scheme, rounding)
        if rounding != before:
            try_all(run, first_timings(run, every(int8.candidates(heads, rounding)), until), tuned, until)
    come_back(run, tuned)
    if not run.over(until):
        weights_alone(run, engines, base, every(int8.candidates(heads, rounding)), tuned, rounding.before)
    if not bytes_count(run):
        mix_formats(run, grounds(run, engines, int8.candidates(several, rounding), rounding), tuned, baseline_ms)
        come_back(run, tuned)


def first_of_each(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first candidate of each engine and narrow format: that with the stock settings."""
    found: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        found.setdefault((candidate.engine, str(candidate.settings.get("precision"))), candidate)
    return list(found.values())


def none_inside(run: Run, int8: Sequence[Candidate]) -> bool:
    """Does no candidate of ``int8`` look inside the budget?"""
    return not any(looks_inside(run, candidate.key) for candidate in int8)


def mix_begins(run: Run) -> float:
    """When other settings have to stop, so that a mixed plan can be made; never where nobody waits for an end."""
    return run.clock + float(policy.MIX_SHARE) * (run.deadline - run.clock) if run.deadline < inf else inf


def first_rounding(run: Run, scheme: str) -> Rounding:
    """The calibration method: compared where that leaves time for a first timing of int8 in the first third."""
    if run.over():
        return plain_rounding(run)
    takes = (COMPARED + 3 * len(run.splits.calibrate)) * run.usual_ms / 1000
    if run.seconds < inf and time.monotonic() + takes > run.at_share(float(policy.FIRST_SHARE)):
        run.say("note", f"calibration: mse at first; comparing methods takes about {takes:.0f} s")
        return plain_rounding(run)
    return choose_rounding(run, scheme)


def chosen_late(run: Run, scheme: str, rounding: Rounding) -> Rounding:
    """The calibration method compared now, where it was not at first and there is time for it."""
    takes = COMPARED * run.usual_ms / 1000
    return choose_rounding(run, scheme) if rounding.harm == inf and run.affords(takes) else rounding


def mix_formats(run: Run, able: Sequence[Ground], tuned: str, baseline_ms: float) -> None:
    """Plan for one engine after the other; say which ones no time was left for."""
    for done, ground in enumerate(able):
        if run.over():
            left = dict.fromkeys(f"{g.engine} (int8 with {g.wide_format})" for g in able[done:])
            run.not_planned(f"no time was left to mix formats on {', '.join(left)}")
            return
        if not outclassed(run, ground):
            mix(run, ground, tuned, baseline_ms)


def weights_alone(
    run: Run, engines: dict[str, Any], base: dict[str, dict[str, Scalar]], int8: Sequence[Candidate], tuned: str,
    before: Sequence[Step],
) -> None:  # fmt: skip
    """Narrow the weights only, where the network outgrows the cache or bytes count."""
    if (run.trials[run.given].bytes or 0) <= HEAVY and not bytes_count(run):
        return
    proven = [] if bytes_count(run) else [first_span(run, c.key) for c in int8 if holds(run, c)]
    best = min(proven, key=lambda s: s.middle, default=NOTHING)
    able = first_timings(run, space.weight_only(engines, base, before))
    for candidate in (c for c in able if first_span(run, c.key).behind(best)):
        outrun(run, candidate, best.middle, "by one that is likely to pass the test")
    try_all(run, [c for c in able if run.trials[c.key].status == "ok"], tuned)


def every(static: dict[str, list[Candidate]]) -> list[Candidate]:
    """The static candidates of all engines."""
    return [candidate for several in static.values() for candidate in several]


def pays(run: Run, floats: Sequence[Candidate], engine: str, narrowing: Mapping[str, Scalar]) -> bool:
    """Is a candidate of ``floats`` with these lossy settings faster than the engine's float32 at a first look?"""
    wide = [quick_ms(run, k) for k, t in run.trials.items() if t.candidate.lossless and t.candidate.engine == engine]
    with_it = (c for c in floats if c.engine == engine and narrowing.items() <= c.settings.items())
    return any(quick_ms(run, c.key) < min(wide, default=inf) for c in with_it)


def mix(run: Run, ground: Ground, tuned: str, baseline_ms: float) -> None:
    """Plan for one engine, then screen and race what came out of it like any other wave."""
    try:
        keys = plan_for(run, ground, baseline_ms)
    except (WorkerDied, CallFailed) as fault:
        run.not_planned(f"no mixed precision for {ground.engine}: {first_line(fault)}", "warning")
        return
    for key in keys:
        if run.trials[key].search is None and ready(run, run.trials[key].candidate):
            screen(run, run.trials[key].candidate, DEEP)
    race_beside(run, [k for k in keys if k in run.loaded], tuned)
    drop_losers(run, tuned)


def fastest_first(run: Run, engines: dict[str, Any]) -> list[str]:
    """Engines by their best speed so far on this network, so that time runs out on the less promising ones."""
    best = dict.fromkeys(engines, 0.0)
    for trial in run.trials.values():
        if trial.timing and trial.candidate.engine in best and trial.candidate.steps:
            best[trial.candidate.engine] = max(best[trial.candidate.engine], trial.timing.speedup)
    return sorted(best, key=lambda name: -best[name])
