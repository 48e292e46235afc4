"""How likely a drop is inside its limit, from what was seen and a flat prior: for estimates, never for proofs."""

from __future__ import annotations

from math import isfinite

import numpy as np
from scipy import special

from hasten.measure import tails
from hasten.measure.bounds import Bounds

MIDPOINTS = 48  # of the prior's quantiles that the outer integral is a mean over


def chance_inside(
    bounds: Bounds, limit: float, counts: tuple[int, int, int] | None = None, alpha: float = 0.05
) -> float:
    """P(drop <= ``limit``): from counts of 0/1 outcomes (losses, gains, n), else from the interval as a normal's.

    ``alpha`` is the level of each of its ends.
    """
    if counts is not None:
        return of_counts(*counts, limit)
    if not isfinite(bounds.drop):
        return 0.0
    if not isfinite(bounds.upper - bounds.lower):
        return 0.5
    error = (bounds.upper - bounds.lower) / (2 * tails.normal_upper(alpha))
    return tails.normal_below((limit - bounds.drop) / error) if error > 0 else float(bounds.drop <= limit)


def of_counts(losses: int, gains: int, n: int, limit: float) -> float:
    """P(p_loss - p_gain <= ``limit``) when (p_loss, p_gain, rest) has a Dirichlet posterior from a flat prior.

    The changed share s is Beta(losses + gains + 2, rest + 1), and the losses' part of it Beta(losses + 1, gains + 1).
    """
    changed = special.betaincinv(losses + gains + 2, n - losses - gains + 1, (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS)
    part = np.clip((1 + limit / changed) / 2, 0, 1)
    return float(np.mean(special.betainc(losses + 1, gains + 1, part)))
