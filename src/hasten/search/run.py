"""One search on its way: what was prepared, everything found so far, and how a step is done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from hasten.budget import Budget
from hasten.journal import Journal
from hasten.looks import Ledger
from hasten.machine import now
from hasten.measure.evaluate import Evaluator
from hasten.measure.outputs import Output
from hasten.measure.sequential import worn_alpha
from hasten.measure.timing import Workload
from hasten.model import Origin, TensorSpec
from hasten.protocols import Array, Event, Listener
from hasten.search import forms
from hasten.search.own_paths import without_folder
from hasten.splits import Splits
from hasten.trial import Candidate, Mixed, Trial
from hasten.worker import Peak, Worker

T = TypeVar("T")
CUT = object()  # what a step returns that the clock ended early


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
    engines: dict[str, Any] = field(default_factory=dict)
    forms: dict[str, Path] = field(default_factory=dict)  # files of the same network, by form; of old only the graph
    origin: Origin = field(default_factory=Origin)
    staged: Path = Path()  # the copy of what the user gave
    title: str = "the network"
    arithmetic: str = "float32"  # the narrowest float that the network as given computes in
    conversion: float | None = None  # how far the graph's answers are from the original's; None: nothing was converted
    journal: Journal = field(default_factory=Journal)
    ledger: Ledger | None = None  # None: nobody counts, as when a result is checked again
    look: int = 1
    sizes: str = ""  # of the inputs, as JSON, where the network leaves some open and all samples have the same
    made_up: bool = False  # the samples are no data
    seed: int = 0
    per_tensor: bool = False  # of the question
    objective: str = "latency"  # of the question
    conditions: tuple[Any, ...] = ()  # further scores that must hold (``also.Condition``)
    begun: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=now)
    deadline: float = float("inf")  # when candidates are no longer tried: what comes then fits into ``seconds``
    clock: float = field(default_factory=time.monotonic)  # when this run's own time began
    seconds: float = float("inf")  # from ``clock`` for everything
    asked: float = float("inf")  # seconds that the user asked for; 0 where nobody did
    opening: float = 0.0  # seconds from ``clock`` to the promise: reading, converting, a first call
    caught_up: bool = False  # a step was begun that no unfinished run has done
    ran_out: bool = False  # the clock left something untried
    stopping: Callable[[], bool] = lambda: False
    peak: Peak = field(default_factory=Peak)
    trials: dict[str, Trial] = field(default_factory=dict)
    artefacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    loaded: dict[str, Worker] = field(default_factory=dict)
    edges: dict[str, Any] = field(default_factory=dict)  # of each engine, those that the network has
    wanted: list[list[Array]] = field(default_factory=list)  # all outputs of the baseline on a few search samples
    remembered: dict[int, list[Array]] = field(default_factory=dict)  # all outputs of the baseline, on test samples
    contract: tuple[Output, ...] = ()  # what each output is that a narrowed candidate keeps
    plans: list[Mixed] = field(default_factory=list)
    unplanned: list[str] = field(default_factory=list)  # where no formats were mixed, and why
    workshop: Worker | None = None  # builds, one after another; started when needed
    given: str = ""  # the key of the network as it is served today
    usual_ms: float = 0.0  # the fastest block of the baseline while the noise was measured; 0 before
    noise: float = 1.0  # times that the baseline differed by from itself, by the interval
    best: float = 1.0
    stage: str = ""

    def __post_init__(self) -> None:
        self.forms.setdefault(forms.GRAPH, self.source)
        self.staged = self.source if self.staged == Path() else self.staged

    @property
    def names(self) -> list[str]:
        """The outputs' names, in the graph's order."""
        return [o.name for o in self.outputs]

    def over(self, until: float = float("inf")) -> bool:
        """True when the user or the clock says that it is time to wrap up, or where ``until`` is past."""
        late = time.monotonic() > self.deadline
        self.ran_out = self.ran_out or late
        return late or time.monotonic() > until or self.stopping()

    def at_share(self, share: float) -> float:
        """When so much of the time is over that was promised; on the clock of ``time.monotonic``."""
        return self.clock + self.opening + share * (self.seconds - self.opening)

    def affords(self, seconds: float) -> bool:
        """Does a step of so many seconds end before candidates are no longer tried?"""
        return time.monotonic() + seconds <= self.deadline

    def left(self) -> float:
        """Seconds until the promise ends."""
        return self.clock + self.seconds - time.monotonic()

    def say(self, kind: str, text: str, done: int = 0, total: int = 0) -> None:
        """One line of progress."""
        left = None if self.seconds == float("inf") else max(0.0, self.left())
        self.listen(
            Event(kind=kind, stage=self.stage, text=text, done=done, total=total, best=self.best, seconds_left=left)
        )

    def not_planned(self, why: str, kind: str = "note") -> None:
        """Say where no formats are mixed and why; the report tells it too."""
        self.unplanned.append(why)
        self.say(kind, why)

    @property
    def proof(self) -> Budget:
        """The budget at the level that is left for this look at the confirm split."""
        return replace(self.budget, confidence=1 - worn_alpha(self.budget.alpha, self.look))

    def record(self, trial: Trial) -> Trial:
        """Keep a trial; its reason is for people, who know nothing of this run's folder."""
        if str(self.folder) in trial.reason:
            trial = replace(trial, reason=without_folder(trial.reason, self.folder))
        self.trials[trial.candidate.key] = trial
        return trial

    def update(self, key: str, **changes: Any) -> Trial:
        """Change what is known of a trial."""
        return self.record(replace(self.trials[key], **changes))

    def recall(self, step: str, key: str, kind: type[T]) -> T | None:
        """What an unfinished run found in this step. Its time counts as used, and takes none of this run's."""
        found = self.journal.recall(step, key, kind)
        if found is None:
            return None
        value, at = found
        self.begun = min(self.begun, time.monotonic() - at)
        if not self.caught_up:
            ahead = max(0.0, time.monotonic() - self.clock - self.opening)
            self.clock, self.deadline = self.clock + ahead, self.deadline + ahead
        return value

    def begin(self, step: str, key: str) -> None:
        """A step that no unfinished run has done: from the first one on, this run's time is used."""
        self.caught_up = True
        self.journal.begin(step, key)

    def note(self, step: str, key: str, value: object) -> None:
        """Write down what a step found."""
        self.journal.note(step, key, value, time.monotonic() - self.begun)

    def once(self, step: str, key: str, kind: type[T], work: Callable[[], T]) -> T:
        """The value of a step that changes nothing else: as an unfinished run found it, else worked out and noted."""
        value = self.recall(step, key, kind)
        if value is None:
            self.begin(step, key)
            value = work()
            self.note(step, key, None if self.stopping() else value)  # it may have been cut short
        return value

    def step(self, step: str, candidate: Candidate, work: Callable[[], object]) -> bool:
        """One step of a candidate's trial, done or recalled. False when the candidate is out.

        ``work`` returns ``CUT`` where the clock ended it early: then the next run does it again.
        """
        key = candidate.key
        trial = self.recall(step, key, Trial)
        if trial is not None:
            self.record(trial)
        else:
            self.begin(step, key)
            cut = work() is CUT or self.stopping()
            self.note(step, key, None if cut else self.trials[key])
        if self.trials[key].status != "ok":
            self.retire([key])
        return self.trials[key].status == "ok"

    def close(self) -> None:
        """End every process of this run."""
        self.retire(self.loaded)
        self.leave_workshop()

    def leave_workshop(self) -> None:
        """End the builder process with the networks and statistics that it holds; the next build starts another."""
        if self.workshop is not None:
            self.workshop.close()
            self.workshop = None

    def retire(self, keys: Iterable[str]) -> None:
        """Close the workers of candidates that are out of the race."""
        for key in list(keys):
            worker = self.loaded.pop(key, None)
            if worker is not None:
                worker.close()
