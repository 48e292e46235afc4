"""Levels for several looks at growing data: stop early when the evidence is overwhelming, pay nearly nothing for it.

O'Brien and Fleming, Biometrics 35:549 (1979): look ``k`` at the share ``t_k`` of the data rejects when the statistic
exceeds ``C / sqrt(t_k)``. The constant makes the chance of any false rejection exactly alpha; it is found by the
recursive integration of Armitage, McPherson and Rowe, J. R. Stat. Soc. A 132:235 (1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import sqrt

import numpy as np

from hasten.measure import tails
from hasten.measure.sequential import FIRST

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the test part, where looks are taken
ONE_LOOK = 600  # samples (chosen): a pass over fewer takes no time, and early looks would cost level
LARGE = 1200  # samples (chosen): where a quarter is more than this, looks begin here and double
NODES = 301  # of the trapezoid rule over the statistic's range
FAR = 9.0  # standard deviations of the sum at the last look that are integrated over
HALVINGS = 34
EARLY = 0.1  # of alpha for all looks but the last, where levels have to add up


@cache
def nominal_levels(alpha: float, shares: Sequence[float] = SHARES) -> tuple[float, ...]:
    """One-sided level of each look, so that all looks together reject falsely with probability ``alpha``.

    ``shares`` are the parts of the data seen at each look, increasing to 1. For 5 % and quarters:
    0.0003, 0.0071, 0.0227 and 0.0415.

    Raises:
        ValueError: the shares do not increase to 1.
    """
    if not shares or shares[-1] != 1 or any(b <= a for a, b in zip((0.0, *shares), shares, strict=False)):
        raise ValueError(f"shares of looks must increase to 1, not {list(shares)}")
    low, high = tails.normal_upper(alpha), tails.normal_upper(alpha / len(shares))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _any_rejection(middle, tuple(shares)) > alpha else (low, middle)
    return tuple(tails.normal_above(high / sqrt(share)) for share in shares)


def increments(alpha: float, shares: Sequence[float] = SHARES) -> tuple[float, ...]:
    """The same looks with levels that add up to ``alpha``: valid for any tests, whatever joins their outcomes.

    A tenth of alpha goes to the early looks, in the proportions of O'Brien and Fleming's levels.
    """
    early = nominal_levels(alpha, tuple(shares))[:-1]
    scale = EARLY * alpha / sum(early) if early else 0.0
    spent = tuple(scale * level for level in early)
    return (*spent, alpha - sum(spent))


def looks(n: int, shares: Sequence[float] = SHARES) -> tuple[int, ...]:
    """How many of ``n`` samples each look has seen; fewer looks where two would see the same."""
    return tuple(sorted({max(1, round(n * share)) for share in shares})) if n else ()


def plan(n: int, alpha: float) -> tuple[tuple[int, float], ...]:
    """The looks at ``n`` samples as (samples seen, level); the levels add up to ``alpha``.

    Only ``n`` decides the sizes, never a clock: the same question asked again looks at the same samples. One look below
    600 samples, quarters up to 4,800; beyond, looks start at 1,200 and double, each with a level in proportion to what
    is new at it, since waiting for a quarter would cost more time than early looks cost power.

    >>> [size for size, _ in plan(800, 0.05)], [size for size, _ in plan(9000, 0.05)]
    ([200, 400, 600, 800], [1200, 2400, 4800, 9000])
    """
    if n < ONE_LOOK:
        return ((n, alpha),)
    if n <= LARGE * len(SHARES):
        sizes = looks(n)
        return tuple(zip(sizes, increments(alpha), strict=True))
    doubled = [LARGE]
    while doubled[-1] * 2 < n:
        doubled.append(doubled[-1] * 2)
    sizes = (*doubled, n) if doubled[-1] * 4 < 3 * n else (*doubled[:-1], n)
    return tuple((now, alpha * (now - before) / n) for before, now in zip((0, *sizes), sizes, strict=False))


def last_level(n: int, alpha: float, share: float = FIRST) -> float:
    """The level of the look at all ``n`` samples, for the first candidate of a question at ``alpha``."""
    return plan(max(1, n), alpha * share)[-1][1]


def _any_rejection(constant: float, shares: tuple[float, ...]) -> float:
    """P(some look rejects) when nothing is true: the sum ``S_k`` is a Brownian motion seen at ``shares``.

    Look ``k`` rejects when ``S_k >= constant`` (the statistic is ``S_k / sqrt(t_k)``).
    """
    grid = np.linspace(-FAR, constant, NODES)
    step = grid[1] - grid[0]
    weights = np.full(NODES, step)
    weights[[0, -1]] = step / 2
    density = np.exp(-(grid**2) / (2 * shares[0])) / sqrt(2 * np.pi * shares[0])
    for before, now in pairwise(shares):
        spread = now - before
        kernel = np.exp(-((grid[:, None] - grid) ** 2) / (2 * spread)) / sqrt(2 * np.pi * spread)
        density = kernel @ (weights * density)
    return 1 - float(weights @ density)
