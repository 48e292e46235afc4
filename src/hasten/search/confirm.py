"""The proof: a fixed sequence of tests, safest first, on the confirm split (Learn-then-Test, arXiv 2110.01052).

Testing the fastest first and walking down until one passes would give each candidate its own chance of a false pass.
From safest to fastest, stopping at the first failure, the chance of any false pass stays at ``1 - confidence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf

from hasten.measure.evaluate import NewNaN, Rows
from hasten.measure.proportions import required_n
from hasten.measure.quality import assess
from hasten.search import answers
from hasten.search.baseline import measure_baseline
from hasten.search.field import Run
from hasten.search.loading import fresh_worker, lost
from hasten.search.objective import gain
from hasten.trial import Candidate, Quality, Split
from hasten.worker import CallFailed, Worker, WorkerDied

LEAST_CONFIRM = 600
PASS_SECONDS = 3.0  # which nobody minds
IDENTICAL = "answers identical, outputs equal to float rounding"
FEW_FLIPS = 2  # so few say nothing about the direction


def prove(run: Run, order: list[str]) -> tuple[str, list[Quality]]:
    """Test ``order`` (safest first) on the confirm split; stop at the first failure.

    Returns the fastest candidate that passed, else the baseline's key, and every quality measured on the way.
    """
    ids = enough(run, order)
    run.say("trial", f"the network as given answers {len(ids)} samples")
    measure_baseline(run, ids)
    passed, looks = [], []
    for done, key in enumerate(order):
        run.say("trial", f"test of {run.trials[key].candidate.label} on {len(ids)} samples", done, len(order))
        quality = look(run, key, ids)
        run.retire([key])
        if quality is None:
            break
        looks.append(quality)
        if quality.method != IDENTICAL:
            remember(run, key, quality.met)
        if not quality.met:
            run.update(key, reason=unproven(quality, run))
            break
        passed.append(key)
    for key in order[len(looks) :]:
        if run.trials[key].status == "ok" and run.trials[key].confirm is None:
            run.update(key, reason="not tested: a safer candidate had already failed")
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
        try:
            worker = run.loaded.get(candidate.key) or fresh_worker(run, candidate)
            rows, changed, spoilt = judged(run, worker, ids, lossless=candidate.lossless)
        except WorkerDied as fault:
            if not fault.killed or fault.memory:
                raise
            run.say("warning", f"{candidate.label} is tested again: its process was {fault}")
            worker = fresh_worker(run, candidate)
            rows, changed, spoilt = judged(run, worker, ids, lossless=candidate.lossless)
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return
    except NewNaN as fault:
        run.update(candidate.key, status="rejected", reason=str(fault))
        return
    known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
    split: Split = "confirm" if len(run.splits.confirm) else "search"
    quality = assess(run.evaluator.metric, run.proof, known, rows, split=split, groups=groups)
    if candidate.lossless and not changed:
        quality = unchanged(quality)
    run.update(candidate.key, confirm=quality, reason=f"not unchanged: {changed}" if changed else "")
    if spoilt:
        run.update(candidate.key, confirm=replace(quality, met=False), status="rejected", reason=spoilt)


def judged(run: Run, worker: Worker, ids: Sequence[int], *, lossless: bool) -> tuple[Rows, str, str]:
    """The candidate's rows; where a lossless one does not answer what the baseline does; and an output that it spoils.

    The last two are words, empty where all is well. All outputs of a lossless candidate are compared. The outputs that
    the metric does not read may not be spoilt by any candidate.

    Raises:
        NewNaN, WorkerDied, CallFailed: as ``Evaluator.rows``.
    """
    changed = ""
    if lossless:
        rows, changed = answers.same_throughout(run, worker, ids)
    else:
        rows = run.evaluator.rows(worker, ids)
    return rows, changed, "" if lossless and not changed else answers.moved_on(run, worker, ids)


def unchanged(quality: Quality) -> Quality:
    """Lossless settings need no test where every output is the baseline's, to float rounding."""
    return replace(quality, met=True, upper=max(0.0, quality.drop), method=IDENTICAL)


def unproven(quality: Quality, run: Run) -> str:
    """Why a finalist got no certificate, in words."""
    strict = run.budget.certificate == "guaranteed"
    upper, needed = (quality.guaranteed_upper, "guarantee") if strict else (quality.upper, "certificate")
    bound = f"at most {upper * 100:.2f} with {run.budget.confidence * 100:g} % confidence"
    return f"drop {quality.drop * 100:.2f} points, {bound}: no {needed} inside {run.budget} on {quality.n} samples"
