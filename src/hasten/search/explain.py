"""A plan in the record: why each region has its format, and how well the model foretold what was measured."""

from __future__ import annotations

from math import inf

from hasten.search.improve import Known
from hasten.search.mixes import Mixes
from hasten.search.plan import WIDE, Plan, Problem, predicted_harm, predicted_ms
from hasten.trial import Group, Mixed


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
        teller=ground.tellers[0].engine if ground.borrows else "",
    )


def why(problem: Problem, plan: Plan, g: int, names: tuple[str, str]) -> str:
    """One clause on a region's format: ``"kept f32: 61 % of the harm, 3 % of the time"``."""
    wide, narrow = problem.ms[g]
    harm = problem.harm[:, 1].sum()
    share = problem.harm[g, 1] / harm if harm else 0.0
    saved, total = wide - narrow, problem.ms[:, 0].sum() or 1.0
    if plan[g] == WIDE and saved <= 0:
        return f"kept {names[0]}: int8 is no faster here ({spelt(narrow)} against {spelt(wide)})"
    if plan[g] == WIDE:
        return f"kept {names[0]}: {share:.0%} of the harm, {wide / total:.0%} of the time"
    if saved <= 0:
        return "int8 like its neighbours: converting would cost more"
    cost = f" for {share:.1%} of the harm" if harm else ""
    return f"saves {saved / total:.1%} of the time{cost}"


def spelt(ms: float) -> str:
    """Milliseconds, or microseconds below a tenth of one; clocks of kernels count whole microseconds.

    >>> spelt(1.5), spelt(0.0195), spelt(0.0)
    ('1.5 ms', '19.5 µs', 'under 1 µs')
    """
    return f"{ms:.3g} ms" if ms >= 0.1 else f"{ms * 1000:.3g} µs" if ms > 0 else "under 1 µs"
