"""Whom to put to the proof, and in which order: by speed, by harm, and by what the search split promises."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.measure.provable import EVEN, likely
from hasten.search.field import recipe_key
from hasten.search.objective import gain
from hasten.search.run import Run
from hasten.search.space import narrowings
from hasten.trial import Candidate, Quality, Trial

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
    known = [(gain(run, key), risk(run.trials[key]), chance(run, key), key) for key in measured(run)]
    ranked = sorted(known, key=lambda k: (-k[0], k[1]))
    return [
        key
        for speedup, at, likely, key in ranked
        if not any(s > CLEARLY * speedup and r <= at and c >= likely for s, r, c, _ in ranked)
    ]


def risk(trial: Trial) -> tuple[float, float]:
    """What orders candidates from safe to bold: harm, which few samples rank well, then the bound of the drop."""
    assert trial.search is not None
    return trial.harm if trial.harm is not None else 0.0, trial.search.upper


def finalists(run: Run) -> list[str]:
    """Whom to prove, safest first: the fastest that look inside the budget, and some to fall back on.

    Each costs a pass over the confirm split, so only candidates within a quarter of the fastest count, three at most,
    and one of those that differ in their threads alone. One failed proof must not leave the user with nothing: where
    even the least harmful of them is in doubt, the fastest that is not goes as well, else the least harmful of all; and
    so does the one most likely to pass, narrowed in its arithmetic alone if there is such a one. Where a pass is quick,
    steps in between go too (``rungs``).
    """
    able = one_of_twins(run, [k for k in front(run) if looks_inside(run, k) and gain(run, k) > WORTH])
    if not able:
        return []
    near = [k for k in able if gain(run, k) >= NEAR * gain(run, able[0])]
    surest = max(able, key=lambda k: (likelihood(run, k), floats(run, k)))
    chosen = [*near[: MOST_FINALISTS - 1], near[-1], surest]
    if not clearly_inside(run, near[-1]):
        chosen.append(next((k for k in able if clearly_inside(run, k)), able[-1]))
    order = sorted({*chosen, *rungs(run, able)}, key=lambda k: risk(run.trials[k]))
    return sorted(order, key=lambda k: chance(run, k), reverse=True)


def one_of_twins(run: Run, keys: Sequence[str]) -> list[str]:
    """The first of those that run the same network in the same precision, on as many threads as each likes."""
    found: dict[tuple[object, ...], str] = {}
    for key in keys:
        c = run.trials[key].candidate
        lossy = narrowings(run.engines[c.engine]) if c.engine in run.engines else []
        names = sorted({n for s in lossy if "precision" not in s for n in s} | {"precision"})
        found.setdefault((recipe_key(c), *(c.settings.get(name) for name in names)), key)
    return list(found.values())


def chance(run: Run, key: str) -> tuple[float, bool]:
    """What puts finalists in order: about how likely a proof is; of equals, whether there is little doubt about it.

    Harm, which ranks the rest, is an average: a few answers that were undecided anyway may make most of it. Where
    flips do not tell two apart, the one whose arithmetic alone was narrowed is the safer guess.
    """
    quality = run.trials[key].search
    assert quality is not None
    return likelihood(run, key), floats(run, key) or promises(run, quality, CERTAIN)


def likelihood(run: Run, key: str) -> float:
    """About how likely the search split makes a proof, in three steps: few samples tell no more."""
    quality = run.trials[key].search
    assert quality is not None
    if clearly_inside(run, key) or promises(run, quality, LIKELY):
        return LIKELY
    return EVEN if promises(run, quality) else 0.0


def floats(run: Run, key: str) -> bool:
    """Is all arithmetic in floats, and nothing but its width changed?"""
    return all(step.name == "clean" for step in run.trials[key].candidate.steps)


def promises(run: Run, quality: Quality, power: float = EVEN) -> bool:
    """Does what the search split showed promise a proof on the confirm split, with a chance of ``power``?

    A sequence answers at each of its steps: what counts is how many answers the confirm split has.
    """
    each = max(1.0, quality.n / len(run.splits.search)) if run.evaluator.store.sequential else 1.0
    return likely(quality, run.proof, int(each * len(run.splits.confirm)), power)


def holds(run: Run, candidate: Candidate, power: float = EVEN) -> bool:
    """True when the search split promises a proof on the confirm split."""
    trial = run.trials.get(candidate.key)
    quality = trial.search if trial else None
    return quality is not None and promises(run, quality, power)


def rungs(run: Run, able: Sequence[str]) -> list[str]:
    """Those all but certain to pass, safest first, each clearly faster than all below, where a pass takes no time.

    Who looks best of many on few samples often is not; bad luck then costs a step, not the answer.
    """
    found: list[str] = []
    for key in sorted(able, key=lambda k: risk(run.trials[k])):
        trial = run.trials[key]
        assert trial.timing is not None
        assert trial.search is not None
        faster = gain(run, key) > RUNG * max((gain(run, k) for k in found), default=0.0)
        if quick_to_prove(run, trial.timing.median_ms) and faster and promises(run, trial.search, CERTAIN):
            found.append(key)
    return found[:1] + found[1:][-MOST_RUNGS:]


def quick_to_prove(run: Run, ms: float) -> bool:
    """Does a pass over the confirm split take no time, at so many milliseconds a call?"""
    return ms * len(run.splits.confirm) / 1000 < RUNG_SECONDS


def clearly_inside(run: Run, key: str) -> bool:
    """True when the search split alone would prove it, with room for the luck of one picked among many."""
    quality = run.trials[key].search
    return quality is not None and quality.upper <= ROOM * run.budget.max_drop


def looks_inside(run: Run, key: str) -> bool:
    """True when the candidate's drop on the search split is inside the budget; proof is another matter."""
    trial = run.trials.get(key)
    return trial is not None and trial.search is not None and trial.search.drop <= run.budget.max_drop
