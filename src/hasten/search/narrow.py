"""Stage 2: narrower arithmetic. Floats first, then int8 everywhere, then int8 only where it pays, engine by engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from hasten.machine import cores
from hasten.search import forms, space
from hasten.search.field import SCREEN_ROUNDS, Run, build_all, first_line
from hasten.search.finalists import clearly_inside, finalists, holds, looks_inside
from hasten.search.grounds import grounds, outclassed
from hasten.search.loading import ready
from hasten.search.lossless import near_settings
from hasten.search.mixed import plan_for
from hasten.search.mixes import DEEP, Ground
from hasten.search.objective import better, bytes_count, far_behind, gain, quick_ms, rested_ms, taken_ms
from hasten.search.rounding import choose_rounding, recovered
from hasten.search.screening import hopelessly_slow, outrun, race, screen, too_slow
from hasten.search.untried import NOT_TRIED
from hasten.trial import Candidate, Scalar, Step, Trial
from hasten.worker import CallFailed, WorkerDied

HELD = 2  # of a wave between its first look and its turn; the others are loaded again
HEAVY = 32 << 20  # bytes: a smaller network stays in the processor's cache, and waits for no weights


def narrow_stage(run: Run, engines: dict[str, Any], tuned: str, threads: int | None, baseline_ms: float) -> None:
    """Narrow floats and dynamic int8, then static int8 on every engine, then a mix of both, engine by engine."""
    if run.splits.lossless_only:
        return  # no samples of the user: only what leaves the answers alone was tried
    near = near_settings(run)
    base = {name: settings[0] for name, settings in near.items()}
    floats = space.narrow_floats(engines, base, cores(), threads, run.sizes)
    try_all(run, floats, tuned)
    useful = {name: [n for n in space.narrowings(e) if pays(run, floats, name, n)] for name, e in engines.items()}
    able = {name: engines[name] for name in fastest_first(run, engines) if "int8" in engines[name].formats()}
    if run.over() or not able:
        return
    scheme = next(iter(able.values())).scheme
    rounding = choose_rounding(run, scheme)

    def static() -> dict[str, list[Candidate]]:
        first = {n: space.first_variants(e.scheme, rounding.options, rounding.attends) for n, e in able.items()}
        return {
            n: [c for own in near.get(n, [{}]) for c in space.static(n, e, first[n], own, useful[n], rounding.before)]
            for n, e in able.items()
        }

    int8 = static()
    dynamic = space.dynamic(engines, base, per_tensor=run.per_tensor, before=rounding.before)
    try_all(run, quickest_first(run, [*every(int8), *dynamic]), tuned)
    if not run.over() and not any(looks_inside(run, candidate.key) for candidate in every(int8)):
        plain, rounding = rounding, recovered(run, scheme, rounding)
        if rounding.before != plain.before:
            int8 = static()
            try_all(run, quickest_first(run, every(int8)), tuned)
    if not run.over():
        weights_alone(run, engines, base, every(int8), tuned, rounding.before)
    if not bytes_count(run):
        mix_formats(run, grounds(run, engines, int8, rounding), tuned, baseline_ms)


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
    proven = [quick_ms(run, c.key) for c in int8 if holds(run, c)]
    to_beat = inf if bytes_count(run) else min(proven, default=inf)
    try_all(run, quickest_first(run, space.weight_only(engines, base, before), to_beat), tuned)


def every(static: dict[str, list[Candidate]]) -> list[Candidate]:
    """The static candidates of all engines."""
    return [candidate for several in static.values() for candidate in several]


def pays(run: Run, floats: Sequence[Candidate], engine: str, narrowing: Mapping[str, Scalar]) -> bool:
    """Is a candidate of ``floats`` with these lossy settings faster than the engine's float32 at a first look?"""
    wide = [quick_ms(run, k) for k, t in run.trials.items() if t.candidate.lossless and t.candidate.engine == engine]
    with_it = (c for c in floats if c.engine == engine and narrowing.items() <= c.settings.items())
    return any(quick_ms(run, c.key) < min(wide, default=inf) for c in with_it)


def quickest_first(run: Run, candidates: Sequence[Candidate], to_beat: float = inf) -> list[Candidate]:
    """Build all, look at the clock, and leave out what cannot win any more.

    That is what is behind ``to_beat`` milliseconds, of another that holds. Only the fastest stay in memory meanwhile.
    """
    build_all(run, candidates)
    able: list[Candidate] = []
    for candidate in candidates:
        if ready(run, candidate) and not hopelessly_slow(run, candidate, inf):
            able = sorted([*able, candidate], key=lambda c: quick_ms(run, c.key))
            run.retire(c.key for c in able[HELD:])
    for candidate in [c for c in able if quick_ms(run, c.key) > to_beat]:
        outrun(run, candidate, to_beat, "by one that is likely to pass the test")
    return [c for c in able if run.trials[c.key].status == "ok"]


def outdone(run: Run, candidate: Candidate) -> bool:
    """Leave out what another beats clearly that looks inside the budget and does no more harm, or clearly is inside.

    A faster one that does more harm is no reason: it may fail the proof, and this one pass.
    """
    if bytes_count(run):
        return False
    mine = run.trials[candidate.key].harm or 0.0
    others = [
        k for k, t in run.trials.items() if t.status == "ok" and not t.candidate.lossless and looks_inside(run, k)
    ]
    no_worse = {k for k in others if (run.trials[k].harm or 0.0) <= mine}
    safer = [k for k in others if k in no_worse or clearly_inside(run, k)]
    taken = {k: rested_ms(run, k) for k in safer}
    best = min(taken, key=lambda k: taken[k], default=None)
    if best is None or not far_behind(rested_ms(run, candidate.key), taken[best]):
        return False
    whose = "by one that does no more harm" if best in no_worse else "by one that is clearly inside the budget"
    outrun(run, candidate, taken[best], whose)
    return True


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


def try_all(run: Run, candidates: Sequence[Candidate], tuned: str) -> None:
    """Build, load, screen and race one wave of candidates; keep the few that can still win."""
    candidates = forms.fitting(candidates, run)
    if run.over():
        out_of_time(run, candidates)
        return
    wave: list[str] = []
    to_beat = inf if bytes_count(run) else reigning_ms(run, tuned)
    for done, candidate in enumerate(candidates):
        if run.over():
            out_of_time(run, candidates[done:])
            break
        run.say("trial", candidate.label, done, len(candidates))
        fast = quick_enough(run, candidate, to_beat) and not outdone(run, candidate) and ready(run, candidate)
        if fast and screen(run, candidate) is not None:
            wave.append(candidate.key)
    race_beside(run, wave, tuned)
    drop_losers(run, tuned)


def quick_enough(run: Run, candidate: Candidate, to_beat: float) -> bool:
    """Not clearly behind the milliseconds ``to_beat`` at a first look, which is taken where that was not done yet."""
    if quick_ms(run, candidate.key) == inf:
        return ready(run, candidate) and not hopelessly_slow(run, candidate, to_beat)
    return not too_slow(run, candidate, to_beat)


def reigning_ms(run: Run, tuned: str) -> float:
    """The latency of the best lossless setting, on the scale of quick looks; infinite where it was not timed."""
    timed = run.trials[tuned].timing
    if timed is None:
        return inf
    return taken_ms(run, tuned) if run.usual_ms else timed.median_ms


def race_beside(run: Run, keys: Sequence[str], tuned: str) -> None:
    """Race with the best lossless setting among them: what an earlier race said of it may not hold any more."""
    if keys:
        race(run, [*keys, tuned] if tuned != run.given else keys, SCREEN_ROUNDS)


def out_of_time(run: Run, candidates: Sequence[Candidate]) -> None:
    """Even what was never tried is told."""
    for candidate in candidates:
        reason = NOT_TRIED + ("the search was stopped" if run.stopping() else "the search's time was up")
        run.record(Trial(candidate=candidate, status="skipped", reason=reason, stage=run.stage))


def drop_losers(run: Run, tuned: str) -> None:
    """Leave out what is slower than the best lossless setting. Who may still win is loaded again when it races."""
    floor = run.trials[tuned].timing.low if tuned != run.given and run.trials[tuned].timing else 1.0  # type: ignore[union-attr]
    alive = [k for k, t in run.trials.items() if t.status == "ok" and not t.candidate.lossless]
    for key in alive:
        timed = run.trials[key].timing
        if timed is not None and timed.high < floor and not bytes_count(run):
            text = f"{timed.speedup:.2f}×, slower than the best lossless setting"
            run.update(key, status="slower", reason=text)
    run.retire(k for k in run.loaded if k != run.given)
    promising = [run.trials[k] for k in finalists(run)]
    best = max((gain(run, t.candidate.key) for t in promising), default=1.0)
    if best > run.best:
        run.best = best
        label = next(t.candidate.label for t in promising if gain(run, t.candidate.key) == best)
        run.say("best", f"{label}: {best:.2f}× {better(run)}, looks inside the budget")
