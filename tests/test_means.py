"""Bounds on a mean in two grades: textbook formulas where there are any, counted false claims where there are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from hasten.measure import means
from hasten.measure.bounds import Bounds

samples = hnp.arrays(np.float64, st.integers(24, 60), elements=st.floats(-1, 1, width=16))


def judged(d: np.ndarray, limit: float, **more: object) -> Bounds:
    found = means.statistical(d, limit=limit, **more)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_it_is_the_guaranteed_bound_with_the_largest_loss_seen() -> None:
    d = np.random.default_rng(0).normal(0.01, 0.05, 100)
    found = judged(d, 0.03)
    assert found.upper == pytest.approx(means.guaranteed(d, d.max(), limit=0.03).upper)
    assert found.lower == pytest.approx(-means.guaranteed(-d, -d.min(), limit=0.03).upper)


def test_on_many_samples_it_is_nearly_students() -> None:
    d = np.random.default_rng(1).normal(0.01, 0.05, 2000)
    plain = d.mean() + stats.t.isf(0.05, 1999) * stats.sem(d)
    assert 0 < judged(d, 0.02).upper - plain < 0.12 * (plain - d.mean())


@settings(deadline=None, max_examples=60)
@given(samples, st.floats(0.001, 0.2), st.floats(-0.5, 1.5))
def test_p_values_agree_with_bounds(d: np.ndarray, alpha: float, limit: float) -> None:
    found = means.statistical(d, limit=limit, alpha=alpha)
    if found is not None and abs(found.upper - limit) > 1e-9:
        assert (found.p_value <= alpha) == (found.upper < limit)
        assert found.lower <= found.drop <= found.upper


def test_too_few_units_or_changes_have_no_statistical_bound() -> None:
    d = np.random.default_rng(2).normal(size=19)
    assert means.statistical(d, limit=0.1) is None
    few = np.zeros(500)
    few[:19] = 0.1
    assert means.statistical(few, limit=0.1) is None
    few[:20] = 0.1
    assert means.statistical(few, limit=0.1) is not None


def test_groups_are_the_units() -> None:
    rng = np.random.default_rng(3)
    d = rng.normal(size=60)
    once, thrice = judged(d, 0.1), judged(np.repeat(d, 3), 0.1, groups=np.repeat(np.arange(60), 3))
    assert (thrice.lower, thrice.upper) == pytest.approx((once.lower, once.upper))
    assert thrice.method == "largest loss seen, 60 groups"
    assert judged(d, 0.1, groups=np.arange(60)) == once


def test_unlike_groups_weigh_by_their_size() -> None:
    rng = np.random.default_rng(4)
    groups, d = rng.integers(0, 30, 200), rng.normal(size=200)
    units = means.units_of(d, 1.0, groups)
    assert units.values.mean() == pytest.approx(d.mean())
    squares = sum((d[groups == g] - d.mean()).sum() ** 2 for g in range(30)) / 200**2
    assert units.values.var(ddof=1) / 30 == pytest.approx(squares * 30 / 29)


def test_six_groups_are_judged_by_their_signs() -> None:
    d, groups = np.repeat([0.001, 0.002, 0.003, 0.001, 0.002, 0.004], 5), np.repeat(np.arange(6), 5)
    found = judged(d, 0.01, groups=groups)
    assert found.method == "sign flips of 6 groups"
    assert found.p_value == pytest.approx(1 / 64)
    assert 0.002 < found.upper < 0.01
    assert means.statistical(d[:25], limit=0.01, groups=groups[:25]) is None


def test_signs_are_scipys_permutation_test() -> None:
    values = np.random.default_rng(5).normal(0, 0.01, 9)
    exact = stats.permutation_test(
        (values - 0.004,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", alternative="less",
        n_resamples=np.inf,
    )  # fmt: skip
    assert means._signs_p(values, 0.004) == pytest.approx(exact.pvalue)


@pytest.mark.parametrize(
    ("name", "n", "most"),
    [("normal", 20, 0.05), ("normal", 60, 0.05), ("lost", 60, 0.06), ("gained", 40, 0.05)],
)
def test_false_claims_at_the_limit(name: str, n: int, most: float) -> None:
    random, false = np.random.default_rng(n), 0
    for _ in range(250):
        e = random.normal(0, 1, n) if name == "normal" else random.exponential(1, n) - 1
        false += judged(0.01 + 0.02 * (-e if name == "gained" else e), 0.01).p_value <= 0.05
    assert false / 250 <= most + 2 * np.sqrt(0.05 * 0.95 / 250)


def test_a_guarantee_over_groups_is_one_over_their_means() -> None:
    d = np.random.default_rng(6).random(50) * 0.1
    alone = means.guaranteed(d, 1.0, limit=0.2)
    repeated = means.guaranteed(np.repeat(d, 4), 1.0, limit=0.2, groups=np.repeat(np.arange(50), 4))
    assert (repeated.upper, repeated.p_value) == pytest.approx((alone.upper, alone.p_value))
    assert alone.drop <= alone.upper
