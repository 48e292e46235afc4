"""Candidates in processes of their own: loaded where there is room, and told why where they are not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from hasten import registry, replies
from hasten.deaths import blamed
from hasten.machine import memory_bytes, private_bytes
from hasten.protocols import Event, Listener
from hasten.restarting import RestartingWorker
from hasten.search.field import Run, build_all, first_line, most_seconds, quarantined, recipe_key
from hasten.search.findings import Probed
from hasten.trial import Candidate, Trial
from hasten.worker import CallFailed, Worker, WorkerDied, once

SERVES = ("ok", "rejected", "slower")  # fates of candidates that run
ROOM = 2  # copies of the network, as large as the largest so far, that must fit before one is loaded
LOOKED = ("load", "answers", "clock", "screen", "deep screen")  # steps of a candidate's trial before it races


def make_room(run: Run) -> str:
    """Close the slowest candidates while another copy of the network may not fit into memory.

    Returns what is missing where there is nothing to close; empty when there is room.
    """
    each = max((private_bytes(worker.pid) for worker in run.loaded.values()), default=0)
    while 0 < (free := memory_bytes()[1]) < ROOM * each:
        timed = {k: t.speedup for k in run.loaded if k != run.given and (t := run.trials[k].timing) is not None}
        if not timed:
            return f"one more copy of the network takes {each >> 20} MiB or more, and {free >> 20} MiB are free"
        run.retire([min(timed, key=lambda k: timed[k])])
    return ""


def load(run: Run, candidate: Candidate) -> Worker | None:
    """A worker that has the candidate loaded; None after recording why not.

    A candidate that fell out of an unfinished run is not loaded again.
    """
    short = make_room(run)
    if short:
        run.record(Trial(candidate=candidate, status="skipped", reason=f"no room: {short}", stage=run.stage))
        return None
    ended = (run.recall(step, candidate.key, Trial) for step in LOOKED)
    out = next((trial for trial in ended if trial is not None and trial.status != "ok"), None)
    if out is None and run.journal.to_blame(candidate.key):
        out = Trial(candidate=candidate, stage=run.stage, **quarantined("tried"))
    if out is not None:
        run.record(out)
        return None
    run.journal.begin("load", candidate.key)
    worker = _load(run, candidate)
    run.note("load", candidate.key, None if worker else run.trials[candidate.key])
    return worker


def _load(run: Run, candidate: Candidate) -> Worker | None:
    made, start = run.artefacts[recipe_key(candidate)], time.perf_counter()
    try:
        worker = _begin(run, candidate)
        _finish(run, candidate, worker)
    except (WorkerDied, CallFailed) as fault:
        if candidate.key == run.given:
            raise blamed(fault, "the network cannot be loaded", process="its process") from fault
        lost(run, candidate, fault)
        return None
    run.loaded[candidate.key] = worker
    run.record(
        Trial(
            candidate=candidate,
            status="ok",
            stage=run.stage,
            artefact=str(Path(made["artefact"]).relative_to(run.folder)),
            bytes=made["bytes"],
            seconds=made["seconds"] + time.perf_counter() - start,
        )
    )
    return worker


def _begin(run: Run, candidate: Candidate) -> Worker:
    """A new process that has been sent the request to load the candidate. Raises what that raises."""
    given = candidate.key == run.given
    worker = RestartingWorker(name=candidate.engine) if given else Worker(name=candidate.label)
    path, settings = run.artefacts[recipe_key(candidate)]["artefact"], candidate.settings
    try:
        worker.ask("load", **replies.load_arguments(candidate.engine, path, settings, run.names))
    except BaseException:
        worker.close()
        raise
    return worker


def _finish(run: Run, candidate: Candidate, worker: Worker) -> None:
    """Wait until it is loaded, while there is time. Raises what that raises, and closes the process."""
    try:
        worker.answer(replies.Loaded, seconds=most_seconds(run))
    except BaseException:
        worker.close()
        raise
    worker.spins = registry.find("engines", candidate.engine).spins


def ready(run: Run, candidate: Candidate, fates: Sequence[str] = ("ok",)) -> bool:
    """Built and loaded; what prevents it is on record.

    One that was closed meanwhile is loaded again if it met one of ``fates``.
    """
    if candidate.key in run.loaded:
        return True
    if candidate.key in run.trials:
        return run.trials[candidate.key].status in fates and _again(run, candidate)
    build_all(run, [candidate])
    return "artefact" in run.artefacts[recipe_key(candidate)] and load(run, candidate) is not None


def _again(run: Run, candidate: Candidate) -> bool:
    """A worker for a candidate whose own was closed to save memory; where it does not start, that ends its way here."""
    went_well = run.trials[candidate.key].status == "ok"
    if short := make_room(run):
        if went_well:
            run.update(candidate.key, status="skipped", reason=f"no room to load it again: {short}")
        return False
    try:
        fresh_worker(run, candidate)
    except (WorkerDied, CallFailed) as fault:
        if went_well:  # any other fate was told before
            lost(run, candidate, fault)
        return False
    return True


def fresh_worker(run: Run, candidate: Candidate, *, keep: bool = True) -> Worker:
    """A new process with the candidate loaded; ``keep`` makes it the one in ``run.loaded``. Raises what it raises."""
    worker = _begin(run, candidate)
    _finish(run, candidate, worker)
    if keep:
        run.loaded[candidate.key] = worker
    return worker


def fresh_workers(
    run: Run, candidates: Sequence[Candidate]
) -> tuple[dict[str, Worker], dict[str, WorkerDied | CallFailed]]:
    """The same of several at once, by key, all of them in ``run.loaded``; and why the others did not start."""
    begun: dict[str, Worker] = {}
    failed: dict[str, WorkerDied | CallFailed] = {}
    with ExitStack() as undo:

        def begin(candidate: Candidate) -> None:
            begun[candidate.key] = _begin(run, candidate)

        def finish(candidate: Candidate) -> None:
            _finish(run, candidate, begun[candidate.key])

        for step in (begin, finish):
            for candidate in candidates:
                if candidate.key not in failed:
                    try:
                        step(candidate)
                    except (WorkerDied, CallFailed) as fault:
                        failed[candidate.key] = fault
                    else:
                        undo.callback(begun[candidate.key].close)
        undo.pop_all()
    found = {key: worker for key, worker in begun.items() if key not in failed}
    run.loaded.update(found)
    return found, failed


def baseline(run: Run) -> Worker:
    """The process of the network as given, started where it is closed. Raises what loading it raises."""
    return run.loaded.get(run.given) or fresh_worker(run, run.trials[run.given].candidate)


def lost(run: Run, candidate: Candidate, fault: WorkerDied | CallFailed) -> Trial:
    """Record a candidate that died or refused, with the reason."""
    run.retire([candidate.key])
    status = fault.status if isinstance(fault, WorkerDied) else "unsupported"
    reason = str(fault) if isinstance(fault, WorkerDied) else f"{candidate.engine} refuses it: {first_line(fault)}"
    before = run.trials.get(candidate.key, Trial(candidate=candidate, status="ok", stage=run.stage))
    return run.record(replace(before, status=status, reason=reason))  # type: ignore[arg-type]


def probed(name: str) -> dict[str, Any]:
    """What an engine says of itself in a process of its own, so that a broken package cannot end this one."""
    try:
        return {**once("hasten.registry:probe", {"name": name}, Probed, seconds=60)}
    except (WorkerDied, CallFailed) as fault:
        said = " ".join(f"broken: its process {fault}".split())[:300]
        return {"name": name, "version": None, "formats": [], "missing": said}


def engines_here(listen: Listener) -> list[dict[str, Any]]:
    """What each engine says of itself."""
    names, found = list(registry.names("engines")), []
    for k, name in enumerate(names):
        listen(Event(kind="trial", stage="engines", text=f"starting {name}", done=k + 1, total=len(names)))
        found.append(probed(name))
    return found
