"""Giving up early costs few good candidates, and many looks together keep the level."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.budget import Budget
from hasten.measure import sequential as q
from hasten.measure.quality import assess
from hasten.metrics import TOP1


def test_worn_alpha_spends_alpha_in_all() -> None:
    spent = sum(q.worn_alpha(0.05, look) for look in range(1, 20_000))
    assert 0.04999 < spent < 0.05
    assert q.worn_alpha(0.05, 1) == pytest.approx(0.04)
    assert q.worn_alpha(0.05, 3) == pytest.approx(q.worn_alpha(0.05, 2) / 4)
    with pytest.raises(ValueError, match="counted from 1"):
        q.worn_alpha(0.05, 0)


def test_a_candidate_at_the_limit_is_seldom_given_up() -> None:
    """Looking after 64, 128 and 256 samples at 1 % each: at most about 3 % of those that lose just the budget."""
    rng, given_up = np.random.default_rng(4), 0
    for _ in range(250):
        u = rng.random(256)
        lost, won = u < 0.03, (u >= 0.03) & (u < 0.05)
        known = np.where(lost, 1.0, np.where(won, 0.0, (rng.random(256) < 0.9).astype(float)))
        rows = np.where(lost, 0.0, np.where(won, 1.0, known))
        careful = [
            assess(TOP1, Budget(limit=0.01), known[:n], rows[:n], split="search", alpha=q.FUTILE).lower > 0.01
            for n in q.LOOKS[:3]
        ]
        given_up += any(careful)
    assert given_up / 250 <= 0.03 + 3 * (0.03 * 0.97 / 250) ** 0.5
