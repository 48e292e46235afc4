"""Which region gets which format: time saved against harm done, as a small integer program.

    minimise    sum ms[g, f] x[g, f]  +  sum cost[t] u[t]
    subject to  sum_f x[g, f] = 1,   sum harm[g, f] x[g, f] <= limit,   u[t] >= |n[p] - n[c]|

``x[g, f]`` says that region g runs in format f, ``n[g]`` that this format is an integer one, and ``u[t]`` that tensor t
passes between an integer and a float region, where it must be converted. Numbers only: what runs, and where, is told by
the callers. Latency does not add up exactly, so measured plans correct the model (``refit``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Plan = tuple[int, ...]  # the number of the format of each region

WIDE = 0  # the format that does no harm
SWEPT = 12
_GAP, _SECONDS = 1e-4, 2.0  # where the solver may stop
_TRUST = 0.3  # a region's profiled time may be wrong by this share of it ...
_NOISE = 0.01  # ... and a measured latency by this


@dataclass(frozen=True)
class Crossing:
    """A tensor that region ``source`` computes (-1: none does) and the regions ``readers`` take, with what converting
    it costs in milliseconds."""

    source: int
    readers: tuple[int, ...]
    ms: float


@dataclass(frozen=True)
class Problem:
    """``ms`` and ``harm`` are [regions, formats]; format 0 is the wide one, ``integer`` says which are integers.

    ``rest_ms`` is what runs outside all regions.
    """

    ms: F64
    harm: F64
    integer: tuple[bool, ...]
    crossings: tuple[Crossing, ...] = ()
    rest_ms: float = 0.0

    @property
    def regions(self) -> int:
        """How many regions there are."""
        return len(self.ms)


def ends(regions: int) -> tuple[Plan, Plan]:
    """Wide everywhere, and narrow everywhere, of two formats."""
    return (WIDE,) * regions, (1,) * regions


def predicted_ms(problem: Problem, plan: Plan) -> float:
    """The model's latency of a plan."""
    chosen = problem.ms[np.arange(problem.regions), list(plan)]
    return float(problem.rest_ms + chosen.sum() + sum(c.ms for c in problem.crossings if _converts(problem, plan, c)))


def gained(problem: Problem, plan: Plan) -> float:
    """How many times as fast as narrow everywhere the model calls a plan."""
    return predicted_ms(problem, ends(problem.regions)[1]) / predicted_ms(problem, plan)


def predicted_harm(problem: Problem, plan: Plan) -> float:
    """The sum of the harms that its regions do alone."""
    return float(problem.harm[np.arange(problem.regions), list(plan)].sum())


def _converts(problem: Problem, plan: Plan, crossing: Crossing) -> bool:
    own = crossing.source >= 0 and problem.integer[plan[crossing.source]]
    return any(problem.integer[plan[r]] != own for r in crossing.readers)


Solver = Callable[[Problem, Sequence[float]], list[Plan]]


def unlimited(problem: Problem) -> float:
    """A limit that allows every format that runs."""
    return float(problem.harm[problem.harm < _RUNS].sum()) + 1


def fastest(problem: Problem, limits: Sequence[float]) -> list[Plan]:
    """The fastest plan under each limit of harm."""
    return [solve(problem, limit) for limit in limits]


def plain(problem: Problem) -> dict[str, Any]:
    """A problem as JSON, for ``fastest_of_plain`` in another process: the solver may print, whatever it is told."""
    crossed = msgspec.to_builtins(problem.crossings)
    arrays = {"ms": problem.ms.tolist(), "harm": problem.harm.tolist()}
    return {**arrays, "integer": list(problem.integer), "crossings": crossed, "rest_ms": problem.rest_ms}


def fastest_of_plain(
    ms: list[list[float]],
    harm: list[list[float]],
    integer: list[bool],
    crossings: list[dict[str, Any]],
    rest_ms: float,
    limits: list[float],
) -> list[Plan]:
    """``fastest`` for what ``plain`` made."""
    crossed = msgspec.convert(crossings, tuple[Crossing, ...])
    return fastest(Problem(np.array(ms), np.array(harm), tuple(integer), crossed, rest_ms), limits)


def fits(problem: Problem, plans: Sequence[Plan]) -> str:
    """What is wrong with plans for this problem; empty when nothing is."""
    formats = range(len(problem.integer))
    able = all(len(plan) == problem.regions and all(number in formats for number in plan) for plan in plans)
    return "" if able else "a plan of other regions or formats"


def solve(problem: Problem, limit: float) -> Plan:
    """The fastest plan whose harms add up to no more than ``limit``."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import, and not every search has a plan

    regions, formats = problem.ms.shape
    x, total = regions * formats, regions * formats + len(problem.crossings)
    cost = np.concatenate([problem.ms.ravel(), [c.ms for c in problem.crossings]])
    one_each = np.zeros((regions, total))
    for g in range(regions):
        one_each[g, g * formats : (g + 1) * formats] = 1
    # in units of the limit, since harms of 1e-9 and of 1e9 (does not run) meet in one row
    harm = np.append(np.minimum(problem.harm.ravel() / max(limit, 1e-300), 1e6), np.zeros(total - x))
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(harm[None, :], -np.inf, 1)]
    if problem.crossings:
        constraints.append(LinearConstraint(_converting(problem, total), 0, np.inf))
    found = milp(
        cost,
        constraints=constraints,
        integrality=np.concatenate([np.ones(x), np.zeros(total - x)]),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": _GAP, "time_limit": _SECONDS},
    )
    if found.x is None:
        return (WIDE,) * problem.regions
    chosen = np.asarray(found.x)[:x].reshape(regions, formats).argmax(axis=1)
    return tuple(chosen.tolist())


def _converting(problem: Problem, total: int) -> F64:
    """Rows u[t] - n[p] + n[c] >= 0 and u[t] + n[p] - n[c] >= 0 for each tensor t, its source p and each reader c."""
    formats, integer = problem.ms.shape[1], np.asarray(problem.integer, float)
    pairs = [(t, c.source, reader) for t, c in enumerate(problem.crossings) for reader in c.readers]
    rows = np.zeros((2 * len(pairs), total))
    for k, (t, source, reader) in enumerate(pairs):
        for row, sign in ((2 * k, 1.0), (2 * k + 1, -1.0)):
            rows[row, problem.regions * formats + t] = 1
            rows[row, reader * formats : (reader + 1) * formats] = sign * integer
            if source >= 0:
                rows[row, source * formats : (source + 1) * formats] = -sign * integer
    return rows


def sweep(problem: Problem, solver: Solver = fastest, count: int = SWEPT) -> list[Plan]:
    """At most ``count`` distinct plans between the fastest of all and the wide one, the fastest first."""
    [boldest] = solver(problem, [unlimited(problem)])
    most = predicted_harm(problem, boldest)
    found = dict.fromkeys([boldest])
    if most > 0:
        alone = problem.harm[(problem.harm > 0) & (problem.harm < _RUNS)]
        least = max(float(alone.min(initial=most)), most * 1e-4, predicted_harm(problem, (WIDE,) * problem.regions))
        found |= dict.fromkeys(solver(problem, np.geomspace(most, least, 2 * count)[1:].tolist()))
    plans = [p for p in found if any(p)]
    keep = np.unique(np.linspace(0, len(plans) - 1, count).round().astype(int)) if len(plans) > count else None
    return plans if keep is None else [plans[i] for i in keep]


_RUNS = 1e6  # a harm above this says that the format does not run there


def refit(problem: Problem, measured: Iterable[tuple[Plan, float]]) -> Problem:
    """The times that explain measured latencies best, near the profiled ones (Bayesian linear regression).

    Each region's time may move by its share ``_TRUST``, what all plans have in common by more.
    """
    seen = [(plan, ms) for plan, ms in measured if isfinite(ms) and ms > 0]  # others did not run
    if not seen:
        return problem
    regions, formats = problem.ms.shape
    rows = np.zeros((len(seen), regions * formats + 1))
    for k, (plan, _) in enumerate(seen):
        rows[k, np.arange(regions) * formats + np.asarray(plan)] = 1
        rows[k, -1] = 1
    gap = np.array([ms - predicted_ms(problem, plan) for plan, ms in seen])
    spread = np.append(_TRUST * problem.ms.ravel() + 1e-6, 0.5 * max(ms for _, ms in seen))
    prior = rows * spread**2
    noise = np.diag([(_NOISE * ms) ** 2 for _, ms in seen])
    shift = prior.T @ np.linalg.solve(prior @ rows.T + noise, gap)
    ms = np.maximum(problem.ms + shift[:-1].reshape(regions, formats), 0.0)
    return replace(problem, ms=ms, rest_ms=problem.rest_ms + float(shift[-1]))


def flips(problem: Problem, plan: Plan, count: int) -> list[Plan]:
    """Neighbours of a plan that the model calls faster, each differing in one region or in two, the fastest first."""
    now = predicted_ms(problem, plan)
    singles = [
        _changed(plan, g, f) for g in range(problem.regions) for f in range(len(problem.integer)) if f != plan[g]
    ]
    faster = {p: predicted_ms(problem, p) for p in singles}
    best = sorted(faster, key=lambda p: faster[p])[: max(8, count)]
    # narrow one more region while another, less useful one, goes back to wide: the sum of harms stays near
    pairs = [_changed(p, g, WIDE) for p in best for g in range(problem.regions) if p[g] != WIDE and p[g] == plan[g]]
    known = faster | {p: predicted_ms(problem, p) for p in pairs}
    return sorted((p for p in known if known[p] < now), key=lambda p: known[p])[:count]


def _changed(plan: Plan, region: int, to: int) -> Plan:
    return (*plan[:region], to, *plan[region + 1 :])


def crossings(reads: Sequence[Iterable[tuple[str, int, int]]], ms_per_element: float) -> tuple[Crossing, ...]:
    """Crossings from what each region reads: (tensor, region that computes it, elements)."""
    sources: dict[str, tuple[int, int]] = {}
    readers: dict[str, list[int]] = {}
    for region, several in enumerate(reads):
        for name, source, elements in several:
            sources[name] = (source, elements)
            readers.setdefault(name, []).append(region)
    return tuple(
        Crossing(source, tuple(readers[name]), elements * ms_per_element)
        for name, (source, elements) in sources.items()
        if elements
    )
