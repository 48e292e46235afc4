"""Plans of one engine as candidates of a search: built, loaded, weighed, timed and screened, each once."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from hasten.graph.regions import Region
from hasten.search import space
from hasten.search.field import Run, material, study
from hasten.search.finalists import CERTAIN, holds
from hasten.search.findings import as_many
from hasten.search.improve import Bench
from hasten.search.loading import SERVES, ready
from hasten.search.objective import speed
from hasten.search.plan import WIDE, Plan, Problem, fits, plain
from hasten.search.rounding import Rounding, judged
from hasten.search.screening import race, screen
from hasten.trial import Candidate, Scalar

ROUNDS = 6  # of a race among plans
JOINT_SAMPLES = 16
DEEP = 512  # search samples that decide whether a plan is inside
KEPT = 1  # of each kind of mixes alive while others are tried


@dataclass(frozen=True)
class Ground:
    """Where a plan is to run: an engine with the settings of its wide format, and the two ends of the scale.

    ``tellers`` are the two whose kernels tell where time goes: those ends, or the like on an engine that counts.
    """

    engine: str
    scheme: str
    settings: dict[str, Scalar]
    wide: Candidate
    narrow: Candidate
    rounding: Rounding
    tellers: tuple[Candidate, Candidate]

    @property
    def borrows(self) -> bool:
        """True where another engine tells the times."""
        return self.tellers[0].engine != self.engine

    @property
    def wide_format(self) -> str:
        """The float format of what is not narrowed."""
        return str(self.settings.get("precision", "f32"))


@dataclass
class Mixes(Bench):
    """Plans of one ``Ground`` as candidates of a run: built, loaded, timed, screened, each once."""

    run: Run
    ground: Ground
    regions: list[Region]
    base_ms: float = 0.0  # of the network as given, for the scale of ``times``
    candidates: dict[Plan, Candidate] = field(default_factory=dict)

    def over(self) -> bool:
        """True when the search has to end."""
        return self.run.over()

    def solve(self, problem: Problem, limits: Sequence[float]) -> list[Plan]:
        """The fastest plan under each limit of harm, from the builder process."""
        return study(
            self.run,
            "hasten.search.plan:fastest_of_plain",
            list[Plan],
            lambda plans: as_many(len(limits))(plans) or fits(problem, plans),
            **plain(problem),
            limits=list(limits),
        )

    def harms(self, plans: Sequence[Plan]) -> list[float]:
        """Joint harm of the plans as graphs, in the builder process."""
        return study(
            self.run,
            "hasten.search.harm:joint",
            list[float],
            as_many(len(plans)),
            **material(self.run, self.ground.rounding.before),
            **judged(self.run),
            scheme=self.ground.scheme,
            options=self.ground.rounding.options,
            wide=self.ground.wide_format,
            plans=[self.narrowed(plan) for plan in plans],
            samples=JOINT_SAMPLES,
        )

    def times(self, plans: Sequence[Plan]) -> list[float]:
        """Latency of each plan by its speed-up in a race, on the scale of the baseline's first median.

        Only who races stays in memory.
        """
        wanted = {self.run.given, *(self.candidate(p).key for p in plans)}
        self.run.retire(k for k in self.run.loaded if k not in wanted)
        ready = [self.candidate(p) for p in plans if self.loaded(p)]
        if ready:
            race(self.run, [c.key for c in ready], ROUNDS)
        trials = [self.run.trials.get(self.candidate(p).key) for p in plans]
        self._thin_out()
        return [self.base_ms / t.timing.speedup if t and t.timing else inf for t in trials]

    def _thin_out(self) -> None:
        """Close all but the fastest of the mixes that were timed, and all but the last of the others.

        One that is asked for again is loaded again.
        """
        mixes = [c.key for p, c in self.candidates.items() if any(p) and not all(p) and c.key in self.run.loaded]
        timed = [k for k in mixes if self.run.trials[k].timing is not None]
        self.run.retire(sorted(timed, key=lambda k: -speed(self.run, k))[KEPT:])
        self.run.retire([k for k in mixes if k not in timed][:-KEPT])

    def inside(self, plan: Plan) -> bool:
        """True when the user's metric on the search split makes a proof on the confirm split likely."""
        candidate = self.candidate(plan)
        self._thin_out()
        if not self.loaded(plan):
            return False
        quality = screen(self.run, candidate, DEEP)
        return quality is not None and holds(self.run, candidate)

    def certain(self, plan: Plan) -> bool:
        """True when what was screened of it makes a proof all but certain."""
        return holds(self.run, self.candidate(plan), CERTAIN)

    def narrowed(self, plan: Plan) -> list[str]:
        """The linear operators that a plan puts in int8."""
        return [label for region, f in zip(self.regions, plan, strict=True) if f != WIDE for label in region.linear]

    def candidate(self, plan: Plan) -> Candidate:
        """The candidate that realises a plan; the ends are those that the search knows already."""
        if plan not in self.candidates:
            if not any(plan):
                self.candidates[plan] = self.ground.wide
            elif all(plan):
                self.candidates[plan] = self.ground.narrow
            else:
                self.candidates[plan] = self._mix(plan)
        return self.candidates[plan]

    def _mix(self, plan: Plan) -> Candidate:
        wide = [label for region, f in zip(self.regions, plan, strict=True) if f == WIDE for label in region.linear]
        variant = space.without(self.ground.narrow, [glob.escape(label) for label in wide])
        narrow = sum(map(bool, plan))
        label = f"{self.ground.narrow.label}, {narrow} of {len(plan)} regions"
        same = sum(c.label.startswith(label) for c in self.candidates.values())
        return replace(self.ground.narrow, steps=variant, label=label + (f" #{same + 1}" if same else ""))

    def loaded(self, plan: Plan) -> bool:
        """Build and load a plan's candidate if that has not been done; False when it cannot be."""
        candidate = self.candidate(plan)
        if candidate.key not in self.run.trials:
            self.run.say("trial", candidate.label)
        return ready(self.run, candidate, SERVES)
