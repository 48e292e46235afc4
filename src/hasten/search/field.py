"""The field of candidates: what builders are given, and what they made. Each failure is a trial with a reason."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from hasten.errors import HastenError, InputError, UsageError, gist
from hasten.model import file_digest
from hasten.search import forms, pace, policy
from hasten.search.findings import Built, built_in
from hasten.search.question import digest
from hasten.search.run import Run as Run
from hasten.search.run import T
from hasten.trial import Candidate, Step, Trial
from hasten.worker import CallFailed, Worker, WorkerDied

BUILD_SECONDS = 600.0
COMPILE_SECONDS = 90.0  # for a network compiled ahead of time
LEAST_SECONDS = 5.0  # a step that was begun gets so much, whatever is left
SCREENED = 256  # samples of the search split that a candidate is screened on, at most
SCREEN_ROUNDS = 12
RESTED_ROUNDS = 6  # of a race from sleeping threads, half of them after a pause
CONTENDERS = 4  # in such a race, the fastest before it


def recipe_key(candidate: Candidate) -> str:
    """Candidates that differ only in settings share an artefact, but for settings that go into the file."""
    return replace(candidate, settings=forms.baked(candidate)).key


def material(run: Run, before: Sequence[Step] = ()) -> dict[str, Any]:
    """What builders work on, as JSON (``workshop.Material``)."""
    return {
        "source": str(run.source),
        "store": str(run.evaluator.store.directory),
        "calibrate": [int(i) for i in run.splits.calibrate],
        "cache": str(run.folder / "artefacts" / "stats.npz"),
        **({"before": msgspec.to_builtins(before)} if before else {}),
    }


def in_workshop(
    run: Run, function: str, kind: type[T], check: Callable[[T], str] | None = None, limit: float = BUILD_SECONDS,
    **arguments: Any,
) -> T:  # fmt: skip
    """Call a function of ours in the run's builder process, which keeps what it has read; a dead one is replaced.

    Raises:
        WorkerDied: it crashed, hung, ate memory or answered falsely in this very call.
        CallFailed: it raised an exception.
        EnvironmentFault: the disk is full.
    """
    if run.workshop is None:
        run.workshop = Worker(name="builder")
    try:
        within = min(limit, most_seconds(run))
        return run.workshop.call("call", kind, seconds=within, check=check, function=function, keywords=arguments)
    except WorkerDied:
        run.workshop = None
        raise
    except (InputError, UsageError) as fault:
        raise CallFailed(type(fault).__name__, first_line(fault), fault) from fault


def race_rounds(run: Run, sides: int, most: int) -> int:
    """The rounds of a race of so many sides: ``most`` where that takes a small part of the time, else fewer."""
    least = min(most, int(float(policy.LONG_ROUNDS)))
    if run.seconds == inf or not run.usual_ms:
        return most
    share = float(policy.TIMING_SHARE) * run.seconds
    return pace.rounds_for(share, sides, run.usual_ms, most, least)


def most_seconds(run: Run) -> float:
    """How long a step that is begun now may take: until the promised time ends."""
    return min(BUILD_SECONDS, max(LEAST_SECONDS, run.left()))


def study(run: Run, function: str, kind: type[T], check: Callable[[T], str] | None = None, **arguments: Any) -> T:
    """What a function of the builder process finds out about the network; an unfinished run is not asked twice.

    Raises:
        WorkerDied, CallFailed: as ``in_workshop``.
    """
    key = digest([function, arguments])
    return run.once("study", key, kind, lambda: in_workshop(run, function, kind, check, **arguments))


def build_all(run: Run, candidates: Sequence[Candidate]) -> None:
    """Make the artefacts that are missing, in the run's builder process. A failure becomes a trial."""
    todo = {recipe_key(c): c for c in candidates if recipe_key(c) not in run.artefacts}
    for key, candidate in todo.items():
        run.artefacts[key] = _made(run, key, candidate)
    for candidate in candidates:
        made = run.artefacts[recipe_key(candidate)]
        if "artefact" in made and recipe_key(candidate) in todo:
            made = run.artefacts[recipe_key(candidate)] = unless_twin(run, candidate, made)
        if "artefact" not in made:
            run.record(Trial(candidate=candidate, stage=run.stage, **made))


def _made(run: Run, key: str, candidate: Candidate) -> dict[str, Any]:
    """What an unfinished run built, where its files are still what they were; else built now."""
    folder = _place(run, key)
    before = run.recall("build", key, dict[str, Any])
    if before is not None:
        damaged = [n for n, digest in before["files"].items() if not _is(folder / n, digest)]
        if not damaged:
            return _at(run.folder, before["made"])
        run.say("warning", f"{candidate.label} is built again: {damaged[0]} is not what was built")
    elif run.journal.to_blame(key):
        return quarantined("built")
    shutil.rmtree(folder, ignore_errors=True)
    run.begin("build", key)
    made = _build(run, key, candidate)
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if "artefact" in made else []
    digests = {p.relative_to(folder).as_posix(): file_digest(p) for p in files}
    run.note("build", key, {"made": _below(run.folder, made), "files": digests})
    return made


def _place(run: Run, key: str) -> Path:
    return run.folder / "artefacts" / key


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def _at(folder: Path, made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "artefact": str(folder / made["artefact"])} if "artefact" in made else made


def _below(folder: Path, made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "artefact": str(Path(made["artefact"]).relative_to(folder))} if "artefact" in made else made


def quarantined(what: str) -> dict[str, Any]:
    """The fate of a candidate that was under way whenever a run died."""
    return {"status": "crashed", "reason": f"left alone: two runs died while it was {what}"}


def unless_twin(run: Run, candidate: Candidate, made: dict[str, Any]) -> dict[str, Any]:
    """Two recipes may come to the same network; the second is not worth its time."""
    key, label = run.digests.setdefault((made["digest"], candidate.engine), (recipe_key(candidate), candidate.label))
    if key == recipe_key(candidate):
        return made
    return {"status": "skipped", "reason": f"comes to the same network as {label}"}


def _build(run: Run, key: str, candidate: Candidate) -> dict[str, Any]:
    start = time.perf_counter()
    form, directory = forms.form_of(candidate.engine, candidate.steps, run.forms) or forms.GRAPH, _place(run, key)
    if forms.baked(candidate):
        run.say("note", f"compiling {candidate.label}: up to {COMPILE_SECONDS:.0f} s")
    try:
        made = in_workshop(
            run,
            "hasten.search.build:build",
            Built,
            built_in(directory),
            COMPILE_SECONDS if forms.baked(candidate) else BUILD_SECONDS,
            **{**material(run), "source": str(run.forms[form])},
            form=form,
            baked=forms.baked(candidate),
            steps=msgspec.to_builtins(candidate.steps),
            engine=candidate.engine,
            directory=str(directory),
        )
    except WorkerDied as fault:
        return {"status": fault.status, "reason": str(fault), "seconds": time.perf_counter() - start}
    except CallFailed as fault:  # an engine may lack an operator; a full disk ends the search
        return {
            "status": "unsupported",
            "reason": f"could not be built: {first_line(fault)}",
            "seconds": time.perf_counter() - start,
        }
    if "not_applicable" in made:
        return {"status": "skipped", "reason": f"nothing to do: {made['not_applicable']}"}
    return dict(made)


def first_line(fault: Exception) -> str:
    """The first telling line of an exception's text, cut to a readable length; of our own errors what and why."""
    if isinstance(fault, HastenError):
        return "; ".join(filter(None, (fault.message, fault.cause)))[:300]
    return gist(str(fault)) or type(fault).__name__
