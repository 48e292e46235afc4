"""Bounds on the mean of a score's drop, sample by sample, in two grades.

``guaranteed`` assumes independent samples (or groups) and a known range. ``statistical`` also assumes that what was not
seen resembles what was: that no unseen sample loses more than the worst one seen did.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.measure.bounds import Bounds
from hasten.measure.gaffke import gaffke_p, gaffke_upper

Rows = NDArray[np.float64]

LEAST = 20  # units, and units whose score changed
LEAST_FOR_SIGNS = 6  # groups: with five, even all signs alike are no evidence at 5 %


@dataclass(frozen=True)
class Units:
    """Independent units [g] whose mean is the samples' mean, and the largest value that one more could have."""

    values: Rows
    most: float
    grouped: bool

    @property
    def named(self) -> str:
        """How a method's name counts them."""
        return f", {len(self.values)} groups" if self.grouped else ""


def units_of(d: Rows, most: float, groups: NDArray[Any] | None) -> Units:
    """The samples, or one value a group weighted by its size; ``most`` is the largest drop of one sample."""
    if groups is None:
        return Units(d, most, False)
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) == len(d):
        return Units(d, most, False)
    mean, scale = float(d.mean()), len(sizes) / len(d)
    values = mean + np.bincount(inverse, weights=d - mean) * scale
    return Units(np.asarray(values), mean + (most - mean) * float(sizes.max()) * scale, True)


def guaranteed(
    d: Rows, most: float, *, limit: float, alpha: float = 0.05, groups: NDArray[Any] | None = None
) -> Bounds:
    """An upper bound on the mean of ``d`` [n] = reference score - candidate score, none of which can exceed ``most``.

    With groups the largest group is as large as any group can be. There is no lower bound.
    """
    high = units_of(d, most, groups)
    return Bounds(
        drop=float(d.mean()),
        lower=-inf,
        upper=gaffke_upper(high.values, high.most, alpha),
        p_value=gaffke_p(high.values, high.most, limit),
        method=f"Gaffke{high.named}",
    )


def statistical(d: Rows, *, limit: float, alpha: float = 0.05, groups: NDArray[Any] | None = None) -> Bounds | None:
    """Bounds that hold when no unseen unit loses (or gains) more than the most that one of these did.

    The same bound as ``guaranteed``, with the largest loss seen in the place of the largest possible one. None where
    fewer than 20 units, or fewer than 20 of them that changed, say too little of how large a loss can be. From 6 to 19
    groups are judged by the signs of their differences from the limit.
    """
    units = units_of(d, inf, groups)
    values, changed = units.values, int(np.count_nonzero(units.values))
    if units.grouped and min(len(values), changed) >= LEAST_FOR_SIGNS and len(values) < LEAST:
        return _by_signs(values, limit, alpha)
    if min(len(values), changed) < LEAST:
        return None
    return Bounds(
        drop=float(d.mean()),
        lower=-gaffke_upper(-values, float((-values).max()), alpha),
        upper=gaffke_upper(values, float(values.max()), alpha),
        p_value=gaffke_p(values, float(values.max()), limit),
        method=f"largest loss seen{units.named}",
    )


def _by_signs(values: Rows, limit: float, alpha: float) -> Bounds:
    """The sign-flip test of Fisher (1935, section 21): under the limit each difference is as likely of either sign."""
    return Bounds(
        drop=float(values.mean()),
        lower=-_signs_upper(-values, alpha),
        upper=_signs_upper(values, alpha),
        p_value=_signs_p(values, limit),
        method=f"sign flips of {len(values)} groups",
    )


def _signs_p(values: Rows, limit: float) -> float:
    """The share of all patterns of signs whose mean is as low as the one seen."""
    centred = values - limit
    n = len(centred)
    patterns = 1 - 2 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    sums = patterns @ np.abs(centred)
    return float(np.mean(sums <= centred.sum() + 1e-12 * np.abs(centred).sum()))


def _signs_upper(values: Rows, alpha: float) -> float:
    """The smallest limit that the test rejects; infinite where no pattern is rare enough."""
    low, high = float(values.mean()), float(values.max())
    if _signs_p(values, high + 1e-9 * max(1.0, abs(high))) > alpha:
        return inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _signs_p(values, middle) > alpha else (low, middle)
    return high
