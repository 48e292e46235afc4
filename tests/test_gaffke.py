"""Gaffke's bound: Clopper and Pearson's on 0/1 samples, drawn Dirichlet weights elsewhere, and never a false claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.measure import gaffke
from hasten.measure.gaffke import gaffke_p, gaffke_upper
from hasten.measure.proportions import clopper_pearson_upper


@pytest.mark.parametrize(
    ("n", "k"), [(1, 0), (5, 0), (20, 3), (168, 0), (168, 5), (2000, 17), (10_000, 3), (3000, 2999)]
)
@pytest.mark.parametrize("alpha", [0.05, 0.0003])
def test_0_and_1_are_clopper_and_pearson(n: int, k: int, alpha: float) -> None:
    sample = (np.arange(n) < k).astype(np.float64)
    assert gaffke_upper(sample, 1.0, alpha) == pytest.approx(clopper_pearson_upper(k, n, alpha), abs=1e-7)


def test_one_sample_is_the_line_to_the_end() -> None:
    assert gaffke_upper(np.array([0.2]), 1.0, 0.05) == pytest.approx(0.2 + 0.95 * 0.8)


@pytest.mark.parametrize("n", [2, 10, 100])
def test_it_is_the_quantile_of_drawn_weights(n: int) -> None:
    random = np.random.default_rng(n)
    sample = np.clip(random.normal(0.0, 0.02, n), -1, 1)
    drawn = random.dirichlet(np.ones(n + 1), 200_000) @ np.append(sample, 1.0)
    for alpha in (0.05, 0.01):
        bound = gaffke_upper(sample, 1.0, alpha)
        error = 4 * np.sqrt(alpha * (1 - alpha) / len(drawn))
        assert np.mean(drawn > bound) == pytest.approx(alpha, abs=error)


def test_many_values_are_merged_without_being_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = np.random.default_rng(0).normal(0, 0.02, 1500)
    merged = gaffke_upper(sample, 1.0, 0.05) - sample.mean()
    monkeypatch.setattr(gaffke, "EXACT", 2000)
    assert merged == pytest.approx(gaffke_upper(sample, 1.0, 0.05) - sample.mean(), rel=3e-4)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.floats(0.001, 0.3), st.floats(-0.9, 1.2))
def test_p_values_agree_with_bounds(values: list[float], alpha: float, limit: float) -> None:
    sample = np.array(values)
    bound = gaffke_upper(sample, 1.0, alpha)
    assert sample.mean() - 1e-12 <= bound <= 1.0
    if abs(bound - limit) > 1e-9:
        assert (gaffke_p(sample, 1.0, limit) <= alpha) == (bound < limit)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40), st.integers(0, 39), st.floats(0, 1))
def test_a_worse_sample_raises_the_bound(values: list[float], at: int, more: float) -> None:
    sample = np.array(values)
    worse = sample.copy()
    worse[at % len(worse)] = min(1.0, worse[at % len(worse)] + more)
    assert gaffke_upper(worse, 1.0, 0.05) >= gaffke_upper(sample, 1.0, 0.05) - 1e-9


@pytest.mark.parametrize("share", [0.012, 0.05])
def test_rare_total_losses_are_not_overlooked(share: float) -> None:
    """1.2 % of samples lose 0.85: a t-test calls that inside one point in 14 to 32 % of draws of 168 or 100."""
    random = np.random.default_rng(3)
    false = 0
    for _ in range(400):
        d = random.normal(0, 0.005, 168) + 0.85 * (random.random(168) < share)
        false += gaffke_p(d, 1.0, 0.85 * share) <= 0.05
    assert false / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
