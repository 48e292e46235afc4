"""The evidence of added samples as losses and bets."""

from __future__ import annotations

from math import log

import numpy as np

from hasten.evidence import Evidence, values_of
from hasten.measure import betting


def earlier(evidence: Evidence) -> betting.Losses | None:
    """The losses that the search saw, where they were counts of right and wrong."""
    if len(evidence.before) != 3:
        return None
    return betting.Losses(np.asarray([-1.0, 0.0, 1.0]), np.asarray(evidence.before, np.float64), 1.0)


def weighed(evidence: Evidence) -> tuple[betting.Losses, betting.Floats]:
    """The losses of added samples, and how the first wealth is divided among the bets."""
    seen = betting.losses(values_of(evidence), evidence.most, unchanged=evidence.unchanged)
    return seen, betting.informed(earlier(evidence), evidence.limit)


def excludes(evidence: Evidence, alpha: float) -> bool:
    """True where the added samples show at the level ``alpha`` that the mean loss is below the limit."""
    seen, weights = weighed(evidence)
    return betting.log_wealth(seen, evidence.limit, weights) >= -log(alpha)
