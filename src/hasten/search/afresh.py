"""The final timing: processes started afresh, several times, each time a few rounds from sleeping threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hasten import replies
from hasten.measure.speed import LEAST_PAIRS, LEAST_RESTARTS
from hasten.measure.timing import Series, interleave, timing
from hasten.search.field import Run, first_line
from hasten.search.loading import fresh_workers, lost
from hasten.worker import CallFailed, WorkerDied

MOST_DEATHS = 2  # in the final timing


def final_timing(run: Run, keys: Sequence[str], restarts: int, rounds: int) -> dict[str, list[float]]:
    """Time ``keys`` afresh, in new processes each time; only this run is reported. Returns the blocks in ms.

    A restart in which a process dies is repeated; a candidate that dies in two of them is out.
    """
    blocks: dict[str, list[float]] = {k: [] for k in keys}
    waking: dict[str, list[float]] = {k: [] for k in keys}
    peaks: dict[str, int] = {}
    deaths, timed, done = dict.fromkeys(keys, 0), list(keys), 0
    for attempt in range(1, 2 * restarts + 1):
        if done == restarts or (run.stopping() and done >= LEAST_RESTARTS):
            break
        run.say("trial", "final timing in fresh processes", done, restarts)
        run.retire(timed)
        series, found = _afresh(run, timed, rounds, run.seed + attempt)
        if series.lost:
            timed = _left(run, timed, series.lost, deaths)
            continue
        done, peaks = done + 1, found
        for k in timed:
            blocks[k] += series.blocks[k]
            waking[k] += series.waking[k]
    for k in keys:
        if len(blocks[k]) >= LEAST_PAIRS and len(blocks[k]) == len(blocks[run.given]):
            first = (waking[run.given], waking[k])
            again = timing(blocks[run.given], blocks[k], waking=first, restarts=done)
            run.update(k, timing=again, peak_bytes=peaks[k])
        elif k != run.given:
            run.update(k, timing=None)  # an earlier one is no final timing
    return blocks


def _afresh(run: Run, keys: Sequence[str], rounds: int, seed: int) -> tuple[Series, dict[str, int]]:
    """One restart of the final timing: the series, and each process's memory; ``lost`` holds those that died."""
    sides, lost_ones = fresh_workers(run, [run.trials[k].candidate for k in keys])
    if lost_ones:
        return Series({}, lost=lost_ones), {}
    series, peaks = interleave(sides, run.work, rounds=rounds, seed=seed, rested=True), dict[str, int]()
    for key, worker in sides.items():
        try:
            peaks[key] = replies.memory(worker)
        except (WorkerDied, CallFailed) as fault:
            series.lost.setdefault(key, fault)
    what_ran(run, keys)
    return series, peaks


def _left(
    run: Run, keys: Sequence[str], dead: Mapping[str, WorkerDied | CallFailed], deaths: dict[str, int]
) -> list[str]:
    """Those that are timed again after a lost restart; a candidate that died too often is recorded as lost."""
    for key, fault in dead.items():
        run.say("warning", f"a restart of the final timing was lost: {first_line(fault)}")
        deaths[key] += 1
        if deaths[key] == MOST_DEATHS and key != run.given:
            lost(run, run.trials[key].candidate, fault)
    return [k for k in keys if deaths[k] < MOST_DEATHS or k == run.given]


def what_ran(run: Run, keys: Sequence[str]) -> None:
    """Ask the engines what they really executed."""
    for key in keys:
        worker = run.loaded.get(key)
        if worker is not None and not run.trials[key].executed:
            try:
                run.update(key, executed=replies.executed(worker))
            except (CallFailed, WorkerDied) as fault:
                run.update(key, executed=f"unknown ({first_line(fault)})")
