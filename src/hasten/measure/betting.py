"""An always-valid test of a mean, from losses that arrive at any time, some of them known only by their most.

Each loss d lies at or below ``most``. Against "the mean drop is m or more" a bet of fraction t multiplies its wealth by
1 + t (m - d) / (most - m), whose expectation is then at most 1. So is that of the product over independent samples,
and of a mixture of bets that was fixed before. By Ville's inequality such a wealth ever reaches 1 / alpha with a
probability of at most alpha, however often it is read, and whatever decides when to stop (Waudby-Smith and Ramdas, JRSS
B 86:1 (2024)).

No bet depends on what was seen, so the product has no order. A loss may stand at its most until its label is known:
the wealth is then smaller than with the label, never larger. That holds whichever labels are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BETS = np.geomspace(0.01, 1.0, 25)  # fractions of the wealth at risk (chosen: neighbours differ by a fifth)
INFORMED = 0.5  # of the first wealth is divided as the samples of the search advise (chosen), the rest evenly
STEPS = 60  # halvings


@dataclass(frozen=True)
class Losses:
    """Distinct losses, how often each occurred, and the largest that one sample can show."""

    values: Floats
    counts: Floats
    most: float

    @property
    def n(self) -> int:
        """Samples."""
        return round(float(self.counts.sum()))

    @property
    def mean(self) -> float:
        """Their mean; NaN without any."""
        return float(self.values @ self.counts / self.counts.sum()) if self.n else float("nan")


def losses(values: Floats, most: float, *, unchanged: int = 0) -> Losses:
    """``values`` and ``unchanged`` zeros, counted."""
    found, counts = np.unique(np.append(np.asarray(values, np.float64), 0.0), return_counts=True)
    counted = counts.astype(np.float64)
    counted[found == 0] += unchanged - 1
    return Losses(found, counted, most)


def informed(before: Losses | None, limit: float) -> Floats:
    """How the first wealth is divided among the bets: evenly, or half of it as earlier samples advise.

    The earlier samples only choose the bets. Their own losses never enter the wealth.
    """
    even = np.full(len(BETS), 1 / len(BETS))
    if before is None or not before.n:
        return even
    grown = _log_wealths(before, limit)
    share = np.exp(grown - grown.max())
    return np.asarray((1 - INFORMED) * even + INFORMED * share / share.sum())


def log_wealth(seen: Losses, limit: float, weights: Floats) -> float:
    """The logarithm of the wealth against "the mean is ``limit`` or more"."""
    grown = _log_wealths(seen, limit)
    most = grown.max()
    return float(most + np.log(weights @ np.exp(grown - most))) if most > -inf else -inf


def upper(seen: Losses, weights: Floats, alpha: float) -> float:
    """The smallest mean that the wealth excludes at ``alpha``: a bound that holds at all times together."""
    low, high = -abs(seen.most), seen.most
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if log_wealth(seen, middle, weights) >= log(1 / alpha) else (middle, high)
    return high


def more_needed(seen: Losses, limit: float, weights: Floats, alpha: float) -> int | None:
    """About how many more samples with such losses would exclude ``limit``; None where they never would."""
    if not seen.n or seen.mean >= limit:
        return None
    low, high = 1.0, 2.0
    while not _reached(seen, high, limit, weights, alpha):
        low, high = high, high * 2
        if high * seen.n > 1e9:
            return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _reached(seen, middle, limit, weights, alpha) else (middle, high)
    return max(1, int(np.ceil((high - 1) * seen.n)))


def labels_needed(
    seen: Losses, unknown: int, limit: float, weights: Floats, alpha: float, *, lost: float, gained: float
) -> int | None:
    """How many of ``unknown`` losses, which stand at the most, must be known when shares of them are lost and gained.

    None where all of them do not suffice.
    """
    for k in range(1, unknown + 1):
        worse, better = int(np.ceil(k * lost)), int(k * gained)
        values = np.concatenate([seen.values, [0.0, -seen.most]])
        left = seen.counts - np.where(seen.values == seen.most, k - worse, 0)
        counts = np.concatenate([left, [k - worse - better, better]])
        if log_wealth(Losses(values, counts, seen.most), limit, weights) >= log(1 / alpha):
            return k
    return None


def _reached(seen: Losses, scale: float, limit: float, weights: Floats, alpha: float) -> bool:
    return log_wealth(Losses(seen.values, seen.counts * scale, seen.most), limit, weights) >= log(1 / alpha)


def _log_wealths(seen: Losses, limit: float) -> Floats:
    """[bets] the logarithm of each bet's wealth; -inf for one that lost all."""
    if limit >= seen.most:
        return np.full(len(BETS), inf if seen.n else 0.0).clip(max=1e6)
    steps = np.multiply.outer(BETS, (limit - seen.values) / (seen.most - limit))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log1p(np.maximum(steps, -1.0))
        grown = np.where(seen.counts != 0, logs * seen.counts, 0.0)
    return np.asarray(grown.sum(axis=1))
