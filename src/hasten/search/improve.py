"""From a model of time and harm to plans that hold: a sweep, bisected by the user's metric, then repaired.

Joint harm is smooth and cheap, so it ranks; the user's metric is noisy and dear, so it is asked few times and only
draws the line; the clock decides between those inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hasten.search.plan import WIDE, Plan, Problem, flips, predicted_harm, predicted_ms, refit, sweep

REPAIRS = 3  # rounds of local repair
TRIED = 6  # neighbours whose joint harm is measured in one round
TIMED = 2  # of them timed
GAIN = 1.005  # a repair must gain this much to count
SLACK = 1.02  # joint harm may exceed the line by this much: it is measured on few samples


class Bench(Protocol):
    """Where plans are made and measured."""

    def solve(self, problem: Problem, limits: Sequence[float]) -> list[Plan]:
        """The fastest plan under each limit of harm."""
        ...

    def harms(self, plans: Sequence[Plan]) -> list[float]:
        """The joint harm of each plan."""
        ...

    def times(self, plans: Sequence[Plan]) -> list[float]:
        """The latency of each in milliseconds; infinite when it does not run."""
        ...

    def inside(self, plan: Plan) -> bool:
        """Does the user's metric allow it?"""
        ...

    def over(self) -> bool:
        """Is it time to stop?"""
        ...


@dataclass
class Known:
    """What has been measured of plans so far."""

    harm: dict[Plan, float] = field(default_factory=dict)
    ms: dict[Plan, float] = field(default_factory=dict)
    inside: dict[Plan, bool] = field(default_factory=dict)

    def line(self) -> float:
        """The largest joint harm that the user's metric allowed."""
        return max((self.harm[p] for p, ok in self.inside.items() if ok), default=0.0)

    def ceiling(self) -> float:
        """The least joint harm above the line that the user's metric did not allow; the line where all was allowed."""
        above = [self.harm[p] for p, ok in self.inside.items() if not ok and self.harm[p] > self.line()]
        return min(above, default=self.line())

    def best(self) -> Plan:
        """The fastest timed plan not above the line; the wide one is always there."""
        limit = self.line() * SLACK
        able = [p for p in self.ms if self.harm.get(p, float("inf")) <= limit and self.inside.get(p, True)]
        return min(able, key=lambda p: self.ms[p])


def improve(problem: Problem, bench: Bench) -> tuple[Known, Problem]:
    """Everything measured on the way, and the problem with times corrected by what was measured."""
    known, wide = Known(), (WIDE,) * problem.regions
    known.harm[wide], known.inside[wide] = 0.0, True
    narrow = [(f,) * problem.regions for f, integer in enumerate(problem.integer) if integer]
    _clock(known, bench, [wide, *narrow])
    problem = refit(problem, known.ms.items())
    plans = list(dict.fromkeys([*sweep(problem, bench.solve), *narrow]))
    _weigh(known, bench, plans)
    plans = sorted(plans, key=lambda p: known.harm[p])
    _bisect(known, bench, plans)
    _clock(known, bench, [p for p in plans if known.harm[p] <= known.line() * SLACK][-TIMED:])
    for _ in range(REPAIRS):
        before = known.best()
        problem = refit(problem, known.ms.items())
        _resolve(known, problem, bench)
        _repair(known, problem, bench)
        if bench.over() or known.ms[known.best()] * GAIN > known.ms[before]:
            break
    return known, problem


def _weigh(known: Known, bench: Bench, plans: Sequence[Plan]) -> None:
    fresh = [p for p in dict.fromkeys(plans) if p not in known.harm]
    known.harm.update(zip(fresh, bench.harms(fresh) if fresh else [], strict=True))


def _clock(known: Known, bench: Bench, plans: Sequence[Plan]) -> None:
    fresh = [p for p in dict.fromkeys(plans) if p not in known.ms]
    known.ms.update(zip(fresh, bench.times(fresh) if fresh else [], strict=True))


def _bisect(known: Known, bench: Bench, plans: Sequence[Plan]) -> None:
    """Find where the user's metric stops to allow plans, which are sorted by harm: the most harmful first of all."""
    low, high = -1, len(plans)  # allowed, not allowed
    middle = len(plans) - 1
    while high - low > 1 and not bench.over():
        known.inside[plans[middle]] = bench.inside(plans[middle])
        low, high = (middle, high) if known.inside[plans[middle]] else (low, middle)
        middle = (low + high) // 2


def _resolve(known: Known, problem: Problem, bench: Bench) -> None:
    """Solve again with the corrected times: at the line, a little below, and in the gap up to what was not allowed."""
    at = max((p for p, ok in known.inside.items() if ok), key=lambda p: known.harm[p])
    share = predicted_harm(problem, at) / known.harm[at] if known.harm[at] > 0 else 1.0
    line, ceiling = known.line(), known.ceiling()
    limits = (0.8 * line, line, (line * ceiling) ** 0.5, 0.95 * ceiling)
    fresh = bench.solve(problem, [limit * share for limit in limits])
    _weigh(known, bench, fresh)
    _try(known, problem, bench, fresh)


def _repair(known: Known, problem: Problem, bench: Bench) -> None:
    """Flip single regions around the best plan, on the current model: joint harm first, then the clock."""
    while not bench.over():
        best = known.best()
        tried = [p for p in flips(problem, best, 4 * TRIED) if p not in known.harm][:TRIED]
        _weigh(known, bench, tried)
        _try(known, problem, bench, tried)
        if known.best() == best or known.ms[known.best()] * GAIN > known.ms[best]:
            return


def _try(known: Known, problem: Problem, bench: Bench, plans: Sequence[Plan]) -> None:
    """Time those of ``plans`` that are at or below the line; ask the metric for the fastest one that is in the gap."""
    now = known.ms[known.best()]
    faster = [p for p in dict.fromkeys(plans) if p not in known.ms and predicted_ms(problem, p) < now]
    faster.sort(key=lambda p: predicted_ms(problem, p))
    gap = [p for p in faster if known.line() * SLACK < known.harm[p] < known.ceiling()]
    if gap and not bench.over():
        known.inside[gap[0]] = bench.inside(gap[0])
    _clock(known, bench, [p for p in faster if known.harm[p] <= known.line() * SLACK][:TIMED])
