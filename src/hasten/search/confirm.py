"""The proof: a fixed sequence of tests, safest first, on the confirm split (Learn-then-Test, arXiv 2110.01052).

Testing the fastest first and walking down until one passes would give each candidate its own chance of a false pass.
From safest to fastest, stopping at the first failure, the chance of any false pass stays at ``1 - confidence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf

import numpy as np

from hasten.measure.evaluate import NewNaN, Rows
from hasten.measure.proportions import required_n
from hasten.measure.provable import EVEN, likely
from hasten.measure.quality import assess
from hasten.search.baseline import measure_baseline
from hasten.search.field import Run
from hasten.search.loading import fresh_worker, lost
from hasten.search.objective import gain
from hasten.trial import Candidate, Quality, Split, Trial
from hasten.worker import CallFailed, WorkerDied

MOST_FINALISTS = 3
WORTH = 1.03  # a speed-up that is worth a pass over the confirm split; the final timing decides
CLEARLY = 1.1  # in a screening race, speeds closer than this may be equal
NEAR = 0.75  # of the fastest's speed-up
LEAST_CONFIRM = 600
ROOM = 0.7  # of the budget
RUNG = 1.25  # times as fast as the one below
RUNG_SECONDS = 2.0  # a pass over the confirm split
PASS_SECONDS = 3.0  # which nobody minds
MOST_RUNGS = 4  # beside the lowest
CERTAIN = 0.95  # chance of a proof
IDENTICAL = "answers identical, outputs equal to float rounding"
FEW_FLIPS = 2  # so few say nothing about the direction


def front(run: Run) -> list[str]:
    """Candidates that no other beats clearly on speed without being riskier, fastest first."""
    known = [
        (gain(run, key), risk(t), key)
        for key, t in run.trials.items()
        if t.status == "ok" and not t.candidate.lossless and t.timing is not None and t.search is not None
    ]
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
    goes first, else the safest of all: one failed proof must not leave the user with nothing. Where a pass is quick,
    steps in between go as well (``rungs``).
    """
    able = [k for k in front(run) if looks_inside(run, k) and gain(run, k) > WORTH]
    if not able:
        return []
    near = [k for k in able if gain(run, k) >= NEAR * gain(run, able[0])]
    chosen = [*near[: MOST_FINALISTS - 1], near[-1]]
    if not clearly_inside(run, near[-1]):
        chosen.append(next((k for k in able if clearly_inside(run, k)), able[-1]))
    return sorted({*chosen, *rungs(run, able)}, key=lambda k: risk(run.trials[k]))


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


def prove(run: Run, order: list[str]) -> tuple[str, list[Quality]]:
    """Test ``order`` (safest first) on the confirm split; stop at the first failure.

    Returns the fastest candidate that passed, else the baseline's key, and every quality measured on the way.
    """
    ids = enough(run, order)
    measure_baseline(run, ids)
    passed, looks = [], []
    for done, key in enumerate(order):
        run.say("trial", f"confirm {run.trials[key].candidate.label}", done, len(order))
        quality = look(run, key, ids)
        run.retire([key])
        if quality is None:
            break
        looks.append(quality)
        if quality.method != IDENTICAL:
            remember(run, key, quality.met)
        if not quality.met:
            run.update(key, status="rejected", reason=unproven(quality, run))
            break
        passed.append(key)
    for key in order[len(looks) :]:
        if run.trials[key].status == "ok" and run.trials[key].confirm is None:
            run.update(key, reason="not tested: a safer candidate had already failed the proof", status="rejected")
    fastest = max(passed, key=lambda k: gain(run, k), default=run.given)
    return fastest, looks


def count_look(run: Run, order: list[str]) -> None:
    """Which look at the confirm split a proof of ``order`` is; counted at once when it will make tests.

    A lossless setting whose answers are the same needs no test.
    """
    if run.ledger is None or not len(run.splits.confirm):
        return
    tests = any(not run.trials[k].candidate.lossless for k in order)
    run.look = run.ledger.begin(order) if tests else run.ledger.number(order)


def remember(run: Run, key: str, passed: bool) -> None:
    """A test was made."""
    if run.ledger is None or not len(run.splits.confirm):
        return
    if run.look > len(run.ledger.looks):
        run.look = run.ledger.begin([key])
    run.ledger.tested(run.look, key, passed)


def enough(run: Run, order: list[str]) -> list[int]:
    """As many confirm samples as the finalists seem to need for 90 % power, a tenth more, and 600 at least.

    More where they cost little time: that a candidate loses nothing on few search samples says little about its need.
    Fixed before the split is touched, from what the search split showed; the ids come in an order drawn at random.
    """
    ids = [int(i) for i in run.splits.confirm] or [int(i) for i in run.splits.search]
    timings = [t for k in order if (t := run.trials[k].timing) is not None]
    slowest = max((max(t.median_ms, t.baseline_ms) for t in timings), default=inf)
    needed = max(LEAST_CONFIRM, int(1000 * PASS_SECONDS / slowest))
    for key in order:
        quality = run.trials[key].search
        if quality is None:
            continue
        if quality.flips is None:
            return ids
        flips = (quality.flips + 1) / (quality.n + 1)
        drop = quality.drop / 2 if quality.flips > FEW_FLIPS and quality.drop > 0 else 0.0
        limit = run.budget.max_drop
        needed = max(needed, ceil(1.1 * required_n(flips, limit, min(drop, limit / 2), run.proof.alpha, 0.9)))
    return ids[:needed]


def look(run: Run, key: str, ids: list[int]) -> Quality | None:
    """One candidate on the confirm split, in the runtime that will serve it."""
    candidate = run.trials[key].candidate
    step = f"look {run.look} at {len(ids)} confirm samples"
    return run.trials[key].confirm if run.step(step, candidate, lambda: _look(run, candidate, ids)) else None


def _look(run: Run, candidate: Candidate, ids: list[int]) -> None:
    try:
        worker = run.loaded.get(candidate.key) or fresh_worker(run, candidate)
        rows = run.evaluator.rows(worker, ids)
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return
    except NewNaN as fault:
        run.update(candidate.key, status="rejected", reason=str(fault))
        return
    known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
    split: Split = "confirm" if len(run.splits.confirm) else "search"
    quality = assess(run.evaluator.metric, run.proof, known, rows, split=split, groups=groups)
    run.update(candidate.key, confirm=unchanged(quality, known, rows) if candidate.lossless else quality)


def unchanged(quality: Quality, known: Rows, rows: Rows) -> Quality:
    """Lossless settings need no test where every row is the baseline's, to float rounding."""
    if not np.allclose(known, rows, rtol=1e-5, atol=1e-7):
        return quality
    return replace(quality, met=True, upper=max(0.0, quality.drop), method=IDENTICAL)


def unproven(quality: Quality, run: Run) -> str:
    """Why a finalist was not proven, in words."""
    bound = f"at most {quality.upper * 100:.2f} with {run.budget.confidence * 100:g} % confidence"
    return f"drop {quality.drop * 100:.2f} points, {bound}: not proven inside {run.budget} on {quality.n} samples"
