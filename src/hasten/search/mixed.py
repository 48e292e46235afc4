"""Mixed precision for one engine: which regions in int8, from measured time and measured harm."""

from __future__ import annotations

import glob
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import msgspec
import numpy as np

from hasten.graph.regions import OUTSIDE, Region
from hasten.measure.provable import EVEN
from hasten.protocols import Layer
from hasten.search import space
from hasten.search.confirm import CERTAIN, promises
from hasten.search.field import Run, first_line, fresh_worker, in_workshop, material, ready, study
from hasten.search.improve import Bench, Known, improve
from hasten.search.plan import WIDE, Plan, Problem, crossings, predicted_harm, predicted_ms, solve
from hasten.search.question import digest
from hasten.search.rounding import Rounding, judged
from hasten.search.screening import race, screen
from hasten.search.times import Spent, by_region, typical
from hasten.trial import Candidate, Group, Mixed, Scalar
from hasten.worker import CallFailed, WorkerDied

PROFILES = 2  # of each format, in turns
PROFILE_SECONDS = 0.4  # each
ROUNDS = 6  # of a race among plans
HARM_SECONDS = 3.0
JOINT_SAMPLES = 16
DEEP = 512  # search samples that decide whether a plan is inside
LEAST_GAIN = 0.02  # of the latency: a plan that promises less than this over all-int8 is not worth its search
SERVES = ("ok", "rejected", "slower")  # fates of candidates that run
DEFAULT_CROSSING = 3e-7  # ms an element that changes format, where the profile holds too few to tell
ENOUGH_ELEMENTS = 50_000


@dataclass(frozen=True)
class Ground:
    """Where a plan is to run: an engine with the settings of its wide format, and the two ends of the scale."""

    engine: str
    scheme: str
    settings: dict[str, Scalar]
    wide: Candidate
    narrow: Candidate
    rounding: Rounding

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

    def harms(self, plans: Sequence[Plan]) -> list[float]:
        """Joint harm of the plans as graphs, in the builder process."""
        return study(
            self.run,
            "hasten.search.harm:joint",
            list[float],
            **material(self.run, self.ground.rounding.before),
            **judged(self.run),
            scheme=self.ground.scheme,
            options=self.ground.rounding.options,
            wide=self.ground.wide_format,
            plans=[self.narrowed(plan) for plan in plans],
            samples=JOINT_SAMPLES,
        )

    def times(self, plans: Sequence[Plan]) -> list[float]:
        """Latency of each plan by its speed-up in a race, on the scale of the baseline's first median."""
        ready = [self.candidate(p) for p in plans if self.loaded(p)]
        if ready:
            race(self.run, [c.key for c in ready], ROUNDS)
        trials = [self.run.trials.get(self.candidate(p).key) for p in plans]
        return [self.base_ms / t.timing.speedup if t and t.timing else inf for t in trials]

    def inside(self, plan: Plan) -> bool:
        """True when the user's metric on the search split makes a proof on the confirm split likely."""
        candidate = self.candidate(plan)
        if not self.loaded(plan):
            return False
        quality = screen(self.run, candidate, DEEP)
        return quality is not None and promises(self.run, quality)

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
        if candidate.key in self.run.loaded:
            return True
        known = self.run.trials.get(candidate.key)
        if known is not None:  # it was screened before, and its fate stays as it is
            return known.status in SERVES and again(self.run, candidate)
        self.run.say("trial", candidate.label)
        return ready(self.run, candidate)


def again(run: Run, candidate: Candidate) -> bool:
    """A worker for a candidate whose own was closed; False when it does not start this time."""
    try:
        fresh_worker(run, candidate)
    except (WorkerDied, CallFailed):
        return False
    return True


def plan_for(run: Run, ground: Ground, base_ms: float) -> list[str]:
    """Search the mixes of one engine. Returns the keys of the plans inside the budget, all timed.

    Recorded in ``run.plans``: every region with its times and harms, what was chosen and why.
    """
    start = time.monotonic()
    found = in_workshop(run, "hasten.search.harm:survey", **material(run, ground.rounding.before), scheme=ground.scheme)
    regions = msgspec.convert(found["regions"], list[Region])
    bench = Mixes(run, ground, regions, base_ms)
    if len(regions) < 2 or not all(bench.loaded(end) for end in ends(len(regions))):
        return []
    problem = profiled(bench, found["places"])
    if problem is None:
        run.say("note", f"{ground.engine} told no times: no mixed precision planned")
        return []
    if not _worth_it(bench, problem):
        run.say("note", f"{ground.engine}: int8 everywhere is inside {run.budget}, and no region is faster in float")
        run.plans.append(told(bench, problem, Known(), ends(problem.regions)[1], 0, time.monotonic() - start))
        return []
    problem, samples = weighed(bench, problem)
    known, refitted = improve(problem, bench)
    safer(bench, known)
    run.plans.append(told(bench, refitted, known, known.best(), samples, time.monotonic() - start))
    inside = [p for p in known.ms if any(p) and known.harm[p] <= known.line() and known.ms[p] < inf]
    return [bench.candidate(p).key for p in inside]


def safer(bench: Mixes, known: Known) -> None:
    """Time the most harmful plan known that is all but certain to be proven, where the best of them only may be.

    A plan with an even chance alone may leave the user with nothing.
    """
    best = known.best()
    if not any(best) or bench.certain(best):
        return
    order = sorted((p for p in known.harm if any(p) and known.harm[p] < known.harm[best]), key=lambda p: known.harm[p])
    low, high = -1, len(order)  # certain, not certain
    while high - low > 1 and not bench.over():
        middle = (low + high) // 2
        low, high = (middle, high) if bench.inside(order[middle]) and bench.certain(order[middle]) else (low, middle)
    if low >= 0:
        known.inside[order[low]] = True
        known.ms.update(zip([order[low]], bench.times([order[low]]), strict=True))


def weighed(bench: Mixes, problem: Problem) -> tuple[Problem, int]:
    """The problem with the harm of each region, and how many samples it was measured on."""
    ground = bench.ground
    found = study(
        bench.run,
        "hasten.search.harm:measure",
        dict[str, Any],
        **material(bench.run, ground.rounding.before),
        **judged(bench.run),
        scheme=ground.scheme,
        options=ground.rounding.options,
        formats=["int8"] if ground.wide_format == "f32" else ["int8", ground.wide_format],
        seconds=HARM_SECONDS,
    )
    wide, narrow = ([h.get(f, 0.0) for h in found["harm"]] for f in (ground.wide_format, "int8"))
    return replace(problem, harm=np.column_stack([wide, narrow])), int(found["samples"])


def _worth_it(bench: Mixes, problem: Problem) -> bool:
    """False when int8 everywhere is all but proven and leaving regions in float promises nothing."""
    narrow = ends(problem.regions)[1]
    if not (bench.inside(narrow) and bench.certain(narrow)):
        return True
    best = solve(problem, inf)
    return predicted_ms(problem, best) < (1 - LEAST_GAIN) * predicted_ms(problem, narrow)


def holds(run: Run, candidate: Candidate, power: float = EVEN) -> bool:
    """True when the search split promises a proof on the confirm split."""
    trial = run.trials.get(candidate.key)
    quality = trial.search if trial else None
    return quality is not None and promises(run, quality, power)


def ends(regions: int) -> tuple[Plan, Plan]:
    return (0,) * regions, (1,) * regions


def profiled(bench: Mixes, places: dict[str, int]) -> Problem | None:
    """Times of every region in both formats, in the context of the whole network; None when the engine cannot tell."""
    key = digest([end.key for end in (bench.ground.wide, bench.ground.narrow)])
    try:
        spent = bench.run.once("profile", key, list[list[Any]], lambda: _profiles(bench, places))
    except (WorkerDied, CallFailed) as fault:
        bench.run.say("warning", f"{bench.ground.engine} could not be profiled: {first_line(fault)}")
        return None
    wide, narrow = (typical(msgspec.convert(several, list[Spent])) for several in spent)
    if not wide.total or not narrow.total:
        return None
    outside = sum(n for region in bench.regions for _, source, n in region.reads if source == OUTSIDE)
    enough = outside > ENOUGH_ELEMENTS and narrow.converting > wide.converting
    each = (narrow.converting - wide.converting) / outside if enough else DEFAULT_CROSSING
    ms = np.column_stack([wide.regions, narrow.regions])
    reads = [region.reads for region in bench.regions]
    return Problem(ms, np.zeros_like(ms), (False, True), crossings(reads, each), wide.outside + wide.converting)


def _profiles(bench: Mixes, places: dict[str, int]) -> list[list[Any]]:
    """The wide and the all-int8 network profiled in turns, as plain values."""
    run, count = bench.run, len(bench.regions)
    seen: list[list[Any]] = [[], []]
    for _ in range(PROFILES):
        for end, several in zip(ends(count), seen, strict=True):
            reply = run.loaded[bench.candidate(end).key].call(
                "profile", store=run.work.store, ids=list(run.work.ids), batch=run.work.batch, lasting=PROFILE_SECONDS
            )
            layers = msgspec.convert(reply["layers"], list[Layer])
            several.append(msgspec.to_builtins(by_region(layers, places, count)))
    return seen


def told(bench: Mixes, problem: Problem, known: Known, best: Plan, samples: int, seconds: float) -> Mixed:
    """The plan in the record: why each region has its format, and how well the model foretold what was measured."""
    timed, ground = [p for p in known.ms if known.ms[p] < inf], bench.ground
    names = (ground.wide_format, "int8")
    groups = tuple(
        Group(
            name=region.linear[0],
            kind=region.kind,
            linear=len(region.linear),
            ms=dict(zip(names, (round(float(t), 5) for t in problem.ms[g]), strict=True)),
            harm=dict(zip(names, (float(h) for h in problem.harm[g]), strict=True)) if samples else {},
            chosen=names[best[g]],
            why=why(problem, best, g, names),
        )
        for g, region in enumerate(bench.regions)
    )
    return Mixed(
        engine=ground.engine,
        wide=ground.wide_format,
        candidate=bench.candidate(best).key,
        groups=groups,
        samples=samples,
        seconds=seconds,
        foretold_ms=tuple(predicted_ms(problem, p) for p in timed),
        measured_ms=tuple(known.ms[p] for p in timed),
        summed_harm=tuple(predicted_harm(problem, p) for p in known.harm),
        joint_harm=tuple(known.harm.values()),
    )


def why(problem: Problem, plan: Plan, g: int, names: tuple[str, str]) -> str:
    """One clause on a region's format: ``"kept f32: 61 % of the harm, 3 % of the time"``."""
    wide, narrow = problem.ms[g]
    harm = problem.harm[:, 1].sum()
    share = problem.harm[g, 1] / harm if harm else 0.0
    saved, total = wide - narrow, problem.ms[:, 0].sum() or 1.0
    if plan[g] == WIDE and saved <= 0:
        return f"kept {names[0]}: int8 is no faster here ({narrow:.3g} ms against {wide:.3g})"
    if plan[g] == WIDE:
        return f"kept {names[0]}: {share:.0%} of the harm, {wide / total:.0%} of the time"
    if saved <= 0:
        return "int8 like its neighbours: converting would cost more"
    cost = f" for {share:.1%} of the harm" if harm else ""
    return f"saves {saved / total:.1%} of the time{cost}"
