"""Speed from interleaved pairs: every round times each side once, in shuffled order, on the same real samples.

Machines drift by more than the effects that matter; a ratio inside one round does not. Each side lives in a warm
process of its own. A pool that spins after a call taxes whoever runs next, so every block starts with a rest and one
untimed call (the rest is longer than the 42 ms for which ONNX Runtime spins).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from statistics import median

import numpy as np

from hasten.machine import load_flags
from hasten.measure.speed import CORRELATED, LEAST_PAIRS, autocorrelation, block_average, sign_interval, speedup_of
from hasten.trial import Timing
from hasten.worker import CallFailed, Worker, WorkerDied

REST_SECONDS = 0.055
SETTLE_SECONDS = 0.005
BLOCK_MS = 20.0
WARM_SECONDS = 3.0
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
    """Block medians in milliseconds, a column a side, a row a round; ``lost`` tells why a side left."""

    blocks: dict[str, list[float]]
    lost: dict[str, WorkerDied | CallFailed] = field(default_factory=dict)


def milliseconds(worker: Worker, work: Workload, inner: int) -> list[float]:
    """Times of ``inner`` inferences in one block."""
    reply = worker.call(
        "time", seconds=work.limit_seconds, store=work.store, ids=list(work.ids), batch=work.batch, inner=inner
    )
    return [float(t) for t in reply["milliseconds"]]


def warm_up(worker: Worker, work: Workload) -> int:
    """Run until two windows agree within 5 %, for three seconds at most. Returns the inferences of a block."""
    deadline = time.monotonic() + WARM_SECONDS
    last = median(milliseconds(worker, work, 1))
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
) -> Series:
    """Time all ``sides`` for ``rounds`` rounds, fewer when ``stop`` says so. A side that dies leaves the field."""
    series = Series({name: [] for name in sides})
    shuffler = random.Random(seed)  # noqa: S311
    inner: dict[str, int] = {}
    spun = True
    for name, worker in sides.items():
        time.sleep(REST_SECONDS)
        try:
            inner[name] = warm_up(worker, work)
        except (WorkerDied, CallFailed) as fault:
            series.lost[name] = fault
    for _ in range(rounds):
        order = [name for name in sides if name not in series.lost]
        shuffler.shuffle(order)
        for name in order:
            time.sleep(REST_SECONDS if spun else SETTLE_SECONDS)
            spun = sides[name].spins
            try:
                series.blocks[name].append(median(milliseconds(sides[name], work, inner[name])))
            except (WorkerDied, CallFailed) as fault:
                series.lost[name] = fault
        if stop(series):
            break
    return series


def timing(baseline: Sequence[float], candidate: Sequence[float], *, load_seconds: float | None = None) -> Timing:
    """The candidate's speed-up over the baseline from paired blocks, with its exact interval (95 %).

    Neighbouring pairs that resemble each other are averaged before the interval is taken, so that a slow drift does
    not count as evidence.
    """
    pairs = min(len(baseline), len(candidate))
    ratios = np.array([log(b / c) for b, c in zip(baseline[:pairs], candidate[:pairs], strict=True)])
    flags = list(load_flags())
    units = ratios
    if pairs >= 2 * LEAST_PAIRS and autocorrelation(ratios) > CORRELATED:
        averaged = block_average(ratios)
        if len(averaged) >= LEAST_PAIRS:
            units = averaged
            flags.append("neighbouring pairs were averaged: the machine drifted")
    low, high = sign_interval(units)
    return Timing(
        speedup=speedup_of(units),
        low=low,
        high=high,
        pairs=pairs,
        median_ms=median(candidate[:pairs]),
        baseline_ms=median(baseline[:pairs]),
        log_ratios=tuple(round(float(r), 6) for r in ratios),
        flags=tuple(flags),
        load_seconds=load_seconds,
    )
