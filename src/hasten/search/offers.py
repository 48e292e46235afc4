"""What the knobs of a network offer: each with a loss and a price, and the choice that saves enough and loses least."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hasten.quant.allocate import Allocation, Option, walk
from hasten.search.field import Run, in_workshop, material
from hasten.search.findings import named
from hasten.search.question import digest
from hasten.search.shrink import Knob
from hasten.search.space import CLEAN
from hasten.trial import Candidate, Step

KINDS = {"prune": ("counts", "pruned"), "factorize": ("ranks", "factorised")}  # option, and what was done
Offers = Mapping[str, Sequence[Option]]
SAVED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the time, as measured layer by layer
CLOCK_SECONDS = 12.0
LEAST = 0.05  # of the multiplications, or of the time: what a cut must save to be worth a look


def structural(base: Candidate) -> int:
    """How many of its steps tidy the network and take something out of it; those that narrow it come behind."""
    return next((i for i, step in enumerate(base.steps) if i and step.name not in KINDS), len(base.steps))


def before(base: Candidate) -> tuple[Step, ...]:
    """What was taken out of the tidied network so far, behind the clean-up where that is not the default."""
    return base.steps[int(base.steps[:1] == (CLEAN,)) : structural(base)]


def clocked(run: Run, base: Candidate, kind: str, knobs: Mapping[str, Knob]) -> dict[str, list[Option]]:
    """The options of each knob with their measured times; knobs without are not turned."""
    left = max(1.0, min(CLOCK_SECONDS, (run.deadline - time.monotonic()) / 2))
    asked: dict[str, Any] = {
        **material(run, before(base)),
        "way": kind,
        "engine": base.engine,
        "settings": base.settings,
        "steps": msgspec.to_builtins(base.steps[structural(base) :]),
        "knobs": msgspec.to_builtins(list(knobs.values())),
        "batch": run.work.batch,
    }

    def all_timed(ms: dict[str, list[float]]) -> str:
        sizes = all(len(times) in (0, len(knobs[name].told)) for name, times in ms.items() if name in knobs)
        return named(knobs)(ms) or ("" if sizes else "times that belong to no sizes")

    def read() -> dict[str, list[float]]:
        run.say("trial", f"{base.label}: the clock by layer for {kind}, {left:.0f} s at most")
        form = dict[str, list[float]]
        return in_workshop(run, "hasten.search.shrink:clock", form, all_timed, **asked, seconds=left)

    ms = run.once("clock by layer", digest(asked), dict[str, list[float]], read)
    timed = {name: times for name, times in ms.items() if times}
    if len(timed) < len(knobs):
        why = [f"{len(ms) - len(timed)} unable to run alone"] * (len(timed) < len(ms))
        why += [f"{len(knobs) - len(ms)} left when {left:.0f} s were over"] * (len(ms) < len(knobs))
        run.say("note", f"{kind}: the clock was read for {len(timed)} of {len(knobs)} layers ({', '.join(why)})")
    return {
        name: [Option(i, loss, t) for i, (loss, t) in enumerate(zip(knobs[name].loss, times, strict=True))]
        for name, times in timed.items()
    }


def guessed(knobs: Mapping[str, Knob]) -> dict[str, list[Option]]:
    """The options of each knob, with multiplications for time."""
    return {n: [Option(i, k.loss[i], k.work[i]) for i in range(len(k.told))] for n, k in knobs.items()}


def weighed(knobs: Mapping[str, Knob]) -> dict[str, list[Option]]:
    """The options of each knob, with numbers in weights for time: where bytes count."""
    return {n: [Option(i, k.loss[i], k.numbers[i]) for i in range(len(k.told))] for n, k in knobs.items()}


def saving(options: Offers, least: float) -> Allocation | None:
    """The choice that loses least and saves ``least``; None when none saves so much."""
    start = sum(several[0].ms for several in options.values())
    return next((found for found in walk(options) if start - found.ms >= least), None)


def stops(options: Offers, whole: float) -> list[float]:
    """What to save, more and more: shares of ``whole``, and at last as much as these knobs can.

    Layers timed by themselves do not add up to the whole, so that the boldest choice may promise little and save much.
    """
    start = sum(several[0].ms for several in options.values())
    end = min(found.ms for found in walk(options))
    most = (start - end) * (1 - 1e-9)  # rounding must not put it out of reach
    return [*(share * whole for share in SAVED if share * whole < most), most] if most > LEAST * whole else []
