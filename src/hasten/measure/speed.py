"""What paired timings prove. A log ratio is ``ln(baseline time / candidate time)`` of one pair: > 0 is faster."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, inf
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hasten.measure import tails

SpeedVerdict = Literal["faster", "clearly faster", "same", "slower", "undecided"]

MARGIN = 0.02  # a smaller gain is not worth a change
PAIRS = 40  # finds a gain of 3 % in 95 % of runs on a noisy machine (tests/test_statistics_suite.py)
LEAST_PAIRS = 6  # below six no 95 % statement exists without assuming a distribution
LEAST_RESTARTS = 3  # of fewer the t-interval says nothing of use
CORRELATED = 0.2  # neighbouring pairs above this are averaged before anything is claimed


def sign_ranks(pairs: int, alpha: float = 0.05) -> int:
    """The largest k with P(Binomial(pairs, 1/2) <= k - 1) <= alpha / 2; 0 when there is none."""
    return tails.binomial_quantile(alpha / 2, pairs, 0.5) if pairs and 0.5**pairs <= alpha / 2 else 0


def sign_interval(log_ratios: ArrayLike, alpha: float = 0.05) -> tuple[float, float]:
    """The speed-up's exact interval (low, high) from order statistics; no distribution is assumed.

    Ranks k and B + 1 - k of the sorted ratios bound the median. Too few pairs give ``(0.0, inf)``.
    """
    ratios = np.sort(np.asarray(log_ratios, dtype=np.float64))
    k = sign_ranks(len(ratios), alpha)
    return (exp(ratios[k - 1]), exp(ratios[-k])) if k else (0.0, inf)


def restart_interval(log_ratios: ArrayLike, restarts: int, alpha: float = 0.05) -> tuple[float, float, float]:
    """(speed-up, low, high) of pairs in the order of their restarts, as many in each: Student's t over the restarts.

    A process is faster or slower than the next one of the same network by 2 to 10 %, for as long as it lives. Its
    pairs share that, so that only restarts are independent. Each counts with the median of its pairs.
    """
    units = np.median(np.asarray(log_ratios, dtype=np.float64).reshape(restarts, -1), axis=1)
    middle = float(units.mean())
    half = tails.student_upper(alpha / 2, restarts - 1) * float(units.std(ddof=1)) / restarts**0.5
    return exp(middle), exp(middle - half), exp(middle + half)


def speedup_of(log_ratios: ArrayLike) -> float:
    """The speed-up: the exponential of the median log ratio, so that 2x and 0.5x are each other's mirror."""
    return float(np.exp(np.median(np.asarray(log_ratios, dtype=np.float64))))


def steady_speedup(log_ratios: ArrayLike) -> float:
    """The speed-up that three of four pairs show: threads that sometimes wake on one core make a middle of two speeds.

    As far from the median as the lower end of the exact interval of some thirty pairs.
    """
    return float(np.exp(np.quantile(np.asarray(log_ratios, dtype=np.float64), 0.25)))


def speed_verdict(low: float, high: float, margin: float = MARGIN) -> SpeedVerdict:
    """What an interval of the speed-up says. "same" means proven to be within the margin either way."""
    if low > 1 + margin:
        return "clearly faster"
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        return "same"
    if low > 1:
        return "faster"
    return "slower" if high < 1 else "undecided"


def margin_of(noise_low: float, noise_high: float) -> float:
    """The margin on this machine: 2 %, or twice the half-width of the baseline against itself where that is more."""
    return max(MARGIN, 2 * (noise_high - noise_low) / 2)


def autocorrelation(log_ratios: ArrayLike) -> float:
    """Lag-1 autocorrelation; 0.0 for fewer than three pairs or no variation."""
    centred = np.asarray(log_ratios, dtype=np.float64)
    centred = centred - centred.mean() if len(centred) else centred
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if len(centred) > 2 and power > 0 else 0.0


def block_average(log_ratios: ArrayLike) -> NDArray[np.float64]:
    """The ratios as they are, or means of ceil(B ** (1/3)) neighbours when those are correlated (rho > 0.2).

    The sign interval needs independent pairs. An incomplete last block is left out.
    """
    ratios = np.asarray(log_ratios, dtype=np.float64)
    length = ceil(len(ratios) ** (1 / 3))
    if autocorrelation(ratios) <= CORRELATED or len(ratios) < LEAST_PAIRS * length:
        return ratios
    blocks = len(ratios) // length
    return np.asarray(ratios[: blocks * length].reshape(blocks, length).mean(axis=1))


def pairs_needed(sd: float, half_width: float) -> int:
    """Pairs for an interval of ``half_width`` when log ratios have standard deviation ``sd``; at least six."""
    return max(LEAST_PAIRS, ceil((1.96 * 1.2533 * sd / half_width) ** 2))


def percentile_allowed(total: int, percentile: float, confidence: float = 0.99) -> int | None:
    """How many of ``total`` timings may exceed a bound that is claimed for ``percentile`` (0.99); None: too few.

    MLPerf's early stopping: the smallest h with I_p(h, t + 1) <= 1 - c, where h stay within and t do not.
    """

    def proven(over: int) -> bool:
        return total > over and float(special.betainc(total - over, over + 1, percentile)) <= 1 - confidence

    if not proven(0):
        return None
    low, high = 0, total
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if proven(middle) else (low, middle)
    return low


def conservative_percentile(
    times: Sequence[float] | NDArray[np.float64], percentile: float, confidence: float = 0.99
) -> float | None:
    """A time that the true ``percentile`` does not exceed, with this confidence; None: too few timings to say.

    With t allowed, the t - 1 slowest are dropped and the slowest of the rest is reported.
    """
    allowed = percentile_allowed(len(times), percentile, confidence)
    if allowed is None:
        return None
    return float(np.sort(np.asarray(times, dtype=np.float64))[len(times) - max(allowed, 1)])
