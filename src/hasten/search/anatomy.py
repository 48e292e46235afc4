"""Where a network's time goes, region by region, and what int8 would do to its answers: measured, without a search."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from hasten import registry
from hasten.errors import InputError
from hasten.extras import pip
from hasten.machine import cores
from hasten.search import space
from hasten.search.explain import told
from hasten.search.field import Run
from hasten.search.improve import Known
from hasten.search.loading import ready
from hasten.search.mixed import profiled, surveyed, weighed
from hasten.search.mixes import Ground, Mixes
from hasten.search.plan import unlimited
from hasten.search.rounding import choose_rounding
from hasten.trial import Candidate, Mixed


def anatomy(run: Run, engines: dict[str, Any]) -> Mixed:
    """Times and harms of every region on the first engine that has int8; chosen is int8 where that is faster.

    Raises:
        InputError: there is nothing to narrow, no engine with int8, or none that reports the times of its layers.
    """
    start = time.monotonic()
    for name, engine in engines.items():
        if "int8" not in engine.formats() or not hasattr(engine, "profile"):
            continue
        ground = _ground(run, name, engine)
        found = surveyed(run, engine.scheme)
        if not found["regions"]:
            raise InputError(
                "no part of the network could be narrowed", cause="it has no Conv, MatMul or Gemm to quantize"
            )
        bench = Mixes(run, ground, found["regions"])
        if not (ready(run, ground.wide) and ready(run, ground.narrow)):
            continue
        problem = profiled(bench, found["places"])
        if problem is not None:
            problem, samples = weighed(bench, problem)
            [best] = bench.solve(problem, [unlimited(problem)])
            return told(bench, problem, Known(), best, samples, time.monotonic() - start)
    cause = "it has no clock for layers, or they are too fast for it; a search takes their times from another engine"
    raise InputError(
        f"{' and '.join(engines)} cannot report the times of layers",
        cause=cause,
        help=_who_tells(engines),
    )


def _who_tells(tried: Collection[str]) -> str:
    """What to type for another engine that counts the time of its kernels; where there is none, how to get one."""
    usable = (name for name in registry.names("engines") if name not in tried and registry.engine(name)[1] is None)
    able = (name for name in usable if hasattr(registry.find("engines", name), "profile"))
    return " or ".join(f"--engines {name}" for name in able) or pip("openvino")


def _ground(run: Run, name: str, engine: Any) -> Ground:
    settings = dict(engine.settings(cores())[0])
    rounding = choose_rounding(run, engine.scheme)
    wide = Candidate(steps=(space.CLEAN,), engine=name, settings=settings, lossless=True, label=f"{name} float32")
    [narrow] = space.static(name, engine, space.first_variants(engine.scheme, rounding.options), settings, ())
    return Ground(name, engine.scheme, settings, wide, narrow, rounding, (wide, narrow))
