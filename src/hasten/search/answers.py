"""Whether a candidate answers what the network as given answers: every output, on the user's samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hasten import compare
from hasten.compare import Difference, Tolerance
from hasten.measure.evaluate import Rows
from hasten.measure.unread import spoilt
from hasten.protocols import Array
from hasten.search import policy
from hasten.search.baseline import does_not_run
from hasten.search.conversion import with_range
from hasten.search.field import Run, study
from hasten.search.loading import baseline
from hasten.worker import CallFailed, Worker, WorkerDied

LEAST, MOST = 16, 64  # samples that a gate compares; as many as take about SECONDS
LEAST_LONG = 6  # of a network whose calls are long; the test compares lossless answers on all its samples
SECONDS = 1.0
HELD_BYTES = 128 << 20  # of the baseline's answers
UNREAD = 256  # confirm samples on which outputs that the metric does not read are compared


def everything(run: Run) -> tuple[int, ...]:
    """The positions of all outputs."""
    return tuple(range(len(run.outputs)))


def compared(run: Run) -> list[int]:
    """The search samples on which gates compare answers: real ones, as many as a moment allows."""
    count = int(1000 * SECONDS / run.usual_ms) if run.usual_ms else LEAST
    least = LEAST if run.usual_ms <= float(policy.LONG_MS) else LEAST_LONG
    return [int(i) for i in run.splits.search[: min(MOST, max(least, count))]]


def wanted(run: Run) -> list[list[Array]]:
    """All outputs of the baseline on the first of those samples; fewer where they are large."""
    if not run.wanted:
        run.wanted = _held(of_baseline(run, compared(run)))
    return run.wanted


def of_baseline(run: Run, ids: Sequence[int]) -> Iterator[tuple[int, list[Array]]]:
    """All outputs of the network as given; when its process dies, that is no fault of the candidate beside it."""
    try:
        yield from run.evaluator.answers(baseline(run), ids, everything(run))
    except (WorkerDied, CallFailed) as fault:
        raise does_not_run(fault) from fault


def _held(answering: Iterable[tuple[int, list[Array]]]) -> list[list[Array]]:
    """Answers in memory, as long as they are no more than ``HELD_BYTES``."""
    found, size = list[list[Array]](), 0
    for _, answers in answering:
        found.append(answers)
        size += sum(a.nbytes for a in answers)
        if size > HELD_BYTES:
            break
    return found


def beside(run: Run, key: str, most: int = MOST) -> tuple[list[list[Array]], list[list[Array]]]:
    """All outputs of a loaded candidate and of the baseline for the same search samples, ``most`` at most."""
    old = wanted(run)[:most]
    ids = [int(i) for i in run.splits.search[: len(old)]]
    return [answers for _, answers in run.evaluator.answers(run.loaded[key], ids, everything(run))], old


def tolerance(run: Run) -> Tolerance:
    """What engines may differ by without a change of arithmetic: the rounding of the network's own type."""
    return compare.rounding_of(run.arithmetic)


def unlike(run: Run, found: dict[str, Difference]) -> str:
    """The worst output that is not the same, in words; empty where all are."""
    told = compare.first_problem(found, tolerance(run))
    return told and compare.first_problem(with_range(found, bounded(run)), tolerance(run))


def bounded(run: Run) -> list[str]:
    """Outputs that are probabilities by the graph: their scale is 1, however small those on the samples are."""
    try:
        return study(run, "hasten.search.conversion:bounded_outputs", list[str], path=str(run.source))
    except (WorkerDied, CallFailed):
        return []


def same_throughout(run: Run, worker: Worker, ids: Sequence[int]) -> tuple[Rows, str]:
    """The candidate's rows for ``ids``, and the worst output that is not the baseline's on them; empty where all are.

    Raises:
        NewNaN, WorkerDied, CallFailed: as ``Evaluator.rows``.
    """
    mine = run.evaluator.answers(worker, ids, everything(run))
    found, rows = dict[str, Difference](), list[Rows]()
    for (i, old), (_, new) in zip(of_baseline(run, ids), mine, strict=True):
        found = compare.joined(found, compare.sample(old, new, run.names))
        rows.append(run.evaluator.row(i, [new[k] for k in run.evaluator.keep]))
    return np.concatenate(rows), unlike(run, found)


def unread(run: Run) -> list[int]:
    """Outputs that the metric does not read and that leave the network: a state goes back in."""
    fed_back = set(run.evaluator.store.state.values())
    return [k for k, name in enumerate(run.names) if k not in run.evaluator.keep and name not in fed_back]


def moved(run: Run, old: Sequence[Sequence[Array]], new: Sequence[Sequence[Array]]) -> str:
    """The first output that the metric does not read and that moved too far, in words; empty where none did."""
    for k in unread(run):
        if told := spoilt([answers[k] for answers in old], [answers[k] for answers in new]):
            return f"output {run.names[k]!r}, which the metric does not read, {told}"
    return ""


def moved_on(run: Run, worker: Worker, ids: Sequence[int]) -> str:
    """The same on a part of ``ids``.

    Raises:
        WorkerDied, CallFailed: as ``Evaluator.answers``.
    """
    if not unread(run):
        return ""
    old = _held(of_baseline(run, ids[:UNREAD]))
    return moved(run, old, [a for _, a in run.evaluator.answers(worker, ids[: len(old)], everything(run))])
