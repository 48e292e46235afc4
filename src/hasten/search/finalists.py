"""Which candidates are tested, and in which order: by speed, by divergence, and by what the pilot shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from hasten.measure import sizing, tails
from hasten.measure.provable import EVEN, likely
from hasten.measure.sequential import FIRST
from hasten.measure.spending import last_level
from hasten.search.field import recipe_key
from hasten.search.objective import gain
from hasten.search.run import Run
from hasten.search.space import narrowings
from hasten.trial import Candidate, Quality, Trial

Points = NDArray[np.float64]

MOST_FINALISTS = 3
WORTH = 1.03  # a speed-up that is worth a pass over the confirm split; the final timing decides
CLEARLY = 1.1  # in a screening race, speeds closer than this may be equal
NEAR = 0.75  # of the fastest's speed-up
ROOM = 0.7  # of the budget
RUNG = 1.25  # times as fast as the one below
RUNG_SECONDS = 2.0  # a pass over the confirm split
MOST_RUNGS = 4  # beside the lowest
CERTAIN, LIKELY = 0.95, 0.8  # chances of a proof
LITTLE = 100  # pilot samples (chosen): by fewer, candidates are ranked by divergence and speed
UNLIKELY = 0.05  # chance of a certificate: what looks over the budget is not tested for less (chosen)
HOPE = 0.001  # of the chance of being inside, that orders candidates which no test of this size can certify
SAFER = 0.5  # of the chance of the second candidate where it diverges more than the first, which failed (chosen)


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
    steps in between go too (``rungs``). Last comes the best that looks over the budget and not significantly so: a
    test may show otherwise. With little data two are tested, those of the highest expected gain.
    """
    field = one_of_twins(run, [k for k in front(run) if not clearly_over(run, k) and gain(run, k) > WORTH])
    if little(run):
        return by_value(run, field)
    able = [k for k in field if looks_inside(run, k)]
    others = [k for k in field if k not in able and certifiable(run, k) >= UNLIKELY]
    return [*_by_safety(run, able), *sorted(others, key=lambda k: -gain(run, k) * certifiable(run, k))[:1]]


def _by_safety(run: Run, able: Sequence[str]) -> list[str]:
    """Those that look inside the budget and are worth a test, safest first; ``able`` is fastest first."""
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
    return likelihood(run, key), floats(run, key) or promises(run, quality, CERTAIN, run.trials[key].harm)


def likelihood(run: Run, key: str) -> float:
    """About how likely the search split makes a proof, in three steps: few samples tell no more."""
    quality = run.trials[key].search
    assert quality is not None
    harm = run.trials[key].harm
    if clearly_inside(run, key) or promises(run, quality, LIKELY, harm):
        return LIKELY
    return EVEN if promises(run, quality, EVEN, harm) else 0.0


def floats(run: Run, key: str) -> bool:
    """Is all arithmetic in floats, and nothing but its width changed?"""
    return all(step.name == "clean" for step in run.trials[key].candidate.steps)


def promises(run: Run, quality: Quality, power: float = EVEN, harm: float | None = None) -> bool:
    """Does what the pilot showed promise a certificate on the test samples, with a chance of ``power``?

    With little data, whether the candidate is inside: a certificate may be out of reach for all. A sequence answers at
    each of its steps: what counts is how many answers the test part has.
    """
    if little(run):
        return inside(run, quality, harm) >= power
    each = max(1.0, quality.n / len(run.splits.search)) if run.evaluator.store.sequential else 1.0
    return likely(quality, run.proof, int(each * len(run.splits.confirm)), power)


def holds(run: Run, candidate: Candidate, power: float = EVEN) -> bool:
    """True when the pilot promises a certificate on the test samples."""
    trial = run.trials.get(candidate.key)
    quality = trial.search if trial else None
    return quality is not None and trial is not None and promises(run, quality, power, trial.harm)


def little(run: Run) -> bool:
    """Are there too few pilot samples for their labels to rank candidates?"""
    return run.splits.pilot_is_small or len(run.splits.search) < LITTLE


def inside(run: Run, quality: Quality, harm: float | None) -> float:
    """The chance that a candidate is inside the budget, from its divergence and the pilot."""
    asked = _asked(run, quality, 1.0)
    points, weights = _beliefs(asked, quality, harm)
    return float(weights[points <= asked.limit].sum())


def certifiable(run: Run, key: str, share: float = FIRST) -> float:
    """The chance that the test certifies a candidate with this share of the question's level."""
    trial = run.trials[key]
    assert trial.search is not None
    asked = _asked(run, trial.search, share)
    points, weights = _beliefs(asked, trial.search, trial.harm)
    n = len(run.splits.confirm)
    spreads = [_spread(asked, trial.search, point, trial.harm) for point in points]
    return float(sum(w * sizing.power(asked, n, d, s) for d, s, w in zip(points, spreads, weights, strict=True)))


def _asked(run: Run, quality: Quality, share: float) -> sizing.Sizing:
    """The question at the last look's level."""
    alpha = last_level(len(run.splits.confirm), run.proof.alpha, share)
    budget, metric = replace(run.budget, confidence=1 - alpha), run.evaluator.metric
    groups = run.evaluator.store.groups
    each = len(groups) / len(np.unique(groups)) if groups is not None else 1.0
    return sizing.sizing(budget, metric, score=quality.baseline, size=each)


def _beliefs(asked: sizing.Sizing, quality: Quality, harm: float | None) -> tuple[Points, Points]:
    """What the true drop may be."""
    if quality.flips is not None and quality.n:
        error = (quality.flips + 1) ** 0.5 / quality.n / (asked.score if asked.relative else 1.0)
    else:
        error = (quality.upper - quality.drop) / tails.normal_upper(quality.level) if quality.n else inf
    return sizing.beliefs(asked, harm=harm, seen=quality.drop, error=error)


def _spread(asked: sizing.Sizing, quality: Quality, drop: float, harm: float | None) -> float:
    """The share of outcomes that a candidate with this drop changes, or the deviation of one sample's difference."""
    own = abs(drop) * (asked.score if asked.relative else 1.0)
    if asked.family in ("binary", "agreement"):
        known = sizing.usual_flips(harm) * sizing.PRIOR_SAMPLES + (quality.flips or 0)
        return max(2 * own, known / (sizing.PRIOR_SAMPLES + quality.n)) if asked.family == "binary" else own
    seen = (quality.upper - quality.drop) / tails.normal_upper(quality.level) * float(quality.n**0.5)
    return max(3 * own, seen * (asked.score if asked.relative else 1.0) if np.isfinite(seen) else 0.0)


def by_value(run: Run, keys: Sequence[str]) -> list[str]:
    """The two to test where data are few, in the order with the highest expected log speed-up.

    The second has the level that the first leaves: all of it where that passes. So a likely candidate goes first where
    it costs a bolder one nothing. Where none can be certified, those that are likely inside: the test estimates them.
    """
    if len(keys) < 2:
        return list(keys)
    left = {key: certifiable(run, key, FIRST * (1 - FIRST)) for key in keys}
    whole = {key: certifiable(run, key) + HOPE * _inside_of(run, key) for key in keys}
    worth = {key: log(max(1.0, gain(run, key))) for key in keys}

    def expected(first: str, second: str) -> float:
        bolder = (run.trials[second].harm or 0.0) >= (run.trials[first].harm or 0.0)
        passed = worth[first] + whole[second] * max(0.0, worth[second] - worth[first])
        failed = left[second] * worth[second] * (SAFER if bolder else 1.0)
        return whole[first] * passed + (1 - whole[first]) * failed

    return list(max(permutations(keys, 2), key=lambda pair: expected(*pair)))


def _inside_of(run: Run, key: str) -> float:
    quality = run.trials[key].search
    assert quality is not None
    return inside(run, quality, run.trials[key].harm)


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
        if quick_to_prove(run, trial.timing.median_ms) and faster and promises(run, trial.search, CERTAIN, trial.harm):
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
    """True when the candidate seems inside the budget; proof is another matter.

    By its drop on the pilot; where that is small, by its divergence too.
    """
    trial = run.trials.get(key)
    if trial is None or trial.search is None:
        return False
    if little(run):
        return inside(run, trial.search, trial.harm) >= EVEN
    return trial.search.drop <= run.budget.max_drop


def clearly_over(run: Run, key: str) -> bool:
    """True when the pilot shows that the candidate loses more than the budget, beyond what chance explains."""
    quality = run.trials[key].search
    return quality is None or quality.lower > run.budget.max_drop
