"""Whom to put to the proof, and in which order: by speed, by harm, and by what the search split promises."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.measure.provable import EVEN, likely
from hasten.search.objective import gain
from hasten.search.run import Run
from hasten.trial import Quality, Trial

MOST_FINALISTS = 3
WORTH = 1.03  # a speed-up that is worth a pass over the confirm split; the final timing decides
CLEARLY = 1.1  # in a screening race, speeds closer than this may be equal
NEAR = 0.75  # of the fastest's speed-up
ROOM = 0.7  # of the budget
RUNG = 1.25  # times as fast as the one below
RUNG_SECONDS = 2.0  # a pass over the confirm split
MOST_RUNGS = 4  # beside the lowest
CERTAIN, LIKELY = 0.95, 0.8  # chances of a proof


def measured(run: Run) -> list[str]:
    """Candidates that change answers, whose speed and answers are known."""
    return [
        key
        for key, t in run.trials.items()
        if t.status == "ok" and not t.candidate.lossless and t.timing is not None and t.search is not None
    ]


def front(run: Run) -> list[str]:
    """Candidates that no other beats clearly on speed without being riskier, fastest first."""
    known = [(gain(run, key), risk(run.trials[key]), key) for key in measured(run)]
    ranked = sorted(known, key=lambda k: (-k[0], k[1]))
    return [key for speedup, at, key in ranked if not any(s > CLEARLY * speedup and r <= at for s, r, _ in ranked)]


def risk(trial: Trial) -> tuple[float, float]:
    """What orders candidates from safe to bold: harm, which few samples rank well, then the bound of the drop."""
    assert trial.search is not None
    return trial.harm if trial.harm is not None else 0.0, trial.search.upper


def finalists(run: Run) -> list[str]:
    """Whom to prove, safest first: the fastest that look inside the budget, and one to fall back on.

    Each costs a pass over the confirm split, so only candidates within a quarter of the fastest count, three at most.
    When the search split leaves it open whether even the safest of them is inside, the fastest of which it does not
    goes first, else the safest of all: one failed proof must not leave the user with nothing. So does one that is
    more likely to pass than the safest of them (``surest``). Where a pass is quick, steps in between go as well
    (``rungs``).
    """
    able = [k for k in front(run) if looks_inside(run, k) and gain(run, k) > WORTH]
    if not able:
        return []
    near = [k for k in able if gain(run, k) >= NEAR * gain(run, able[0])]
    chosen = [*near[: MOST_FINALISTS - 1], near[-1]]
    if not clearly_inside(run, near[-1]):
        chosen.append(next((k for k in able if clearly_inside(run, k)), able[-1]))
    order = sorted({*chosen, *rungs(run, able)}, key=lambda k: risk(run.trials[k]))
    first = surest(run)
    return [first, *(k for k in order if k != first)] if surer(run, first, order[0]) else order


def surest(run: Run) -> str:
    """Of those that look inside and are faster, the one that is most likely to be proven; of equals the fastest."""
    able = [k for k in measured(run) if looks_inside(run, k) and gain(run, k) > WORTH]
    return max(able, key=lambda k: (*chance(run, k), gain(run, k)))


def surer(run: Run, key: str, other: str) -> bool:
    """Is ``key`` more likely to be proven than ``other``, which is not all but certain?"""
    quality = run.trials[other].search
    return not (quality and promises(run, quality, CERTAIN)) and chance(run, key) > chance(run, other)


def chance(run: Run, key: str) -> tuple[float, bool]:
    """About how likely the search split makes a proof, in few steps; and whether all arithmetic is in floats.

    Harm, which orders finalists, is an average: a few answers that were undecided anyway may make most of it. Where
    flips do not tell two apart, the one whose arithmetic alone was narrowed is the safer guess.
    """
    trial = run.trials[key]
    assert trial.search is not None
    floats = all(step.name == "clean" for step in trial.candidate.steps)
    if clearly_inside(run, key) or promises(run, trial.search, LIKELY):
        return LIKELY, floats
    return EVEN if promises(run, trial.search) else 0.0, floats


def promises(run: Run, quality: Quality, power: float = EVEN) -> bool:
    """Does what the search split showed promise a proof on the confirm split, with a chance of ``power``?

    A sequence answers at each of its steps: what counts is how many answers the confirm split has.
    """
    each = max(1.0, quality.n / len(run.splits.search)) if run.evaluator.store.sequential else 1.0
    return likely(quality, run.proof, int(each * len(run.splits.confirm)), power)


def rungs(run: Run, able: Sequence[str]) -> list[str]:
    """Those all but certain to pass, safest first, each clearly faster than all below, where a pass takes no time.

    Who looks best of many on few samples often is not; bad luck then costs a step, not the answer.
    """
    found: list[str] = []
    for key in sorted(able, key=lambda k: risk(run.trials[k])):
        trial, count = run.trials[key], len(run.splits.confirm)
        assert trial.timing is not None
        assert trial.search is not None
        quick = trial.timing.median_ms * count / 1000 < RUNG_SECONDS
        faster = gain(run, key) > RUNG * max((gain(run, k) for k in found), default=0.0)
        if quick and faster and promises(run, trial.search, CERTAIN):
            found.append(key)
    return found[:1] + found[1:][-MOST_RUNGS:]


def clearly_inside(run: Run, key: str) -> bool:
    """True when the search split alone would prove it, with room for the luck of one picked among many."""
    quality = run.trials[key].search
    return quality is not None and quality.upper <= ROOM * run.budget.max_drop


def looks_inside(run: Run, key: str) -> bool:
    """True when the candidate's drop on the search split is inside the budget; proof is another matter."""
    trial = run.trials.get(key)
    return trial is not None and trial.search is not None and trial.search.drop <= run.budget.max_drop
