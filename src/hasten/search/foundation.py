"""What less work is built on: precision that looks provable, on the fastest engine and on those near it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hasten.search import forms, space
from hasten.search.field import Run
from hasten.search.finalists import promises
from hasten.search.first_timing import NOTHING
from hasten.search.loading import SERVES, ready
from hasten.search.mixes import DEEP
from hasten.search.objective import gain
from hasten.search.offers import structural
from hasten.search.screening import hopelessly_slow, screen
from hasten.trial import Candidate, Step, Trial

NEAR = 1.5  # engines this much slower than the fastest may overtake it once there is less to do


def foundation(run: Run, tuned: str) -> Candidate | None:
    """The fastest candidate so far that looks provable, as a network that passes can still change."""
    able = [k for k, t in run.trials.items() if t.status == "ok" and promising(run, t)]
    best = max([*able, tuned], key=lambda k: gain(run, k))
    found = run.trials[best].candidate
    if not _changeable(run, found):
        return None
    return found if found.steps else replace(found, steps=(space.CLEAN,), lossless=False)


def promising(run: Run, trial: Trial) -> bool:
    """Narrow arithmetic on the tidied network that was timed and looks provable."""
    if trial.candidate.lossless or trial.timing is None or trial.search is None:
        return False
    return [s.name for s in trial.candidate.steps[:1]] == [space.CLEAN.name] and promises(
        run, trial.search, harm=trial.harm
    )


def _changeable(run: Run, candidate: Candidate) -> bool:
    return candidate.engine in run.engines and forms.GRAPH in forms.takes(candidate.engine)


def near(run: Run, base: Candidate) -> list[Candidate]:
    """The fastest of each other engine that looks provable, nothing taken out; those clearly behind are left out."""
    best: dict[str, str] = {}
    least = gain(run, base.key) / NEAR if base.key in run.trials else 1.0
    for key in sorted(run.trials, key=lambda k: gain(run, k)):
        trial = run.trials[key]
        whole = structural(trial.candidate) == 1 and not excluded(trial.candidate) and trial.status in SERVES
        if whole and promising(run, trial) and _changeable(run, trial.candidate) and gain(run, key) >= least:
            best[trial.candidate.engine] = key
    return [run.trials[key].candidate for engine, key in best.items() if engine != base.engine]


def stands(run: Run, candidate: Candidate) -> bool:
    """Build it, look at its clock and its answers; True when a proof is likely."""
    run.say("trial", candidate.label)
    quality = None
    if ready(run, candidate) and not hopelessly_slow(run, candidate, NOTHING):
        quality = screen(run, candidate, DEEP)
    inside = quality is not None and promises(run, quality, harm=run.trials[candidate.key].harm)
    if quality is not None and not inside:
        text = f"drop {quality.drop * 100:.2f} points on {quality.n} samples: unlikely to pass the test"
        run.update(candidate.key, status="rejected", reason=text)
        run.retire([candidate.key])
    return inside


def excluded(base: Candidate) -> set[str]:
    """Layers that the precision plan leaves in float: as two layers they would go by other names."""
    return {str(name) for step in base.steps for name in _listed(step.options.get("exclude"))}


def _listed(value: object) -> Sequence[str]:
    return value if isinstance(value, list | tuple) else ()


def narrowing(candidate: Candidate) -> int:
    """Where the steps that narrow it begin: behind what was taken out, and what was learnt after that."""
    at = structural(candidate)
    return at + (candidate.steps[at : at + 1] == (Step(name="distill"),))
