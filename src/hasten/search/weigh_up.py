"""Estimates on the test samples for the fastest candidates without a certificate: nothing is claimed by them."""

from __future__ import annotations

from dataclasses import replace

from hasten.measure.evaluate import NewNaN
from hasten.search import answers
from hasten.search.baseline import measure_baseline
from hasten.search.confirm import compared, judged
from hasten.search.estimated import clearly_faster
from hasten.search.field import Run
from hasten.search.loading import fresh_worker, lost
from hasten.trial import Candidate
from hasten.worker import CallFailed, WorkerDied

MOST_WEIGHED = 3  # candidates
SECONDS, LEAST = 5.0, 20  # a pass over the test samples takes so long at most, and so many samples at least (chosen)


def weighed_up(run: Run, certified: str) -> list[str]:
    """Uncertified candidates that are clearly faster than ``certified``, the most promising first.

    Few samples of the pilot say little of a candidate. Those that lead are compared on the test samples until the first
    of all was. That spends no level: an estimate claims nothing, and a certificate of the same candidate stays open.
    """
    for _ in range(MOST_WEIGHED if len(run.splits.confirm) else 0):
        first = next(iter(clearly_faster(run, certified)), None)
        if first is None or run.trials[first].confirm is not None or run.stopping():
            break
        weigh(run, first)
    return clearly_faster(run, certified)


def weigh(run: Run, key: str) -> None:
    """Compare one candidate on the first test samples, as many as a few seconds allow."""
    candidate, timed = run.trials[key].candidate, run.trials[key].timing
    slowest = max(timed.median_ms, timed.baseline_ms) if timed else SECONDS * 1000
    ids = [int(i) for i in run.splits.confirm[: max(LEAST, int(SECONDS * 1000 / slowest))]]
    run.say("trial", f"estimate of {candidate.label} on {len(ids)} samples")
    run.step(f"estimate on {len(ids)} confirm samples", candidate, lambda: _weigh(run, candidate, ids))
    run.retire([key])


def _weigh(run: Run, candidate: Candidate, ids: list[int]) -> None:
    try:
        measure_baseline(run, ids)
        worker = run.loaded.get(candidate.key) or fresh_worker(run, candidate)
        tallies = answers.started(run)
        rows, _ = judged(run, worker, ids, tallies, lossless=False)
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return
    except NewNaN as fault:
        run.update(candidate.key, status="rejected", reason=str(fault))
        return
    found = replace(compared(run, ids, rows, run.budget.alpha), met=False, certificate="none")
    lacking = answers.lacking(run, tallies, ids, run.budget.alpha)
    run.update(candidate.key, confirm=found)
    if lacking and lacking.spoilt:
        run.update(candidate.key, status="rejected", reason=f"output {lacking}")
