"""Whether a candidate answers what the network as given answers: every output, on the user's samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from hasten import compare
from hasten.compare import Difference, Tolerance
from hasten.measure.evaluate import Rows
from hasten.measure.kept import Part, Tally, worst
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
WEIGHED = 24  # search samples on which a candidate's outputs are compared with the contract


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
    ids = compared(run)
    if not run.wanted:
        run.wanted = held(of_baseline(run, ids))
    return run.wanted[: len(ids)]


def of_baseline(run: Run, ids: Sequence[int]) -> Iterator[tuple[int, list[Array]]]:
    """All outputs of the network as given; when its process dies, that is no fault of the candidate beside it."""
    try:
        yield from run.evaluator.answers(baseline(run), ids, everything(run))
    except (WorkerDied, CallFailed) as fault:
        raise does_not_run(fault) from fault


def held(answering: Iterable[tuple[int, list[Array]]]) -> list[list[Array]]:
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


def spoilt(run: Run, old: Sequence[Sequence[Array]], new: Sequence[Sequence[Array]]) -> str:
    """The first output that is certainly not kept on these search samples, in words; empty where none is."""
    tallies = started(run)
    for one, other in zip(old, new, strict=True):
        add(tallies, one, other)
    found = worst([part for tally in tallies.values() for part in tally.parts(run.budget.alpha)])
    return f"output {found}" if found is not None and found.spoilt else ""


def started(run: Run) -> dict[int, Tally]:
    """An empty tally for each output of the contract, by its position."""
    return {run.names.index(output.name): Tally(output) for output in run.contract}


def add(tallies: Mapping[int, Tally], old: Sequence[Array], new: Sequence[Array]) -> None:
    """One sample's answers of the baseline and of a candidate."""
    for k, tally in tallies.items():
        tally.add(old[k], new[k])


def tallied(run: Run, worker: Worker, ids: Sequence[int], tallies: Mapping[int, Tally]) -> Rows:
    """The candidate's rows for ``ids``; what it loses of each output is added to ``tallies``.

    Raises:
        NewNaN, WorkerDied, CallFailed: as ``Evaluator.rows``.
    """
    if not tallies:
        return run.evaluator.rows(worker, ids)
    rows = list[Rows]()
    mine = run.evaluator.answers(worker, ids, everything(run))
    for (_, old), (i, new) in zip(remembered(run, ids), mine, strict=True):
        add(tallies, old, new)
        rows.append(run.evaluator.row(i, [new[k] for k in run.evaluator.keep]))
    return np.concatenate(rows)


def lacking(run: Run, tallies: Mapping[int, Tally], ids: Sequence[int], alpha: float) -> Part | None:
    """The worst part of an output that ``tallies`` of ``ids`` do not show to be kept; None where all are.

    Samples of one group count together.
    """
    groups = run.evaluator.store.groups
    units = None if groups is None else np.asarray([int(groups[i]) for i in ids])
    return worst([part for tally in tallies.values() for part in tally.parts(alpha, units)])


def remembered(run: Run, ids: Sequence[int]) -> Iterator[tuple[int, list[Array]]]:
    """The baseline's answers to ``ids``; ``HELD_BYTES`` of all of them at most are kept for the next candidate."""
    if all(i in run.remembered for i in ids):
        yield from ((i, run.remembered[i]) for i in ids)
        return
    size = sum(a.nbytes for answers in run.remembered.values() for a in answers)
    for i, answers in of_baseline(run, ids):
        size += sum(a.nbytes for a in answers)
        if size <= HELD_BYTES:
            run.remembered[i] = answers
        yield i, answers
