"""Candidates in processes of their own: loaded where there is room, and told why where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hasten import registry
from hasten.errors import InputError
from hasten.machine import memory_bytes, private_bytes
from hasten.search.field import BUILD_SECONDS, Run, build_all, first_line, quarantined, recipe_key
from hasten.trial import Candidate, Trial
from hasten.worker import CallFailed, Worker, WorkerDied

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
    made = run.artefacts[recipe_key(candidate)]
    try:
        [(worker, seconds)] = _started(run, candidate)
    except (WorkerDied, CallFailed, InputError) as fault:
        if isinstance(fault, InputError) and candidate.key == run.given:
            raise  # it says itself what is wrong with the network as given
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
            seconds=made["seconds"] + seconds,
        )
    )
    return worker


def _started(run: Run, *candidates: Candidate) -> list[tuple[Worker, float]]:
    """New processes that load the candidates side by side, and the seconds that each took. Raises what one raises."""
    begun: list[Worker] = []
    try:
        for c in candidates:
            begun.append(Worker(name=c.label))
            path = run.artefacts[recipe_key(c)]["artefact"]
            begun[-1].ask("load", engine=c.engine, path=path, settings=c.settings, names=run.names)
        took = [float(worker.answer(seconds=BUILD_SECONDS)["load_seconds"]) for worker in begun]
    except (WorkerDied, CallFailed, InputError):
        for worker in begun:
            worker.close()
        raise
    for worker, c in zip(begun, candidates, strict=True):
        worker.spins = registry.find("engines", c.engine).spins
    return list(zip(begun, took, strict=True))


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
    except (WorkerDied, CallFailed, InputError) as fault:
        if went_well:  # any other fate was told before
            lost(run, candidate, fault)
        return False
    return True


def fresh_worker(run: Run, candidate: Candidate, *, keep: bool = True) -> Worker:
    """A new process with the candidate loaded; ``keep`` makes it the one in ``run.loaded``. Raises what it raises."""
    [(worker, _)] = _started(run, candidate)
    if keep:
        run.loaded[candidate.key] = worker
    return worker


def fresh_workers(run: Run, candidates: Sequence[Candidate]) -> dict[str, Worker]:
    """The same of several at once, by key, all of them in ``run.loaded``; none where one does not start."""
    found = {c.key: worker for c, (worker, _) in zip(candidates, _started(run, *candidates), strict=True)}
    run.loaded.update(found)
    return found


def lost(run: Run, candidate: Candidate, fault: WorkerDied | CallFailed | InputError) -> Trial:
    """Record a candidate that died or refused, with the reason."""
    run.retire([candidate.key])
    status = fault.status if isinstance(fault, WorkerDied) else "unsupported"
    reason = str(fault) if isinstance(fault, WorkerDied) else f"{candidate.engine} refuses it: {first_line(fault)}"
    before = run.trials.get(candidate.key, Trial(candidate=candidate, status="ok", stage=run.stage))
    return run.record(replace(before, status=status, reason=reason))  # type: ignore[arg-type]
