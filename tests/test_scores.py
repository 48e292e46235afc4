"""Bounds of means and corpus values against textbook formulas, and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from hasten.measure import scores as s
from hasten.metrics import AUC

rows = hnp.arrays(np.float64, st.integers(3, 40), elements=st.floats(-1, 1, width=16))
alphas = st.floats(0.001, 0.2)


def test_paired_t_is_scipy_on_the_augmented_sample() -> None:
    d = np.random.default_rng(0).normal(0.01, 0.05, 400)
    bounds = s.paired_t(d, limit=0.02)
    more = np.append(d, np.abs(d).max())
    assert bounds.drop == pytest.approx(d.mean())
    assert bounds.upper == pytest.approx(more.mean() + stats.t.isf(0.05, 399) * stats.sem(more))
    assert bounds.p_value == pytest.approx(stats.ttest_1samp(more, 0.02, alternative="less").pvalue, rel=0.02)


def test_the_imagined_loss_costs_little() -> None:
    d = np.random.default_rng(0).normal(0.01, 0.05, 2000)
    plain = d.mean() + stats.t.isf(0.05, 1999) * stats.sem(d)
    assert 0 < s.paired_t(d, limit=0.02).upper - plain < 0.1 * (plain - d.mean())


def test_clustered_error_is_the_naive_double_sum() -> None:
    rng = np.random.default_rng(1)
    groups, d = rng.integers(0, 30, 200), rng.normal(size=200)
    naive = sum(d[groups == g].sum() - d.mean() * (groups == g).sum() for g in range(30))
    assert naive == pytest.approx(0)
    squares = sum((d[groups == g] - d.mean()).sum() ** 2 for g in range(30)) / 200**2
    units = s._units(d, groups)
    assert units.mean() == pytest.approx(d.mean())
    assert units.var(ddof=1) / 30 == pytest.approx(squares * 30 / 29)


def test_groups_of_one_change_nothing() -> None:
    d = np.random.default_rng(2).normal(size=50)
    assert s.paired_t(d, limit=0.1, groups=np.arange(50)) == s.paired_t(d, limit=0.1)


def test_repeated_samples_prove_nothing_more() -> None:
    d = np.random.default_rng(3).normal(size=60)
    once, thrice = s.paired_t(d, limit=0.1), s.paired_t(np.repeat(d, 3), limit=0.1, groups=np.repeat(np.arange(60), 3))
    assert (thrice.lower, thrice.upper) == pytest.approx((once.lower, once.upper))


def test_one_group_or_sample_proves_nothing() -> None:
    assert s.paired_t(np.zeros(9), limit=0.1, groups=np.zeros(9)).method == "one group proves nothing"
    assert s.empirical_bernstein(np.zeros(1), 1.0, limit=0.1).method == "one sample proves nothing"


def test_empirical_bernstein_is_the_published_formula() -> None:
    d = np.random.default_rng(4).random(50)
    bounds = s.empirical_bernstein(d, 1.0, limit=0.99)
    log2a = np.log(2 / 0.05)
    assert bounds.upper == pytest.approx(d.mean() + np.sqrt(2 * d.var(ddof=1) * log2a / 50) + 7 * log2a / (3 * 49))
    again = s.empirical_bernstein(d, 1.0, limit=0.99, alpha=bounds.p_value)
    assert again.upper == pytest.approx(0.99)


def test_never_worse_is_the_rule_of_three() -> None:
    assert s.never_worse(299, 1.0, limit=0.01).p_value <= 0.05 < s.never_worse(298, 1.0, limit=0.01).p_value
    assert s.never_worse(1000, 1.0, limit=0.01).upper == pytest.approx(3 / 1000, rel=0.01)


@settings(deadline=None, max_examples=50)
@given(rows, alphas, alphas)
def test_bounds_are_monotone_and_enclose_the_drop(d: np.ndarray, first: float, second: float) -> None:
    strict, loose = sorted((first, second))
    t = [s.paired_t(d, limit=0.1, alpha=alpha) for alpha in (loose, strict)]
    bernstein = [s.empirical_bernstein(d, 2.0, limit=0.1, alpha=alpha) for alpha in (loose, strict)]
    for tight, wide in (t, bernstein):
        assert wide.lower - 1e-12 <= tight.lower <= tight.drop <= tight.upper <= wide.upper + 1e-12


@settings(deadline=None, max_examples=50)
@given(rows, alphas, st.floats(-0.5, 1.5))
def test_p_values_agree_with_bounds(d: np.ndarray, alpha: float, limit: float) -> None:
    for found in (
        s.paired_t(d, limit=limit, alpha=alpha),
        s.empirical_bernstein(d, 2.0, limit=limit, alpha=alpha),
    ):
        if abs(found.upper - limit) > 1e-9 and limit > found.drop:
            assert (found.p_value <= alpha) == (found.upper < limit)


def test_bootstrap_of_a_mean_is_close_to_t() -> None:
    rng = np.random.default_rng(5)
    x = rng.random(1200)
    y = x - rng.normal(0.01, 0.05, 1200)
    found = s.paired_bootstrap(lambda r: float(r.mean()), x, y, limit=0.013)
    exact = s.paired_t(x - y, limit=0.013)
    assert found.upper == pytest.approx(exact.upper, abs=4e-4)
    assert found.p_value == pytest.approx(exact.p_value, abs=0.02)


def test_bootstrap_with_weights_is_bootstrap_by_rows() -> None:
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, 80)
    first = np.stack([np.round(label + rng.normal(size=80), 1), label], 1)
    second = np.stack([np.round(label + rng.normal(size=80), 1), label], 1)
    slow = s.paired_bootstrap(AUC.value, first, second, limit=0.1, resamples=100)
    fast = s.paired_bootstrap(AUC.value, first, second, limit=0.1, resamples=100, weighted=AUC.weighted)
    assert (slow.upper, slow.lower, slow.p_value) == pytest.approx((fast.upper, fast.lower, fast.p_value))


def test_bootstrap_repeats_and_widens_with_groups() -> None:
    rng = np.random.default_rng(7)
    x, y, groups = rng.random(400), rng.random(400), np.repeat(np.arange(40), 10)
    x += np.repeat(rng.normal(0, 0.3, 40), 10)
    mean = lambda r: float(r.mean())  # noqa: E731
    alone, again = (s.paired_bootstrap(mean, x, y, limit=0.1, resamples=300) for _ in range(2))
    grouped = s.paired_bootstrap(mean, x, y, limit=0.1, resamples=300, groups=groups)
    assert alone == again
    assert grouped.upper - grouped.lower > alone.upper - alone.lower


def test_bca_constants_of_a_skewed_mean_are_efrons() -> None:
    x = np.random.default_rng(8).exponential(size=200)
    draws = np.random.default_rng(0).choice(x, (4000, 200)).mean(axis=1)
    jackknife = (x.sum() - x) / 199
    _, curve = s._bca_constants(draws, x.mean(), jackknife)
    assert curve == pytest.approx(stats.skew(x) / (6 * np.sqrt(200)), rel=1e-6)


def test_bca_level_and_p_are_inverse() -> None:
    assert s._bca_p(1 - s._bca_level(0.95, 0.1, 0.05), 0.1, 0.05) == pytest.approx(0.05)


def test_one_class_only_has_no_bounds() -> None:
    one_class = np.stack([np.random.default_rng(0).random(50), np.ones(50)], 1)
    found = s.paired_bootstrap(AUC.value, one_class, one_class, limit=0.1, weighted=AUC.weighted)
    assert found.upper == np.inf
    assert found.p_value == 1.0


def test_identical_corpus_rows_still_need_samples() -> None:
    pairs = np.stack([np.random.default_rng(0).random(100), np.arange(100) % 2], 1)
    assert s.paired_bootstrap(AUC.value, pairs, pairs, limit=0.01).p_value > 0.3
