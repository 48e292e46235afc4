"""Less work on top of the best precision: fewer channels, thinner layers, and what zeros would bring.

A small cut comes first, judged like any candidate: where even that is too much, nothing else is measured. Then the
time of each layer at each size is measured in the engine and precision that won, sizes are chosen so that every layer
loses the same for its next millisecond (``quant.allocate``), and bolder plans follow as long as they look inside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import prod

from hasten.quant.allocate import Allocation, Option
from hasten.search.field import SCREEN_ROUNDS, Run, first_line, material, study
from hasten.search.finalists import CERTAIN, holds
from hasten.search.findings import Shrinkable, either
from hasten.search.foundation import excluded, foundation, narrowing, near, stands
from hasten.search.loading import SERVES, ready
from hasten.search.objective import bytes_count
from hasten.search.offers import KINDS, LEAST, Offers, before, clocked, guessed, saving, stops, structural, weighed
from hasten.search.screening import out_of_time, race
from hasten.search.shrink import Knob
from hasten.search.waves import drop_losers
from hasten.search.zeros import zeros
from hasten.trial import Candidate, Step, Trial
from hasten.worker import CallFailed, WorkerDied

HALVINGS = 2  # between the last that held and the first that did not
TEACHING_SECONDS = 25.0
PATIENT = 120.0  # seconds: a search of less is for precision alone
NEEDED_SECONDS = 4.0  # with less time left nothing is begun


@dataclass
class Shrinking:
    """One way of doing less on top of ``base``: what can be turned down, and what was tried."""

    run: Run
    base: Candidate
    kind: str
    knobs: Mapping[str, Knob]
    work: float
    tried: dict[str, bool] = field(default_factory=dict)  # key of a candidate: does it look provable?

    def candidate(self, chosen: Mapping[str, Option], taught: bool = False) -> Candidate:
        """What realises a choice of sizes; ``taught``, distilled behind it."""
        option, done = KINDS[self.kind]
        turned = {name: o.size for name, o in chosen.items() if o.size}
        entries = [f"{name}={self.knobs[name].told[i]}" for name, i in turned.items()]
        label = f"{self.base.label}, {done} in {len(turned)} of {len(self.knobs)} places ({self.less(turned):.0%} less)"
        at, step = structural(self.base), Step(name=self.kind, options={option: entries})
        lessons = [Step(name="distill")] if taught else []
        steps = (*self.base.steps[:at], step, *lessons, *self.base.steps[at:])
        return replace(self.base, steps=steps, lossless=False, label=label + (", distilled" if taught else ""))

    def less(self, turned: Mapping[str, int]) -> float:
        """About which share of the multiplications goes. Groups of channels share layers: what one takes is gone."""
        shares = [(k.work[0] - k.work[i]) / self.work for n, i in turned.items() for k in (self.knobs[n],)]
        return 1 - prod(1 - min(share, 1.0) for share in shares) if self.kind == "prune" else sum(shares)

    def holds(self, chosen: Mapping[str, Option], taught: bool = False) -> bool:
        """Build it, look at its clock and its answers; True when a proof is likely."""
        candidate = self.candidate(chosen, taught)
        if candidate.key not in self.tried:
            self.tried[candidate.key] = stands(self.run, candidate)
        return self.tried[candidate.key]

    def certain(self, chosen: Mapping[str, Option]) -> bool:
        """Is a proof of what was built all but certain?"""
        return holds(self.run, self.candidate(chosen), CERTAIN)


def structure_stage(run: Run, tuned: str) -> None:
    """Prune and factorise, as far as time and budget allow, then both together; say what zeros would bring.

    Only in long searches, and where bytes count: the clock by layer alone takes longer than a default search has left.
    """
    if run.splits.lossless_only:
        return
    if min(run.asked, run.seconds) < PATIENT and not bytes_count(run):
        return
    base = foundation(run, tuned)
    if base is None:
        return
    for kind in KINDS:
        attempt(run, base, kind)
    drop_losers(run, tuned)
    lesser = foundation(run, tuned)
    others = [kind for kind in KINDS if lesser and all(step.name not in (kind, "distill") for step in lesser.steps)]
    if lesser is not None and len(others) == 1:  # what a short training made cannot be made again the same
        attempt(run, lesser, others[0])
        drop_losers(run, tuned)
    elsewhere(run, base, foundation(run, tuned))
    drop_losers(run, tuned)
    zeros(run, base)


def attempt(run: Run, base: Candidate, kind: str) -> None:
    """One way of doing less on top of ``base``, if there is time."""
    at = structural(base)
    steps, label = (*base.steps[:at], Step(name=kind), *base.steps[at:]), f"{base.label}, {kind}"
    idle = replace(base, steps=steps, lossless=False, label=label)
    if run.over() or run.deadline - time.monotonic() < NEEDED_SECONDS:
        out_of_time(run, [idle])
        return
    run.say("trial", f"{base.label}: what could {kind} save")
    try:
        shrink(run, base, kind, idle)
    except (WorkerDied, CallFailed) as fault:
        run.say("warning", f"{kind} was left: {first_line(fault)}")


def elsewhere(run: Run, base: Candidate, lesser: Candidate | None) -> None:
    """The boldest cut that held, in the precision of the other engines that are near: the order may change with it."""
    if lesser is None or narrowing(lesser) == 1:
        return
    done, told = lesser.steps[: narrowing(lesser)], lesser.label.removeprefix(base.label)
    tried = []
    for other in near(run, base):
        steps = (*done, *other.steps[narrowing(other) :])
        candidate = replace(other, steps=steps, label=other.label + told)
        if run.over() or run.deadline - time.monotonic() < NEEDED_SECONDS:
            out_of_time(run, [candidate])
        elif stands(run, candidate):
            tried.append(candidate.key)
    if tried:
        race(run, [lesser.key, *tried], SCREEN_ROUNDS)


def shrink(run: Run, base: Candidate, kind: str, idle: Candidate) -> None:
    """One small cut; where it holds, the clock by layer and size, and bolder cuts.

    ``idle`` takes the reason where there is nothing to try.
    """
    of = material(run, before(base))
    whole = either("knobs", "work", "numbers")
    found = study(run, "hasten.search.shrink:survey", Shrinkable, whole, **of, way=kind)
    if "not_applicable" in found:
        skipped(run, idle, f"nothing to do: {found['not_applicable']}")
        return
    floats = excluded(base) if kind == "factorize" else set()
    knobs = {k.name: k for k in found["knobs"] if k.name not in floats}
    plan = Shrinking(run, base, kind, knobs, float(found["work"]) or 1.0)
    least = LEAST * (float(found["numbers"]) if bytes_count(run) else plan.work)
    small = saving((weighed if bytes_count(run) else guessed)(knobs), least) if knobs else None
    if small is None:
        skipped(run, idle, f"no sizes to choose from that save {LEAST:.0%}")
        return
    if not plan.holds(small.chosen):
        smallest(plan, small)
        return
    if bytes_count(run):
        bolder(plan, weighed(knobs), float(found["numbers"]))
    else:
        bolder(plan, clocked(run, base, kind, knobs), time_of(run, base))
    alive = [key for key, inside in plan.tried.items() if inside and key in run.loaded]
    if base.key in run.trials:
        ready(run, base, SERVES)
    race(run, [base.key, *alive], SCREEN_ROUNDS)


def skipped(run: Run, candidate: Candidate, reason: str) -> None:
    """A way that was not gone, in the record."""
    run.record(Trial(candidate=candidate, status="skipped", reason=reason, stage=run.stage))


def smallest(plan: Shrinking, small: Allocation) -> None:
    """Say that the smallest useful cut costs too much already."""
    run, trial = plan.run, plan.run.trials[plan.candidate(small.chosen).key]
    if trial.search is not None:
        share = trial.search.drop / run.budget.max_drop
        reason = f"the smallest useful cut costs {share:.1f} of the budget already: {trial.reason}"
        run.update(trial.candidate.key, reason=reason)
    run.say("note", f"{plan.kind}: {run.trials[trial.candidate.key].reason}")


def time_of(run: Run, base: Candidate) -> float:
    """The latency of ``base`` in milliseconds; as given where it was never timed itself."""
    trial = run.trials.get(base.key) or run.trials[run.given]
    trial = trial if trial.timing or trial.quick_ms else run.trials[run.given]
    return trial.timing.median_ms if trial.timing else float(trial.quick_ms or 0.0)


def bolder(plan: Shrinking, options: Offers, whole_ms: float) -> None:
    """Save more and more until it does not hold, then halve the distance to what did.

    Down to what all but certainly passes: a plan with an even chance alone may leave nothing.
    """
    sure, doubtful, failed = 0.0, 0.0, 0.0
    for least in stops(options, whole_ms):
        found = None if plan.run.over() else saving(options, least)
        if found is None:
            break
        if not plan.holds(found.chosen):
            failed = least
            break
        sure, doubtful = (least, 0.0) if plan.certain(found.chosen) else (sure, doubtful or least)
    bold = doubtful or failed
    for _ in range(HALVINGS if bold else 0):
        middle = (sure + bold) / 2
        found = saving(options, middle)
        if plan.run.over() or found is None:
            break
        sure, bold = (middle, bold) if plan.holds(found.chosen) and plan.certain(found.chosen) else (sure, middle)
    found = saving(options, failed) if failed else None
    if found is not None and teachable(plan.run):
        plan.holds(found.chosen, taught=True)


def teachable(run: Run) -> bool:
    """True where torch is at hand and there is time for a short training."""
    return find_spec("torch") is not None and run.deadline - time.monotonic() > TEACHING_SECONDS
