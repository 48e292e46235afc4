"""Right or wrong, the same samples twice: is the accuracy lost smaller than a limit?

``b`` counts samples that only the reference gets right, ``c`` those that only the candidate gets right, of ``n``.
The drop is ``(b - c) / n``. Counts may be arrays where a function says so; then the answer is one too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hasten.measure import tails

Numbers = NDArray[np.float64]
STEPS = 50  # halvings of an interval of length 2: 2e-15 is left


def tango_z(b: ArrayLike, c: ArrayLike, n: ArrayLike, limit: ArrayLike) -> Numbers:
    """The score statistic of Tango, Statistics in Medicine 17:891 (1998), eq. 3; arrays broadcast.

    Very negative means that the drop is clearly below ``limit``. At ``limit=0`` it is McNemar's statistic.
    """
    b, c, n, limit = (np.asarray(x, dtype=np.float64) for x in (b, c, n, limit))
    variance = n * (2 * _restricted_rate(b, c, n, limit) + limit * (1 - limit))
    excess = b - c - n * limit
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, excess / np.sqrt(variance), np.where(excess < 0, -np.inf, np.inf * (excess > 0)))


def _restricted_rate(b: Any, c: Any, n: Any, limit: Any) -> Any:
    """The most likely rate of gains when the drop is exactly ``limit``: the root of Tango's quadratic.

    Counts with their number of samples, or rates with ``n=1``.
    """
    first = 2 * n
    second = -b - c + (2 * n - b + c) * limit
    third = -c * limit * (1 - limit)
    return (np.sqrt(np.maximum(second**2 - 4 * first * third, 0)) - second) / (2 * first)


def tango_ps(b: ArrayLike, c: ArrayLike, n: ArrayLike, limit: ArrayLike) -> Numbers:
    """p-values of "the drop is ``limit`` or more", arrays allowed.

    The normal approximation is too bold when hardly anything flips: with no flips at all among 270 samples it would
    prove a drop under 1 %, and one such set in 15 has none. So the p-value is never below the exact one for the
    case without gains, which is binomial. Where gains exist this floor is not felt.
    """
    exact = _binomial_cdf(np.subtract(b, c), n, np.clip(limit, 0, 1))
    floor = np.where(np.asarray(limit) > 0, exact, 0)
    return np.asarray(np.maximum(special.ndtr(tango_z(b, c, n, limit)), floor))


def tango_p(b: int, c: int, n: int, limit: float) -> float:
    """The p-value of "the drop is ``limit`` or more"; at or below alpha, the drop is proven smaller."""
    return float(tango_ps(b, c, n, limit))


def tango_upper(b: int, c: int, n: int, alpha: float = 0.05) -> float:
    """The smallest drop that can be ruled out: ``tango_p`` is at most ``alpha`` from here on. 1.0 when none can.

    The lower bound is ``-tango_upper(c, b, n, alpha)``.
    """
    return _bisect(lambda limit: tango_p(b, c, n, limit) <= alpha, (b - c) / n, 1.0)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number in (low, high] for which ``holds``, given that it goes on holding; ``high`` if never."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def ratio_z(a: ArrayLike, b: ArrayLike, c: ArrayLike, n: ArrayLike, share: ArrayLike) -> Numbers:
    """The score statistic of "the candidate keeps at most ``share`` of the reference's accuracy"; arrays broadcast.

    Nam and Blackwelder, Statistics in Medicine 21:689 (2002): when the hypothesis holds, the variance of
    ``share * x - y`` is ``share * (gains + losses)``, with both rates at their likeliest values under it.
    ``a`` counts samples that both get right. Very negative: clearly more is kept.
    """
    a, b, c, n, share = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (a, b, c, n, share)))
    losses, gains = _ratio_rates(a, b, c, n, share)
    variance = n * share * (losses + gains)
    excess = share * (a + b) - (a + c)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, excess / np.sqrt(variance), np.where(excess < 0, -np.inf, np.inf * (excess > 0)))


def _ratio_rates(a: Numbers, b: Numbers, c: Numbers, n: Numbers, share: Numbers) -> tuple[Numbers, Numbers]:
    """Likeliest rates of losses and gains with ``(1 - share) * both + gains = share * losses``.

    Lagrange: both = a/(n + n m (1-share)), losses = b/(n - n m share), gains = c/(n + n m). The constraint, times
    the denominators, is a concave parabola in m; the wanted root in (-1, 1/share) is its larger one.
    """
    lost = 1 - share
    square = share * lost * (a + b + c)
    linear = lost**2 * a + (1 - 2 * share) * c - share * (2 - share) * b
    constant = lost * a + c - share * b
    root = np.sqrt(np.maximum(linear**2 + 4 * square * constant, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        m = np.where(linear < 0, 2 * constant / (root - linear), (linear + root) / (2 * square))
        kept = lost * a / (n * (1 + m * lost))
        # A rate that was never seen is what the constraint leaves for it: its own formula is 0/0 there.
        gains = np.where(c > 0, c / (n * (1 + m)), np.maximum(0, share * b / (n * (1 - m * share)) - kept))
    return np.nan_to_num((kept + gains) / share), np.nan_to_num(gains)


def _binomial_cdf(k: Any, n: Any, rate: Any) -> Any:
    """P(Binomial(n, rate) <= k), 0 for negative k; ``scipy.stats`` has it too, a hundred times slower."""
    return np.where(np.asarray(k) < 0, 0.0, special.bdtr(np.maximum(k, 0), n, rate))


def ratio_ps(a: ArrayLike, b: ArrayLike, c: ArrayLike, n: ArrayLike, share: ArrayLike) -> Numbers:
    """p-values of "at most ``share`` of the accuracy is kept", with the exact floor of ``tango_ps``; arrays allowed."""
    right = np.add(a, b)
    exact = _binomial_cdf(np.subtract(b, c), right, 1 - np.asarray(share))
    return np.asarray(np.maximum(special.ndtr(ratio_z(a, b, c, n, share)), exact))


def ratio_upper(a: int, b: int, c: int, n: int, alpha: float = 0.05) -> float:
    """The smallest relative drop (a fraction of the reference's accuracy) that can be ruled out; 1.0 when none can."""
    if a + b == 0:
        return 1.0
    return _bisect(lambda drop: float(ratio_ps(a, b, c, n, 1 - drop)) <= alpha, max(0.0, (b - c) / (a + b)), 1 - 1e-9)


def ratio_lower(a: int, b: int, c: int, n: int, alpha: float = 0.05) -> float:
    """The largest relative drop below which the true one is ruled out; negative when a gain is possible."""
    if a + b == 0 or a + c == 0:
        return -inf if a + b == 0 else 0.0
    drop, z = (b - c) / (a + b), tails.normal_upper(alpha)
    if drop > 0 and ratio_z(a, b, c, n, 1 - 1e-9) >= z:
        return _bisect(lambda limit: float(ratio_z(a, b, c, n, 1 - limit)) < z, 0.0, drop)
    gain = ratio_upper(a, c, b, n, alpha)  # the reference against the candidate
    return min(drop, -gain / (1 - gain))


def newcombe_interval(a: int, b: int, c: int, d: int, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided interval of the drop: Newcombe, Statistics in Medicine 17:2635 (1998), method 10. For reports."""
    n = a + b + c + d
    z = tails.normal_upper(alpha / 2)
    first, second = (a + b) / n, (a + c) / n
    low1, high1 = _wilson(a + b, n, z)
    low2, high2 = _wilson(a + c, n, z)
    phi = _phi(a, b, c, d)
    up1, up2, down1, down2 = high1 - first, second - low2, first - low1, high2 - second
    upper = sqrt(max(0.0, up1**2 - 2 * phi * up1 * up2 + up2**2))
    lower = sqrt(max(0.0, down1**2 - 2 * phi * down1 * down2 + down2**2))
    return first - second - lower, first - second + upper


def _wilson(k: int, n: int, z: float) -> tuple[float, float]:
    centre, half = (k + z * z / 2), z * sqrt(k * (n - k) / n + z * z / 4)
    return (centre - half) / (n + z * z), (centre + half) / (n + z * z)


def _phi(a: int, b: int, c: int, d: int) -> float:
    """The correlation of the two outcomes, with Newcombe's continuity correction."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    product = a * d - b * c
    if product > 0:
        product_corrected = max(product - (a + b + c + d) / 2, 0.0)
        return product_corrected / sqrt(margins)
    return product / sqrt(margins)


def clopper_pearson_upper(k: int, n: int, alpha: float = 0.05) -> float:
    """The exact upper bound of a rate of which ``k`` of ``n`` were seen: for a share of changed answers.

    Whatever the labels, the accuracy lost cannot exceed the share of samples whose answer changed.
    """
    return 1.0 if k >= n else tails.beta_upper(alpha, k + 1, n - k)


def clopper_pearson_lower(k: int, n: int, alpha: float = 0.05) -> float:
    """The exact lower bound of a rate of which ``k`` of ``n`` were seen."""
    return 0.0 if k <= 0 else tails.beta_quantile(alpha, k, n - k + 1)


def required_n(flips: float, limit: float, drop: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int:
    """Samples that prove a true ``drop`` to be below ``limit``, when a share ``flips`` of the outcomes changes.

    The two-variance formula of the score test, at least what a set without a single loss needs.

    Raises:
        ValueError: ``drop`` is not below ``limit``, so no number of samples is enough.
    """
    if drop >= limit:
        raise ValueError(f"a drop of {drop} is not below the limit {limit}")
    rate = float(_restricted_rate((flips + drop) / 2, (flips - drop) / 2, 1, limit))
    null = sqrt(2 * rate + limit * (1 - limit))
    true = sqrt(max(flips - drop**2, 0.0))
    effect = tails.normal_upper(alpha) * null + tails.normal_quantile(power) * true
    return max(ceil((effect / (limit - drop)) ** 2), ceil(log(alpha) / log(1 - limit)))


def smallest_limit(n: int, flips: float = 0.02, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest drop that ``n`` samples can rule out when nothing is truly lost; 1.0 when they prove nothing."""
    return _bisect(lambda limit: required_n(flips, limit, 0.0, alpha, power) <= n, 0.0, 1 - 1e-9)
