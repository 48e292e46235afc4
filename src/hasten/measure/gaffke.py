"""An upper bound on a mean that needs nothing but independent samples and a largest possible value.

Gaffke (2005); Phan, Thomas and Learned-Miller, ICML 2021 (arXiv 2106.03163), section 3: with the sorted sample
``z_1 <= ... <= z_n``, ``z_{n+1}`` the largest possible value and ``D`` uniform on the simplex (Dirichlet(1, ..., 1)
over ``n + 1``), the ``1 - alpha`` quantile of ``sum_i D_i z_i`` bounds the mean. For 0/1 samples it is the bound of
Clopper and Pearson.
"""

from __future__ import annotations

from math import asinh, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from hasten.measure import tails

F64 = NDArray[np.float64]

STEP = 0.1  # of the trapezoid rule, whose error falls exponentially for an even, analytic integrand
GONE = 37.0  # -ln of what is left of the integrand where the rule stops
STEPS, CLOSE = 60, 1e-7  # of the search for the bound; its precision as a normal quantile
FAR = 8.0  # normal quantiles beyond are all the same
EXACT, MERGED = (
    64,
    128,
)  # the largest values as they are, and the means of so many groups of the rest: 1e-4 of the margin


def gaffke_upper(sample: F64, most: float, alpha: float) -> float:
    """The smallest value that the mean of ``sample`` [n] stays below with confidence ``1 - alpha``.

    ``most`` is the largest value that an unseen sample can take. Never below the sample's own mean.
    """
    values, counts = _counted(sample, most)
    low, high, wanted = float(np.mean(sample)), most, tails.normal_quantile(alpha)
    if high <= low:
        return low
    spread = float(np.sqrt(counts @ (values - low) ** 2) / counts.sum())
    at_low, at_high, level, side = FAR - wanted, -FAR - wanted, low - wanted * spread, 0
    for step in range(STEPS):  # Illinois' false position on the normal quantile, which is nearly linear in the level
        if (step + 1) % 6 == 0 or not low < level < high:
            level = (low + high) / 2
        found = float(np.clip(tails.normal_quantile(_above(values, counts, level)), -FAR, FAR)) - wanted
        if abs(found) < CLOSE or high - low <= 1e-12 * max(1.0, abs(high)):
            return level
        if found > 0:
            low, at_low, at_high, side = level, found, at_high / 2 if side == 1 else at_high, 1
        else:
            high, at_high, at_low, side = level, found, at_low / 2 if side == -1 else at_low, -1
        level += 1.05 * found * spread  # as far as the mean of a normal sample would be off
        if step:
            level = (low * at_high - high * at_low) / (at_high - at_low)
    return high


def gaffke_p(sample: F64, most: float, limit: float) -> float:
    """The p-value of "the mean is ``limit`` or more": at or below alpha exactly when the bound is at most ``limit``."""
    if limit >= most:
        return 0.0
    values, counts = _counted(sample, most)
    return _above(values, counts, limit)


def _counted(sample: F64, most: float) -> tuple[F64, F64]:
    """Distinct values and how often each occurs, the largest possible one added once."""
    values = np.append(np.minimum(np.asarray(sample, dtype=np.float64), most), most)
    found, counts = np.unique(values, return_counts=True)
    if len(found) > EXACT + MERGED:
        starts = np.linspace(0, len(found) - EXACT, MERGED, endpoint=False).astype(np.intp)
        few = np.add.reduceat(counts[:-EXACT], starts)
        means = np.add.reduceat((found * counts)[:-EXACT], starts) / few
        found, counts = np.append(means, found[-EXACT:]), np.append(few, counts[-EXACT:])
    return found, counts.astype(np.float64)


def _above(values: F64, counts: F64, level: float) -> float:
    """P(sum_i D_i z_i > ``level``).

    With exponential ``E_i`` this is P(sum_i E_i w_i > 0) for ``w_i = z_i - level``: the integral of
    ``M(s) / (2 pi i s)`` along a line right of 0, with ``M(s) = prod_i (1 - s w_i)^-1``. On the line through the saddle
    point of the integrand it hardly turns (Rice, SIAM J. Sci. Stat. Comput. 1:438 (1980)); its distance from there is
    measured by ``sinh``, so that slow decay of few factors costs little.
    """
    weights = values - level
    if weights.max() <= 0:
        return 0.0
    if weights.min() >= 0:
        return 1.0
    weights = weights / weights.max()
    centre = _saddle(weights, counts)
    width = 1 / sqrt(float(counts @ (weights / (1 - centre * weights)) ** 2) + 1 / centre**2)
    end = asinh(_end(weights, counts, centre) / width)
    t = np.linspace(0, end, int(end / STEP) + 2)
    s = centre + 1j * width * np.sinh(t)
    logs = np.log(1 - s[:, None] * weights) @ counts + np.log(s)
    found = np.exp(-logs).real * np.cosh(t)
    found[0] /= 2
    return float(min(1.0, max(0.0, found.sum() * (t[1] - t[0]) * width / pi)))


def _saddle(weights: F64, counts: F64) -> float:
    """Where ``ln M(s) - ln s`` is least for s in (0, 1), the largest weight being 1."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        rising = float(counts @ (weights / (1 - middle * weights))) > 1 / middle
        low, high = (low, middle) if rising else (middle, high)
    return (low + high) / 2


def _end(weights: F64, counts: F64, centre: float) -> float:
    """A distance from the saddle point beyond which the integrand is negligible."""
    y = centre
    base = 1 - centre * weights
    while np.log1p((y * weights / base) ** 2) @ counts / 2 + log(y / centre) < GONE:
        y *= 1.5
    return float(y)
