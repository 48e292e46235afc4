"""How many samples show what: power, the smallest drop that can be shown, and the samples that a budget needs.

One model for all that is promised, predicted or advised. 0/1 outcomes are enumerated with the very tests that judge
them (``proportions``) while few of them change, and approximated by the normal distribution beyond; means are
approximated from the standard deviation of one unit's difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf, log, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hasten.budget import Budget
from hasten.measure import proportions, tails
from hasten.protocols import Metric

Numbers = NDArray[Any]
Family = Literal["agreement", "binary", "mean", "corpus"]
FLIPS = 0.02  # the share of outcomes that a good int8 network changes either way
POWER = 0.8
ENUMERATED = 60  # changed outcomes expected: up to here their numbers are enumerated
LEAST_UNITS = 6  # groups; with five, even all signs alike are no evidence at 5 %
ALIKE = 0.1  # correlation of samples within a group (chosen)
MOST = 10**8  # samples; a budget that needs more is out of reach
PRIOR = 0.2, 1.0  # true drop over the divergence (nats): median, and deviation of its logarithm (chosen)
UNKNOWN = 0.3  # of the limit: the median where no divergence is known (chosen)
PRIOR_SAMPLES = 50  # that the usual share of changed outcomes counts for beside a pilot (chosen)
LOST = 0.4  # of the changed outcomes, gains subtracted (chosen)
POINTS = (np.arange(15) + 0.5) / 15  # quantiles that stand for a distribution


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """One kind of question: ``limit`` is the drop allowed, as a share of the baseline's ``score`` where ``relative``.

    ``size`` is the mean number of samples in an independent unit (group).
    """

    family: Family
    limit: float
    alpha: float
    relative: bool = False
    score: float = 1.0
    size: float = 1.0


def sizing(budget: Budget, metric: Metric, *, score: float = 1.0, size: float = 1.0) -> Sizing:
    """The question that a budget asks of a metric; ``score`` is the baseline's."""
    if metric.kind == "binary":
        family: Family = "binary" if metric.needs_labels else "agreement"
    else:
        family = "corpus" if metric.kind == "corpus" else "mean"
    known = score if np.isfinite(score) and score > 0 else 1.0
    return Sizing(
        family=family, limit=budget.max_drop, alpha=budget.alpha, relative=budget.kind == "relative", score=known,
        size=max(1.0, size),
    )  # fmt: skip


def power(s: Sizing, n: int, drop: float, spread: float) -> float:
    """The chance that ``n`` samples certify a candidate whose true drop is ``drop`` (in the budget's unit).

    ``spread`` is the share of outcomes that it changes (0/1), or the standard deviation of one sample's difference.
    """
    if n < 1 or drop >= 1:
        return 0.0
    if s.size > 1 or s.family in ("mean", "corpus"):
        return _power_of_mean(s, n, drop, spread)
    return _power_of_counts(s, int(n), round(drop, 6), max(1e-6, round(max(spread, abs(_points(s, drop))), 6)))


def needed(s: Sizing, drop: float = 0.0, spread: float = FLIPS, wanted: float = POWER) -> int | None:
    """The samples that certify such a candidate with a chance of ``wanted``; None where no number does."""
    if drop >= s.limit:
        return None
    high = 1
    while power(s, high, drop, spread) < wanted:
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > max(1, high // 500):
        middle = (low + high) // 2
        low, high = (low, middle) if power(s, middle, drop, spread) >= wanted else (middle, high)
    return high


def smallest(s: Sizing, n: int, spread: float = FLIPS, wanted: float = POWER) -> float:
    """The smallest drop that ``n`` samples can rule out when nothing is truly lost; 1.0 when they show nothing."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        reached = power(replace(s, limit=middle), n, 0.0, spread) >= wanted
        low, high = (low, middle) if reached else (middle, high)
    return high


def _points(s: Sizing, drop: float) -> float:
    """A drop in the metric's own unit."""
    return drop * s.score if s.relative else drop


@lru_cache(maxsize=4096)
def _power_of_counts(s: Sizing, n: int, drop: float, flips: float) -> float:
    """0/1 outcomes of ``n`` samples, of which a share ``flips`` changes."""
    lost = min(1.0, max(0.0, (1 + _points(s, drop) / flips) / 2))  # of the changed ones
    if s.family == "agreement":
        lost = 1.0
    if n * flips > ENUMERATED:
        return _power_of_many(s, n, flips, lost)
    most = ceil(n * flips + 6 * sqrt(n * flips) + 6)
    changed, losses = np.meshgrid(np.arange(min(most, n) + 1), np.arange(min(most, n) + 1), indexing="ij")
    able = losses <= changed
    k, b = changed[able], losses[able]
    chance = _binomial(k, n, min(flips, 1.0)) * _binomial(b, k, lost)
    return float(chance[_p_values(s, n, b, k - b) <= s.alpha].sum())


def _p_values(s: Sizing, n: int, b: Numbers, c: Numbers) -> Numbers:
    if s.family == "agreement":
        return np.asarray(special.bdtr(b, n, s.limit))
    if s.relative:
        both = np.maximum(np.rint(n * s.score - b), 0).astype(np.int64)
        b, c = np.rint(b).astype(np.int64), np.rint(c).astype(np.int64)
        return proportions.ratio_ps(both, b, c, n, 1 - s.limit)
    return proportions.tango_ps(b, c, n, s.limit)


def _binomial(k: Numbers, n: Numbers | int, p: float) -> Numbers:
    """P(Binomial(n, p) = k)."""
    ways = special.gammaln(np.add(n, 1)) - special.gammaln(k + 1) - special.gammaln(np.subtract(n, k) + 1)
    return np.asarray(np.exp(ways + special.xlogy(k, p) + special.xlog1py(np.subtract(n, k), -p)))


def _power_of_many(s: Sizing, n: int, flips: float, lost: float) -> float:
    """The normal approximation: the statistic at the expected counts, and its standard deviation there."""
    b, c = np.asarray(n * flips * lost), np.asarray(n * flips * (1 - lost))
    drop = flips * (2 * lost - 1)
    excess = _points(s, s.limit) - drop
    p_value = float(np.clip(_p_values(s, n, b, c), 1e-300, 1.0))
    statistic = tails.normal_upper(p_value) if p_value < 0.5 else -tails.normal_upper(1 - p_value)
    null = excess * sqrt(n) / statistic if excess * statistic > 0 else 0.0
    true = sqrt(max(flips - drop**2, 1e-12))
    return float(tails.normal_below((statistic - tails.normal_upper(s.alpha)) * (null / true if null else 1.0)))


def _power_of_mean(s: Sizing, n: int, drop: float, spread: float) -> float:
    """A mean over units; the largest loss seen counts once more, which is about three standard deviations."""
    units = n / s.size
    if s.size > 1 and units < LEAST_UNITS:
        return 0.0
    counted = s.family in ("binary", "agreement")
    each = sqrt(spread) if counted else spread
    deviation = each * sqrt((1 + (s.size - 1) * ALIKE) / s.size)
    room = _points(s, s.limit - drop) - 3 * deviation / units
    if counted and log(s.alpha) / log(1 - min(s.limit, 0.999)) > n:
        return 0.0
    if deviation <= 0:
        return float(room > 0)
    return float(tails.normal_below(room * sqrt(units) / deviation - tails.normal_upper(s.alpha)))


def usual_flips(harm: float | None) -> float:
    """The share of outcomes that a candidate of this divergence usually changes."""
    return FLIPS if harm is None or not np.isfinite(harm) else min(1.0, PRIOR[0] / LOST * harm)


def beliefs(s: Sizing, *, harm: float | None, seen: float | None = None, error: float = inf) -> tuple[Numbers, Numbers]:
    """What the true drop may be, as points and their weights.

    From the divergence of the answers, which needs no labels, and from a drop ``seen`` on labelled samples with its
    standard ``error``.
    """
    median = PRIOR[0] * harm if harm is not None and np.isfinite(harm) else UNKNOWN * s.limit
    points = np.minimum(1.0, np.maximum(median, 1e-6) * np.exp(PRIOR[1] * special.ndtri(POINTS)))
    points = points / s.score if s.relative else points
    if seen is None or not np.isfinite(error):
        return points, np.full(len(points), 1 / len(points))
    far = (points - seen) / max(error, 1e-9)
    weights = np.exp(-(far**2 - (far**2).min()) / 2)
    return points, weights / weights.sum()
