"""Mixed precision for one engine: which regions in int8, from measured time and measured harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import msgspec
import numpy as np

from hasten import replies
from hasten.graph.regions import OUTSIDE
from hasten.search.explain import told
from hasten.search.field import Run, first_line, in_workshop, material, study
from hasten.search.finalists import quick_to_prove
from hasten.search.findings import Harms, Surveyed, as_many, placed
from hasten.search.grounds import LEAST_GAIN, fruitless, out_of_reach
from hasten.search.improve import Known, improve
from hasten.search.loading import SERVES, ready
from hasten.search.mixes import Ground, Mixes
from hasten.search.objective import quick_ms
from hasten.search.plan import Plan, Problem, crossings, ends, gained, predicted_harm, unlimited
from hasten.search.question import digest
from hasten.search.rounding import judged
from hasten.search.times import Spent, by_region, typical
from hasten.trial import Step
from hasten.worker import CallFailed, WorkerDied

PROFILES = 2  # of each format, in turns
PROFILE_SECONDS = 0.4  # each
HARM_SECONDS = 3.0
DEFAULT_CROSSING = 3e-7  # ms an element that changes format, where the profile holds too few to tell
ENOUGH_ELEMENTS = 50_000


def plan_for(run: Run, ground: Ground, base_ms: float) -> list[str]:
    """Search the mixes of one engine. Returns the keys of the plans inside the budget, all timed.

    Recorded in ``run.plans``: every region with its times and harms, what was chosen and why.
    """
    start = time.monotonic()
    found = surveyed(run, ground.scheme, ground.rounding.before)
    regions = found["regions"]
    bench = Mixes(run, ground, regions, base_ms)
    if len(regions) < 2 or not all(bench.loaded(end) for end in ends(len(regions))):
        return []
    problem = profiled(bench, found["places"])
    if problem is None:
        run.not_planned(f"{ground.engine} told no times: no mixed precision planned")
        return []
    [boldest] = bench.solve(problem, [unlimited(problem)])
    most = gained(problem, boldest)
    if enough(bench, most):
        run.say("note", f"{ground.engine}: int8 everywhere is inside {run.budget}, and no region is faster in float")
        problem, samples, plan = rung(bench, problem)
        run.plans.append(told(bench, problem, Known(), plan, samples, time.monotonic() - start))
        return [] if all(plan) else [bench.candidate(plan).key]
    if out_of_reach(run, ground, most):
        return []
    problem, samples = weighed(bench, problem)
    if fruitless(run, problem, bench.solve, ground):
        return []
    known, refitted = improve(problem, bench)
    safer(bench, known)
    run.plans.append(told(bench, refitted, known, known.best(), samples, time.monotonic() - start))
    inside = [p for p in known.ms if any(p) and known.harm[p] <= known.line() and known.ms[p] < inf]
    return [bench.candidate(p).key for p in inside]


def surveyed(run: Run, scheme: str, before: Sequence[Step] = ()) -> Surveyed:
    """The regions of the network after the steps ``before``, from the builder process. Raises as ``in_workshop``."""
    return in_workshop(run, "hasten.search.harm:survey", Surveyed, placed, **material(run, before), scheme=scheme)


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
        Harms,
        lambda reply: as_many(len(bench.regions))(reply["harm"]),
        **material(bench.run, ground.rounding.before),
        **judged(bench.run),
        scheme=ground.scheme,
        options=ground.rounding.options,
        formats=["int8"] if ground.wide_format == "f32" else ["int8", ground.wide_format],
        seconds=HARM_SECONDS,
    )
    wide, narrow = ([h.get(f, 0.0) for h in found["harm"]] for f in (ground.wide_format, "int8"))
    return replace(problem, harm=np.column_stack([wide, narrow])), int(found["samples"])


def enough(bench: Mixes, most: float) -> bool:
    """True when int8 everywhere is all but proven, and leaving regions in float promises nothing over it."""
    narrow = ends(len(bench.regions))[1]
    return most < 1 + LEAST_GAIN and bench.inside(narrow) and bench.certain(narrow)


def rung(bench: Mixes, problem: Problem) -> tuple[Problem, int, Plan]:
    """A plan of half the harm, for the proof to test before int8 everywhere, where a proof takes no time.

    What loses nothing on the search samples may still fail on others. Returns the problem with the harm, the samples
    that it was measured on, and the plan; that is int8 everywhere where there is none below it.
    """
    wide, narrow = ends(problem.regions)
    if not quick_to_prove(bench.run, bench.run.usual_ms):
        return problem, 0, narrow
    problem, samples = weighed(bench, problem)
    [plan] = bench.solve(problem, [predicted_harm(problem, narrow) / 2])
    if plan in (wide, narrow) or not (bench.inside(plan) and bench.certain(plan)):
        return problem, samples, narrow
    bench.times([plan])
    return problem, samples, plan


def profiled(bench: Mixes, places: dict[str, int]) -> Problem | None:
    """Times of every region in both formats, in the context of the whole network; None when the engine cannot tell."""
    ground = bench.ground
    if not all(ready(bench.run, c, SERVES) for c in ground.tellers):
        return None
    key = digest([*(c.key for c in ground.tellers), ground.scheme])
    try:
        spent = bench.run.once("profile", key, list[list[Any]], lambda: _profiles(bench, places))
    except (WorkerDied, CallFailed) as fault:
        bench.run.say("warning", f"{ground.tellers[0].engine} could not be profiled: {first_line(fault)}")
        return None
    wide, narrow = (typical(msgspec.convert(several, list[Spent])) for several in spent)
    if not wide.total or not narrow.total:
        return None
    if ground.borrows:
        wide, narrow = to_scale(bench.run, ground, wide, narrow)
    outside = sum(n for region in bench.regions for _, source, n in region.reads if source == OUTSIDE)
    enough = outside > ENOUGH_ELEMENTS and narrow.converting > wide.converting
    each = (narrow.converting - wide.converting) / outside if enough else DEFAULT_CROSSING
    ms = np.column_stack([wide.regions, narrow.regions])
    reads = [region.reads for region in bench.regions]
    return Problem(ms, np.zeros_like(ms), (False, True), crossings(reads, each), wide.outside + wide.converting)


def to_scale(run: Run, ground: Ground, wide: Spent, narrow: Spent) -> tuple[Spent, Spent]:
    """What another engine's kernels took, as shares of the time that this one takes; what races correct that."""
    ends = ((ground.wide, wide), (ground.narrow, narrow))
    wide, narrow = (s.scaled(ms / s.total if (ms := quick_ms(run, c.key)) < inf else 1.0) for c, s in ends)
    return wide, narrow.at_most(wide)


def _profiles(bench: Mixes, places: dict[str, int]) -> list[list[Any]]:
    """The wide and the all-int8 network profiled in turns, as plain values."""
    run, count = bench.run, len(bench.regions)
    seen: list[list[Any]] = [[], []]
    for _ in range(PROFILES):
        for teller, several in zip(bench.ground.tellers, seen, strict=True):
            worker, work = run.loaded[teller.key], run.work
            layers = replies.profile(worker, work.store, work.ids, batch=work.batch, lasting=PROFILE_SECONDS)
            several.append(msgspec.to_builtins(by_region(layers, places, count)))
    return seen
