"""Stage 1: every engine in float32. What comes out is the honest baseline for everything narrower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hasten import compare
from hasten.machine import cores
from hasten.search import answers, edges, forms, space
from hasten.search.field import CONTENDERS, RESTED_ROUNDS, SCREEN_ROUNDS, Run, build_all, recipe_key
from hasten.search.finalists import WORTH
from hasten.search.loading import load, lost
from hasten.search.objective import NEAR, quick_ms, speed
from hasten.search.screening import hopelessly_slow, outrun, race
from hasten.trial import Candidate, Scalar
from hasten.worker import CallFailed, WorkerDied

RACED = 5  # processes alive at once; each holds a copy of the network


def lossless_stage(run: Run, engines: dict[str, Any], threads: int | None, baseline_ms: float) -> str:
    """Every engine in float32. Returns the key of the fastest whose answers are the baseline's, if need be its own."""
    candidates = forms.fitting(space.lossless(engines, cores(), threads, run.sizes), run)
    build_all(run, candidates)
    racing: list[str] = []
    for done, candidate in enumerate(candidates):
        run.say("trial", candidate.label, done, len(candidates))
        ready = "artefact" in run.artefacts[recipe_key(candidate)] and load(run, candidate) is not None
        if ready and same_answers(run, candidate) and not hopelessly_slow(run, candidate, baseline_ms):
            racing = sorted([*racing, candidate.key], key=lambda k: quick_ms(run, k))
            for late in racing[RACED:]:
                slowest = f"by the slowest of the {RACED} that race"
                outrun(run, run.trials[late].candidate, quick_ms(run, racing[RACED - 1]), slowest)
            racing = racing[:RACED]
    race(run, racing, SCREEN_ROUNDS)
    if able := contenders(run, racing):
        race(run, able, RESTED_ROUNDS, rested=True)
    alive = [k for k in racing if k in run.loaded]
    fastest = max((k for k in able if k in alive), key=lambda k: speed(run, k), default=run.given)
    tuned = fastest if speed(run, fastest) > WORTH else run.given
    run.retire(k for k in alive if k != tuned)
    if tuned != run.given:
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
