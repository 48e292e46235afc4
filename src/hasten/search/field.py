"""The field of candidates: build them, screen their answers, race them. Each failure is a trial with a reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from hasten import registry
from hasten.budget import Budget
from hasten.measure.evaluate import Evaluator
from hasten.measure.timing import Workload
from hasten.model import Origin, TensorSpec
from hasten.protocols import Event, Listener
from hasten.search import forms
from hasten.splits import Splits
from hasten.trial import Candidate, Trial
from hasten.worker import CallFailed, Worker, WorkerDied, once

BUILD_SECONDS = 600.0
SCREENED = 256  # samples of the search split that a candidate is screened on, at most
SCREEN_ROUNDS = 12


@dataclass
class Run:
    """One search on its way: what was prepared, and everything found so far."""

    folder: Path
    source: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    budget: Budget
    evaluator: Evaluator
    splits: Splits
    work: Workload
    listen: Listener
    seed: int = 0
    forms: dict[str, Path] = field(default_factory=dict)  # files of the same network, by form; of old only the graph
    origin: Origin = field(default_factory=Origin)
    staged: Path = Path()  # the copy of what the user gave
    title: str = "the network"
    entering: float = 0.0  # seconds that the conversion and its proof took
    deadline: float = float("inf")
    stopping: Callable[[], bool] = lambda: False
    trials: dict[str, Trial] = field(default_factory=dict)
    artefacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    loaded: dict[str, Worker] = field(default_factory=dict)
    given: str = ""  # the key of the network as it is served today
    best: float = 1.0
    stage: str = ""

    def __post_init__(self) -> None:
        self.forms.setdefault(forms.GRAPH, self.source)
        self.staged = self.source if self.staged == Path() else self.staged

    @property
    def names(self) -> list[str]:
        """The outputs' names, in the graph's order."""
        return [o.name for o in self.outputs]

    def over(self) -> bool:
        """True when the user or the clock says that it is time to wrap up."""
        return self.stopping() or time.monotonic() > self.deadline

    def say(self, kind: str, text: str, done: int = 0, total: int = 0) -> None:
        """One line of progress."""
        left = None if self.deadline == float("inf") else max(0.0, self.deadline - time.monotonic())
        self.listen(
            Event(kind=kind, stage=self.stage, text=text, done=done, total=total, best=self.best, seconds_left=left)
        )

    def record(self, trial: Trial) -> Trial:
        """Keep a trial; the journal gets it at once, so that nothing finished is lost."""
        self.trials[trial.candidate.key] = trial
        with (self.folder / "journal.jsonl").open("ab") as journal:
            journal.write(msgspec.json.encode(trial) + b"\n")
        return trial

    def update(self, key: str, **changes: Any) -> Trial:
        """Change what is known of a trial."""
        return self.record(replace(self.trials[key], **changes))

    def retire(self, keys: Iterable[str]) -> None:
        """Close the workers of candidates that are out of the race."""
        for key in list(keys):
            worker = self.loaded.pop(key, None)
            if worker is not None:
                worker.close()


def recipe_key(candidate: Candidate) -> str:
    """Candidates that differ only in settings share an artefact, but for settings that go into the file."""
    return replace(candidate, settings=forms.baked(candidate)).key


def build_all(run: Run, candidates: Sequence[Candidate], workers: int = 2) -> None:
    """Make the artefacts that are missing, each in a process of its own. A failure becomes a trial."""
    todo = {recipe_key(c): c for c in candidates if recipe_key(c) not in run.artefacts}
    with ThreadPoolExecutor(workers) as pool:
        for key, made in zip(todo, pool.map(lambda item: _build(run, *item), todo.items()), strict=True):
            run.artefacts[key] = made
    for candidate in candidates:
        made = run.artefacts[recipe_key(candidate)]
        if "artefact" in made and recipe_key(candidate) in todo:
            made = run.artefacts[recipe_key(candidate)] = unless_twin(run, candidate, made)
        if "artefact" not in made:
            run.record(Trial(candidate=candidate, stage=run.stage, **made))


def unless_twin(run: Run, candidate: Candidate, made: dict[str, Any]) -> dict[str, Any]:
    """Two recipes may come to the same network; the second is not worth its time."""
    key, label = run.digests.setdefault((made["digest"], candidate.engine), (recipe_key(candidate), candidate.label))
    if key == recipe_key(candidate):
        return made
    return {"status": "skipped", "reason": f"comes to the same network as {label}"}


def _build(run: Run, key: str, candidate: Candidate) -> dict[str, Any]:
    start = time.perf_counter()
    form = forms.form_of(candidate.engine, candidate.steps, run.forms) or forms.GRAPH
    try:
        made = once(
            "hasten.search.build:build",
            {
                "source": str(run.forms[form]),
                "form": form,
                "baked": forms.baked(candidate),
                "steps": msgspec.to_builtins(candidate.steps),
                "engine": candidate.engine,
                "directory": str(run.folder / "artefacts" / key),
                "store": str(run.evaluator.store.directory),
                "calibrate": [int(i) for i in run.splits.calibrate],
            },
            seconds=BUILD_SECONDS,
        )
    except WorkerDied as fault:
        return {"status": fault.status, "reason": str(fault), "seconds": time.perf_counter() - start}
    except CallFailed as fault:
        return {
            "status": "unsupported",
            "reason": f"could not be built: {first_line(fault)}",
            "seconds": time.perf_counter() - start,
        }
    if "not_applicable" in made:
        return {"status": "skipped", "reason": f"nothing to do: {made['not_applicable']}"}
    return dict(made)


def first_line(fault: Exception) -> str:
    """The first line of an exception's text, cut to a readable length."""
    lines = str(fault).strip().splitlines()
    return (lines[0] if lines else type(fault).__name__)[:300]


def load(run: Run, candidate: Candidate) -> Worker | None:
    """A worker that has the candidate loaded; None after recording why not."""
    made = run.artefacts[recipe_key(candidate)]
    worker = Worker(name=candidate.label)
    try:
        reply = worker.call(
            "load",
            seconds=BUILD_SECONDS,
            engine=candidate.engine,
            path=made["artefact"],
            settings=candidate.settings,
            names=run.names,
        )
    except (WorkerDied, CallFailed) as fault:
        worker.close()
        lost(run, candidate, fault)
        return None
    worker.spins = registry.find("engines", candidate.engine).spins
    run.loaded[candidate.key] = worker
    run.record(
        Trial(
            candidate=candidate,
            status="ok",
            stage=run.stage,
            artefact=str(Path(made["artefact"]).relative_to(run.folder)),
            bytes=made["bytes"],
            seconds=made["seconds"] + reply["load_seconds"],
        )
    )
    return worker


def fresh_worker(run: Run, candidate: Candidate, *, keep: bool = True) -> Worker:
    """A new process with the candidate loaded; ``keep`` makes it the one in ``run.loaded``. Raises what it raises."""
    worker = Worker(name=candidate.label)
    path = run.artefacts[recipe_key(candidate)]["artefact"]
    worker.call(
        "load", seconds=BUILD_SECONDS, engine=candidate.engine, path=path, settings=candidate.settings, names=run.names
    )
    worker.spins = registry.find("engines", candidate.engine).spins
    if keep:
        run.loaded[candidate.key] = worker
    return worker


def lost(run: Run, candidate: Candidate, fault: WorkerDied | CallFailed) -> Trial:
    """Record a candidate that died or refused, with the reason."""
    run.retire([candidate.key])
    status = fault.status if isinstance(fault, WorkerDied) else "unsupported"
    reason = str(fault) if isinstance(fault, WorkerDied) else f"{candidate.engine} refuses it: {first_line(fault)}"
    before = run.trials.get(candidate.key, Trial(candidate=candidate, status="ok", stage=run.stage))
    return run.record(replace(before, status=status, reason=reason))  # type: ignore[arg-type]
