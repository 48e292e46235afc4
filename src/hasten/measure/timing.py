"""Speed from interleaved pairs: every round times each side once, in shuffled order, on the same real samples.

Machines drift by more than the effects that matter; a ratio inside one round does not. Each side lives in a warm
process of its own. A pool that spins after a call (ONNX Runtime's for 42 ms) taxes whoever runs next: its process is
held until its next turn, or, where each block is to start from sleeping threads, everybody rests for longer than that.
A block starts with one untimed call; a block of long calls is one call, and nothing beside it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import log
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hasten import replies
from hasten.machine import load_flags
from hasten.measure.speed import (
    CORRELATED,
    LEAST_PAIRS,
    LEAST_RESTARTS,
    autocorrelation,
    block_average,
    restart_interval,
    sign_interval,
    speedup_of,
)
from hasten.trial import Timing
from hasten.worker import CallFailed, Worker, WorkerDied

T = TypeVar("T")

REST_SECONDS = 0.055
PAUSE_SECONDS = 0.2  # where nothing ran for so long, threads may be woken on one core, and stay there
SETTLE_SECONDS = 0.005
BLOCK_MS = 20.0
WAKING_MS = 5.0  # calls that begin so soon after a rest meet threads that still sleep, or share a core
WARM_SECONDS = 3.0
LONG_MS = 50.0  # a call: what wakes, or was put out of the cache, is a small part of it
PATIENCE_SECONDS, HUNG = 20.0, 100  # a call that takes so long, and so many times as long as the last ones, hangs
ROTATING_SAMPLES = 8


@dataclass(frozen=True)
class Workload:
    """What every side runs: ids of ``store`` in batches of ``batch``; ``limit_seconds`` ends a hung call."""

    store: str
    ids: tuple[int, ...]
    batch: int = 1
    limit_seconds: float = 120.0


@dataclass
class Series:
    """Block medians in milliseconds, a column a side, a row a round; ``lost`` tells why a side left.

    ``waking`` are the medians of each block's first calls.
    """

    blocks: dict[str, list[float]]
    waking: dict[str, list[float]] = field(default_factory=dict)
    lost: dict[str, WorkerDied | CallFailed] = field(default_factory=dict)


def milliseconds(worker: Worker, work: Workload, inner: int, start: int = 0) -> list[float]:
    """Times of ``inner`` inferences in one block, from sample ``start`` on.

    One that was timed before is not waited for as long as a new one.
    """
    patience = PATIENCE_SECONDS + HUNG * (inner + 1) * worker.usual_ms / 1000
    limit, warm = min(work.limit_seconds, patience), not long(worker)
    times = replies.times(
        worker, work.store, work.ids, batch=work.batch, inner=inner, warm=warm, start=start, seconds=limit
    )
    worker.usual_ms = median(times)
    return times


def long(worker: Worker) -> bool:
    """Did the worker's last calls take so long that a block is one call?"""
    return LONG_MS < worker.usual_ms < float("inf")


def warm_up(worker: Worker, work: Workload) -> int:
    """Run until two windows agree within 5 %, for three seconds at most. Returns the inferences of a block.

    A call that is long is made twice.
    """
    deadline = time.monotonic() + WARM_SECONDS
    last = median(milliseconds(worker, work, 1))
    if long(worker):
        return 1
    while True:
        window = max(1, min(10, int(BLOCK_MS / max(last, 1e-3))))
        now = median(milliseconds(worker, work, window))
        if abs(now - last) < 0.05 * last or time.monotonic() > deadline:
            return max(1, min(1000, round(BLOCK_MS / max(now, 1e-3))))
        last = now


def interleave(
    sides: Mapping[str, Worker],
    work: Workload,
    *,
    rounds: int,
    seed: int = 0,
    stop: Callable[[Series], bool] = lambda _: False,
    leave: Callable[[Series], Collection[str]] = lambda _: (),
    rested: bool = False,
) -> Series:
    """Time all ``sides`` for ``rounds`` rounds, fewer when ``stop`` says so. A side that dies leaves the field.

    After each round those leave that ``leave`` names. With ``rested`` each block starts from an idle machine, whoever
    ran before, in every other round after a pause, as between requests that come one by one.
    """
    series = Series({name: [] for name in sides}, {name: [] for name in sides})
    shuffler = random.Random(seed)  # noqa: S311
    inner: dict[str, int] = {}
    gone = set[str]()
    for name, worker in () if rested else sides.items():
        try:
            worker.hold()
        except WorkerDied as fault:
            series.lost[name] = fault
    for name, worker in sides.items():
        if name in series.lost:
            continue
        try:
            inner[name] = alone(worker, partial(warm_up, worker, work), REST_SECONDS if rested else 0.0)
        except (WorkerDied, CallFailed) as fault:
            series.lost[name] = fault
    for number in range(rounds):
        rest = (PAUSE_SECONDS if number % 2 else REST_SECONDS) if rested else 0.0
        order = [name for name in sides if name not in series.lost and name not in gone]
        shuffler.shuffle(order)
        for name in order:
            try:
                start = (seed + 1) * rounds + number  # all samples take turns, in other restarts too
                block = partial(milliseconds, sides[name], work, inner[name], start)
                times = alone(sides[name], block, rest)
                series.blocks[name].append(median(times))
                series.waking[name].append(median(first_calls(times)))
            except (WorkerDied, CallFailed) as fault:
                series.lost[name] = fault
        gone.update(leave(series))
        if stop(series):
            break
    return series


def alone(worker: Worker, work: Callable[[], T], rest: float = 0.0) -> T:
    """What ``work`` gives on a quiet machine, after so many seconds in which all ``rest``; else the worker is held."""
    time.sleep(rest or SETTLE_SECONDS)
    done = work()
    if not rest:
        worker.hold()
    return done


def first_calls(times: Sequence[float]) -> list[float]:
    """The times of those calls of a block that begin within ``WAKING_MS``; the first at least."""
    begins = np.cumsum([0.0, *times[:-1]])
    return [t for t, begin in zip(times, begins, strict=True) if begin < WAKING_MS]


def timing(
    baseline: Sequence[float], candidate: Sequence[float], *, load_seconds: float | None = None,
    waking: tuple[Sequence[float], Sequence[float]] | None = None, restarts: int = 1,
) -> Timing:  # fmt: skip
    """The candidate's speed-up over the baseline from paired blocks, with its interval (95 %).

    From ``LEAST_RESTARTS`` on the unit is the restart, and the blocks come in that order. With fewer it is the sign
    test's, and neighbouring pairs that resemble each other are averaged before, so that a slow drift does not
    count as evidence. ``waking`` are both sides' times of the first calls after a rest.
    """
    pairs = min(len(baseline), len(candidate))
    ratios = np.array([log(b / c) for b, c in zip(baseline[:pairs], candidate[:pairs], strict=True)])
    flags = list(load_flags())
    speedup, low, high, averaged = _interval(ratios, restarts)
    if averaged:
        flags.append("neighbouring pairs were averaged: the machine drifted")
    return Timing(
        speedup=speedup,
        low=low,
        high=high,
        pairs=pairs,
        restarts=restarts,
        median_ms=median(candidate[:pairs]),
        baseline_ms=median(baseline[:pairs]),
        log_ratios=tuple(round(float(r), 6) for r in ratios),
        flags=tuple(flags),
        load_seconds=load_seconds,
        waking=None if waking is None else _after_a_rest(*waking, restarts),
    )


def _interval(ratios: NDArray[np.float64], restarts: int) -> tuple[float, float, float, bool]:
    """(speed-up, low, high), and whether neighbouring pairs were averaged."""
    if restarts >= LEAST_RESTARTS:
        return (*restart_interval(ratios, restarts), False)
    if len(ratios) >= 2 * LEAST_PAIRS and autocorrelation(ratios) > CORRELATED:
        averaged = block_average(ratios)
        if len(averaged) >= LEAST_PAIRS:
            return (speedup_of(averaged), *sign_interval(averaged), True)
    return (speedup_of(ratios), *sign_interval(ratios), False)


def _after_a_rest(baseline: Sequence[float], candidate: Sequence[float], restarts: int) -> tuple[float, float, float]:
    """(speed-up, low, high) of the first calls."""
    ratios = np.log(np.asarray(baseline) / np.asarray(candidate))
    return restart_interval(ratios, restarts) if restarts >= LEAST_RESTARTS else (
        speedup_of(ratios), *sign_interval(ratios)
    )  # fmt: skip
