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
from hasten.search.first_timing import NOTHING
from hasten.search.grounds import tells
from hasten.search.improve import Known
from hasten.search.loading import ready
from hasten.search.mixed import profiled, surveyed, weighed
from hasten.search.mixes import Ground, Mixes
from hasten.search.plan import unlimited
from hasten.search.rounding import Rounding, choose_rounding
from hasten.search.screening import hopelessly_slow
from hasten.trial import Candidate, Mixed

ERRORS = ("mae", "mse", "rmse")  # in the unit of the output


def anatomy(run: Run, engines: dict[str, Any]) -> Mixed:
    """Times and harms of every region on the first engine that has int8; chosen is int8 where that is faster.

    Raises:
        InputError: there is nothing to narrow, no engine with int8, or none that reports the times of its layers.
    """
    start = time.monotonic()
    able = {name: engine for name, engine in engines.items() if "int8" in engine.formats()}
    for name, engine in sorted(able.items(), key=lambda one: not tells(one[0])):
        ground = _ground(run, name, engine)
        found = surveyed(run, engine.scheme)
        if not found["regions"]:
            raise InputError(
                "no part of the network could be narrowed", cause="it has no Conv, MatMul or Gemm to quantize"
            )
        bench = Mixes(run, ground, found["regions"])
        ends = (ground.wide, ground.narrow)
        if not all(ready(run, end) and not (ground.borrows and hopelessly_slow(run, end, NOTHING)) for end in ends):
            continue
        problem = profiled(bench, found["places"])
        if problem is not None:
            problem, samples = weighed(bench, problem)
            [best] = bench.solve(problem, [unlimited(problem)])
            return told(bench, problem, Known(), best, samples, time.monotonic() - start)
    if not able:
        cause = f"{' and '.join(engines)} cannot run int8 on this machine"
    else:
        cause = "no engine here reports the times of its parts, or this network is too fast for its clock"
    raise InputError("where the time goes cannot be measured", cause=cause, help=_who_tells(engines))


def score(run: Run) -> dict[str, str]:
    """``{"score": "top1 92.33 % on 60 samples"}`` of the network as given, where the data has labels."""
    metric, ids = run.evaluator.metric, [int(i) for i in run.splits.scored if int(i) in run.evaluator.baseline_rows]
    if run.evaluator.store.labels is None or not metric.needs_labels or not ids:
        return {}
    value = float(metric.value(run.evaluator.known(ids)))
    written = f"{value * 100:.2f} %" if 0 <= value <= 1 and metric.name not in ERRORS else f"{value:.4g}"
    return {"score": f"{metric.name} {written} on {len(ids):,} samples"}


def _who_tells(tried: Collection[str]) -> str:
    """What to type for another engine that counts the time of its kernels; where there is none, how to get one."""
    usable = (name for name in registry.names("engines") if name not in tried and registry.engine(name)[1] is None)
    able = (name for name in usable if tells(name))
    return " or ".join(f"--engines {name}" for name in able) or pip("openvino")


def _ground(run: Run, name: str, engine: Any) -> Ground:
    wide, narrow, rounding = _both(run, name, engine)
    lent = (wide, narrow) if tells(name) else _lent(run) or (wide, narrow)
    return Ground(name, engine.scheme, dict(wide.settings), wide, narrow, rounding, lent)


def _lent(run: Run) -> tuple[Candidate, Candidate] | None:
    """Float32 and int8 on an engine that reports times, for one that does not; None where no such engine is here."""
    for name in registry.names("engines"):
        engine, missing = registry.engine(name)
        if missing is None and tells(name) and "int8" in engine.formats():
            return _both(run, name, engine)[:2]
    return None


def _both(run: Run, name: str, engine: Any) -> tuple[Candidate, Candidate, Rounding]:
    settings = dict(engine.settings(cores())[0])
    rounding = choose_rounding(run, engine.scheme)
    wide = Candidate(steps=(space.CLEAN,), engine=name, settings=settings, lossless=True, label=f"{name} float32")
    first = space.first_variants(engine.scheme, rounding.options)
    return wide, space.static(name, engine, first, settings, (), rounding.before)[0], rounding
