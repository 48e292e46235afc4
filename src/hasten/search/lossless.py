"""Stage 1: every engine in float32, in a handful of first timings: the baseline for everything narrower."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from hasten import compare
from hasten.machine import cores
from hasten.search import answers, edges, forms, pace, policy, space
from hasten.search.field import CONTENDERS, RESTED_ROUNDS, SCREEN_ROUNDS, Run, race_rounds
from hasten.search.finalists import WORTH
from hasten.search.loading import lost, ready
from hasten.search.objective import NEAR, first_span, given_span, quick_ms, speed
from hasten.search.screening import hopelessly_slow, out_of_time, outrun, race
from hasten.trial import Candidate, Scalar
from hasten.worker import CallFailed, WorkerDied

RACED = 5  # processes alive at once; each holds a copy of the network
THEIR_SHARE = "lossless settings had their share of the time"


def lossless_stage(run: Run, engines: dict[str, Any], threads: int | None) -> str:
    """Every engine in float32. Returns the key of the fastest whose answers are the baseline's, if need be its own.

    What has to be compiled waits for ``compiled_stage``.
    """
    candidates = [c for c in candidates_of(run, engines, threads) if not forms.baked(c)]
    until = lossless_until(run)
    racing = timed_first(run, candidates, until)
    race(run, racing, SCREEN_ROUNDS)
    if (able := contenders(run, racing)) and fits(run, len(able) + 1, until):
        race(run, able, RESTED_ROUNDS, rested=True)
    return chosen(run, able, racing)


def compiled_stage(run: Run, engines: dict[str, Any], threads: int | None, tuned: str) -> str:
    """Those that compile the network ahead of time, which takes tens of seconds: where the time allows it."""
    candidates = [c for c in candidates_of(run, engines, threads) if forms.baked(c)]
    able = [c for c in candidates if run.seconds == inf or run.affords(float(policy.COMPILE_SECONDS))]
    out_of_time(run, [c for c in candidates if c not in able], "compiling takes longer than the time that was left")
    racing = timed_first(run, able, inf)
    if not racing:
        return tuned
    others = [tuned] if tuned != run.given else []
    race(run, [*racing, *others], SCREEN_ROUNDS)
    return chosen(run, contenders(run, [*racing, *others]), [*racing, *others])


def candidates_of(run: Run, engines: dict[str, Any], threads: int | None) -> list[Candidate]:
    """The lossless settings, the stock one of each engine first."""
    return in_turns(forms.fitting(space.lossless(engines, cores(), threads, run.sizes), run))


def in_turns(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first of each engine, then the second of each, and so on."""
    count, order = dict[str, int](), list[tuple[int, Candidate]]()
    for candidate in candidates:
        turn = count[candidate.engine] = count.get(candidate.engine, 0) + 1
        order.append((turn, candidate))
    return [candidate for _, candidate in sorted(order, key=lambda pair: pair[0])]


def lossless_until(run: Run) -> float:
    """When lossless settings have had their share; only the search ends them where nothing else can be tried."""
    return inf if run.splits.lossless_only else run.at_share(float(policy.LOSSLESS_SHARE))


def fits(run: Run, sides: int, until: float) -> bool:
    """Does a race from sleeping threads end before ``until``?"""
    taken = pace.race_seconds(sides, race_rounds(run, sides, RESTED_ROUNDS), run.usual_ms, pace.REST_SECONDS)
    return until == inf or not run.over(until - taken)


def timed_first(run: Run, candidates: Sequence[Candidate], until: float) -> list[str]:
    """A first timing and a comparison of answers each. Returns those that may be the fastest, still loaded."""
    racing: list[str] = []
    most = int(float(policy.LOSSLESS_LOOKS))
    for done, candidate in enumerate(candidates):
        if run.over(until) or done == most:
            out_of_time(run, candidates[done:], "the search's time was up" if run.over() else THEIR_SHARE)
            break
        run.say("trial", candidate.label, done, len(candidates))
        if not ready(run, candidate) or hopelessly_slow(run, candidate, given_span(run)):
            continue
        if same_answers(run, candidate):
            racing = sorted([*racing, candidate.key], key=lambda k: quick_ms(run, k))
            racing = within_reach(run, racing)
    return racing


def within_reach(run: Run, racing: Sequence[str]) -> list[str]:
    """Of ``racing``, fastest first, those that the intervals leave; as many as may be loaded at once."""
    best, kept = first_span(run, racing[0]), list[str]()
    for key in racing:
        if first_span(run, key).behind(best):
            outrun(run, run.trials[key].candidate, best.middle, "by the fastest")
        elif len(kept) == RACED:
            outrun(run, run.trials[key].candidate, quick_ms(run, kept[-1]), f"by the slowest of the {RACED} that race")
        else:
            kept.append(key)
    return kept


def chosen(run: Run, able: Sequence[str], racing: Sequence[str]) -> str:
    """The fastest of ``able``, or the network as given; the others are closed."""
    alive = [k for k in racing if k in run.loaded]
    fastest = max((k for k in able if k in alive), key=lambda k: speed(run, k), default=run.given)
    tuned = fastest if speed(run, fastest) > WORTH else run.given
    run.retire(k for k in alive if k != tuned)
    if tuned != run.given and speed(run, tuned) > run.best:
        run.best = speed(run, tuned)
        run.say("best", f"{run.trials[tuned].candidate.label}: {run.best:.2f}×, answers unchanged")
    return tuned


def contenders(run: Run, keys: Sequence[str]) -> list[str]:
    """Those of ``keys`` that may be faster with pauses between requests, fastest first; a few at most.

    Who is a little behind while every core is warm may be ahead then.
    """
    able = [k for k in keys if k in run.loaded and speed(run, k) * NEAR > 1]
    return sorted(able, key=lambda k: -speed(run, k))[:CONTENDERS]


def same_answers(run: Run, candidate: Candidate) -> bool:
    """Gate for lossless candidates: every output the baseline's to float rounding, on a few dozen samples."""
    return run.step("answers", candidate, lambda: _compare(run, candidate))


def _compare(run: Run, candidate: Candidate) -> None:
    try:
        new, old = answers.beside(run, candidate.key)
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return
    told = answers.unlike(run, compare.outputs(old, new, run.names)) or edges.ruled_out(run, candidate.engine)
    if told:
        run.update(candidate.key, status="rejected", reason=f"not lossless: {told}")


def engine_settings(run: Run) -> dict[str, dict[str, Scalar]]:
    """The fastest float32 settings of each engine, which its narrow candidates start from.

    By the race where an engine took part in it, else by a first look; with sizes fixed wherever that ran.
    """
    best: dict[str, tuple[bool, float, dict[str, Scalar]]] = {}
    for trial in run.trials.values():
        candidate, quick = trial.candidate, trial.quick_ms
        if not candidate.lossless or not candidate.steps or (quick is None and trial.timing is None):
            continue
        raced = trial.timing is not None
        rank = (raced, trial.timing.speedup if trial.timing else -(quick or 0.0), candidate.settings)
        if candidate.engine not in best or rank[:2] > best[candidate.engine][:2]:
            best[candidate.engine] = rank
    return {engine: with_sizes(run, engine, settings) for engine, (*_, settings) in best.items()}


def near_settings(run: Run) -> dict[str, list[dict[str, Scalar]]]:
    """The settings that an engine's int8 starts from: the fastest in float32, then those about as fast at a first look.

    Where one thread is nearly as fast as two in float32, it often is faster in int8.
    """
    found = {engine: [settings] for engine, settings in engine_settings(run).items()}
    for engine, several in found.items():
        looks = [
            (t.candidate.settings, t.quick_ms)
            for t in run.trials.values()
            if t.candidate.lossless and t.candidate.engine == engine and t.candidate.steps and t.quick_ms is not None
        ]
        own = min((ms for settings, ms in looks if settings == several[0]), default=0.0)
        several += [
            settings
            for settings, ms in looks
            if ms <= NEAR * own and settings not in several and ("sizes" in settings) == ("sizes" in several[0])
        ]
    return found


def with_sizes(run: Run, engine: str, settings: dict[str, Scalar]) -> dict[str, Scalar]:
    """The settings with sizes fixed, where the engine ran so.

    What that saves is the same in every call: beside a float32 network it may be lost in the noise, and be a sixth of
    a narrow one.
    """
    fixed = {**settings, "sizes": run.sizes}
    ran = (t.candidate for t in run.trials.values() if t.candidate.lossless and t.status in ("ok", "slower"))
    return fixed if any(c.engine == engine and c.settings == fixed for c in ran) else settings
