"""How well a plan's latency is foretold: ``python -m benchmarks.foretold --nets NETS [--only magika]``.

A search times few plans, in races of their own. Here all plans that a sweep over harms gives are timed in one race of
interleaved rounds, on every engine with int8, also where a search would leave planning out. Printed, and kept in
``results/foretold.json``: Spearman's rank correlation of the model's latency with the measured one, for the plain
profile and for the profile corrected by the two ends, as a search has it before its first plan; how much of the gap
between the plans the clock can tell at all; and the same for the sum of harms against the joint harm.
Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import hasten
from benchmarks import peers
from benchmarks.planner import CASES, Case, prepared, ranked
from hasten.search import mixed, narrow, screening
from hasten.search.improve import Known
from hasten.search.mixes import Mixes
from hasten.search.plan import Plan, Problem, ends, predicted_harm, predicted_ms, refit, sweep
from hasten.search.screening import race
from hasten.worker import CallFailed

RESULTS = Path(__file__).with_name("results") / "foretold.json"
PLANS = 10  # beside the two ends
ROUNDS = 30
RULES = (  # which spare a search what does not pay
    (mixed, "enough"),
    (mixed, "out_of_reach"),
    (mixed, "fruitless"),
    (narrow, "outclassed"),
    (screening, "beaten"),
)


@dataclass
class Watcher:
    """Stands where a search improves its plans: times the whole sweep, and plans no further."""

    seen: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, problem: Problem, bench: Mixes) -> tuple[Known, Problem]:
        """Measure one engine's sweep. Raises ``CallFailed``, so that the search goes on with the next engine."""
        both = list(ends(problem.regions))
        corrected = refit(problem, zip(both, bench.times(both), strict=True))
        plans = list(dict.fromkeys([*both, *sweep(corrected, bench.solve, PLANS)]))
        able = [p for p in plans if bench.loaded(p)]
        race(bench.run, [bench.candidate(p).key for p in able], ROUNDS)
        self.seen.append(compared(bench, problem, corrected, able))
        raise CallFailed("Measured", "measured, not planned")


def compared(bench: Mixes, problem: Problem, corrected: Problem, plans: list[Plan]) -> dict[str, Any]:
    """What the model said of each plan beside what was measured of it."""
    timings = [bench.run.trials[bench.candidate(p).key].timing for p in plans]
    kept = [(p, t) for p, t in zip(plans, timings, strict=True) if t is not None]
    own = [p for p, _ in kept]
    columns = {
        "profiled_ms": [predicted_ms(problem, p) for p in own],
        "foretold_ms": [predicted_ms(corrected, p) for p in own],
        "measured_ms": [bench.base_ms / t.speedup for _, t in kept],
        "low_ms": [bench.base_ms / t.high for _, t in kept],
        "high_ms": [bench.base_ms / t.low for _, t in kept],
        "summed_harm": [predicted_harm(problem, p) for p in own],
        "joint_harm": bench.harms(own),
    }
    ground = bench.ground
    about = {"engine": ground.engine, "wide": ground.wide_format, "teller": ground.tellers[0].engine}
    return {**about, "groups": problem.regions, "narrowed": [sum(map(bool, p)) for p in own], **columns}


def pairs(one: dict[str, Any]) -> tuple[int, int, int]:
    """(all pairs of plans, those whose intervals do not meet, those of them that the model puts in the right order).

    Of the others the clock cannot say which is faster.
    """
    rows = list(zip(one["low_ms"], one["high_ms"], one["foretold_ms"], strict=True))
    both = [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    apart = [(a, b) if a[1] < b[0] else (b, a) for a, b in both if a[1] < b[0] or b[1] < a[0]]
    return len(both), len(apart), sum(faster[2] < slower[2] for faster, slower in apart)


def told(one: dict[str, Any]) -> str:
    """A line of the table."""
    lent = f", times from {one['teller']}" if one["teller"] != one["engine"] else ""
    measured, (total, apart, right) = one["measured_ms"], pairs(one)
    columns = {"profile": (one["profiled_ms"], measured), "foretold": (one["foretold_ms"], measured)}
    columns["harm"] = (one["summed_harm"], one["joint_harm"])
    ranks = ((name, ranked(*both)) for name, both in columns.items())
    said = ", ".join(f"{name} {'-' if rank is None else format(rank, '.2f')}" for name, rank in ranks)
    off = np.median([abs(log(f / m)) for f, m in zip(one["foretold_ms"], measured, strict=True)])
    return (
        f"  {one['engine']} int8 with {one['wide']}{lent}: {len(measured)} plans of {one['groups']} regions, "
        f"slowest / fastest {max(measured) / min(measured):.2f}; rank correlations: {said}; off by {off:.1%}; "
        f"{apart} of {total} pairs told apart, {right} of them in the order foretold"
    )


def measured(case: Case, nets: Path, work: Path) -> list[dict[str, Any]]:
    """Every engine's sweep for one network."""
    network, watcher = prepared(case, nets, work), Watcher()
    if network is None:
        return []
    meta = network.meta
    with ExitStack() as stack:
        for module, rule in RULES:
            stack.enter_context(mock.patch.object(module, rule, return_value=()))
        stack.enter_context(mock.patch.object(mixed, "improve", watcher))
        out = stack.enter_context(tempfile.TemporaryDirectory())
        hasten.optimize(
            network.model, network.data, max_drop=meta.budget, metric=meta.metric or None, output=meta.output or None,
            groups=meta.groups or None, state=meta.state or None, batch=meta.batch, per_tensor=meta.per_tensor,
            out=Path(out) / "answer", seconds=600,
        )  # fmt: skip
    return watcher.seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=Path, required=True, help="folder of prepared networks")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="where the network built to break is written")
    parser.add_argument("--only", nargs="*", default=[c.name for c in CASES])
    arguments = parser.parse_args()
    for case in [c for c in CASES if c.name in arguments.only]:
        found = measured(case, arguments.nets.resolve(), arguments.work.resolve())
        print("\n".join([case.name, *map(told, found)]), flush=True)
        peers.keep(case.name, {"engines": found}, RESULTS)


if __name__ == "__main__":
    main()
