"""Looks at growing data: published constants, simulated levels, and levels that add up."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.measure.spending import LARGE, SHARES, increments, looks, nominal_levels, plan


def test_the_levels_are_the_published_ones() -> None:
    assert nominal_levels(0.05) == pytest.approx((0.0003, 0.0071, 0.0227, 0.0415), abs=5e-5)
    # Jennison and Turnbull (2000), table 2.3: C_B(5, 0.05) = 2.040, two-sided, so one-sided 2.5 %
    from scipy import stats

    assert nominal_levels(0.025, (0.2, 0.4, 0.6, 0.8, 1.0))[-1] == pytest.approx(stats.norm.sf(2.040), rel=0.01)
    assert nominal_levels(0.05, (1.0,)) == pytest.approx((0.05,))


def test_all_looks_together_keep_the_level() -> None:
    random = np.random.default_rng(0)
    steps = random.normal(0, 0.5, (200_000, 4))
    statistics = steps.cumsum(axis=1) / np.sqrt(SHARES)
    from scipy import stats

    rejected = (statistics > stats.norm.isf(nominal_levels(0.05))).any(axis=1).mean()
    assert rejected == pytest.approx(0.05, abs=0.0015)


def test_increments_add_up_and_leave_most_for_the_end() -> None:
    for alpha in (0.05, 0.01):
        levels = increments(alpha)
        assert sum(levels) == pytest.approx(alpha)
        assert levels[-1] == pytest.approx(0.9 * alpha)
        assert list(levels) == sorted(levels)
    assert increments(0.05, (1.0,)) == pytest.approx((0.05,))


def test_looks_are_quarters_of_the_samples() -> None:
    assert looks(1000) == (250, 500, 750, 1000)
    assert looks(2) == (1, 2)
    assert looks(0) == ()


@pytest.mark.parametrize("n", [1, 599, 600, 1215, 4800, 4801, 7000, 9000, 100_000])
def test_a_plan_spends_its_level_on_growing_parts_of_all_samples(n: int) -> None:
    sizes, levels = zip(*plan(n, 0.04), strict=True)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == n
    assert sum(levels) == pytest.approx(0.04)
    assert min(levels) > 0
    assert len(sizes) == 1 if n < 600 else sizes[0] <= LARGE
    assert levels[-1] >= (0.9 if n <= 4800 else 0.25) * 0.04 - 1e-12


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.4, 1.0), (0.0, 1.0)])
def test_shares_must_increase_to_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must increase to 1"):
        nominal_levels(0.05, shares)
