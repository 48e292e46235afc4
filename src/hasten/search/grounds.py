"""Where mixing formats may pay: on which engines, and with which float for what is not narrowed."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from hasten import registry
from hasten.search import space
from hasten.search.field import Run
from hasten.search.finalists import CERTAIN, CLEARLY, holds, looks_inside
from hasten.search.loading import SERVES
from hasten.search.mixes import Ground
from hasten.search.objective import NEAR, rested_ms, speed, taken_ms
from hasten.search.plan import Problem, Solver, gained
from hasten.search.rounding import Rounding
from hasten.trial import Candidate

LEAST_GAIN = 0.02  # of the latency: a plan that promises less over what is there already is not worth its search


def grounds(run: Run, engines: dict[str, Any], static: dict[str, list[Candidate]], rounding: Rounding) -> list[Ground]:
    """Where int8 everywhere runs, and is about as fast as the float it would be mixed with, or faster.

    Each may be the faster one in other regions, and a mix faster than both. The fastest engine first, of one engine
    the narrow float, and last those whose times are borrowed: such a plan is a guess until it is raced. Left out is
    what is clearly slower than the fastest of them, or than any int8 that is all but proven, and an engine that does
    not tell where its time goes if no other one does.
    """
    found: list[Ground] = []
    sure, lent = inf, lender(run, static)
    for name, several in static.items():
        for narrow in several:
            wide, taken = wide_of(run, narrow), taken_ms(run, narrow.key)
            if run.trials[narrow.key].status not in SERVES:
                continue
            sure = min(sure, max(taken, rested_ms(run, narrow.key))) if holds(run, narrow, CERTAIN) else sure
            tellers = (wide, narrow) if tells(name) and wide is not None else lent
            if run.trials[narrow.key].status == "slower" and not tells(name):
                continue  # a guess that begins behind
            if tellers is not None and wide is not None and taken < NEAR * taken_ms(run, wide.key):
                attention = str(narrow.steps[-1].options.get("attention", "float"))
                own = replace(rounding, options={**rounding.options, "attention": attention})
                found.append(Ground(name, engines[name].scheme, dict(narrow.settings), wide, narrow, own, tellers))
        if lent is None and not tells(name):
            run.not_planned(
                f"neither {name} nor another engine here reports times of its parts: no mixed precision planned"
            )
    fastest: dict[str, float] = {}  # int8 of each engine
    faster: dict[tuple[str, str], Ground] = {}  # of several ways to narrow an engine's network
    for ground in sorted(found, key=lambda g: taken_ms(run, g.narrow.key)):
        fastest.setdefault(ground.engine, taken_ms(run, ground.narrow.key))
        faster.setdefault((ground.engine, ground.wide_format), ground)
    told = [taken_ms(run, ground.narrow.key) for ground in faster.values() if not ground.borrows]
    most = NEAR * min([sure, *told])
    near = [ground for ground in faster.values() if taken_ms(run, ground.narrow.key) <= most]
    return sorted(near, key=lambda g: (g.borrows, fastest[g.engine], g.wide_format == "f32"))


def tells(engine: str) -> bool:
    """Does an engine count the time of its kernels?"""
    return hasattr(registry.find("engines", engine), "profile")


def lender(run: Run, static: dict[str, list[Candidate]]) -> tuple[Candidate, Candidate] | None:
    """Float32 and int8 on an engine that tells where their time goes, for one that does not; None without one."""
    for narrow in (c for name, several in static.items() if tells(name) for c in several):
        wide = wide_of(run, narrow)
        if wide is not None and wide.lossless and run.trials[narrow.key].status in SERVES:
            return wide, narrow
    return None


def wide_of(run: Run, narrow: Candidate) -> Candidate | None:
    """The tidied float network with the same settings, when its answers can be used."""
    for trial in run.trials.values():
        c = trial.candidate
        if c.engine == narrow.engine and c.settings == narrow.settings and c.steps == (space.CLEAN,):
            return c if c.lossless or looks_inside(run, c.key) else None
    return None


def outclassed(run: Run, ground: Ground) -> bool:
    """True for mixes with float32 where the same engine has int8 beside a faster float that is all but proven.

    What float32 spares of the harm, int8 in fewer regions spares as well, and is faster.
    """
    if ground.wide_format != "f32":
        return False
    passes = [step.name for step in ground.narrow.steps]
    for trial in run.trials.values():
        c = trial.candidate
        same = c.engine == ground.engine and [step.name for step in c.steps] == passes and trial.status == "ok"
        if same and c.settings.get("precision", "f32") != "f32" and holds(run, c, CERTAIN):
            run.not_planned(f"{ground.engine} int8 with f32 was not planned: {c.label} is all but certain to pass")
            return True
    return False


def out_of_reach(run: Run, ground: Ground, most: float) -> bool:
    """True where no plan of this ground can beat what is all but proven already.

    ``most`` is what its fastest plan of all, harm left aside, gains over int8 everywhere; that was raced.
    """
    at_best, sure = most * speed(run, ground.narrow.key), surest(run)
    if not 0 < at_best < (CLEARLY if ground.borrows else 1 + LEAST_GAIN) * sure:
        return False
    mix = f"{ground.engine} int8 with {ground.wide_format}"
    run.not_planned(f"{mix} would be {at_best:.2f}× at best, and {sure:.2f}× is all but certain to pass: not planned")
    return True


def fruitless(run: Run, problem: Problem, solver: Solver, ground: Ground) -> bool:
    """True where a plan by borrowed times does not beat what is all but proven, even with twice the harm of what holds.

    Harms are divergences of the same answers, whatever engine they are from.
    """
    known = [t.harm or 0.0 for t in run.trials.values() if t.status == "ok" and holds(run, t.candidate)]
    if not ground.borrows or not known:
        return False
    [plan] = solver(problem, [2 * max(known)])
    reach = gained(problem, plan) * speed(run, ground.narrow.key)
    if not 0 < reach < CLEARLY * surest(run):
        return False
    told = f"{reach:.2f}× with as little harm as it takes, and {surest(run):.2f}× is all but certain to pass"
    run.not_planned(f"{ground.engine} int8 with {ground.wide_format} would be {told}: not planned")
    return True


def surest(run: Run) -> float:
    """The speed-up of the fastest that is all but certain to be proven."""
    sure = (speed(run, k) for k, t in run.trials.items() if t.status == "ok" and holds(run, t.candidate, CERTAIN))
    return max(sure, default=0.0)
