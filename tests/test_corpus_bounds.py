"""Bounds of corpus values: the paired bootstrap beside t, by classes and by groups, and Efron's corrections."""

import numpy as np
import pytest
from scipy import stats

from hasten.measure import corpus as s
from hasten.metrics import AUC


def test_never_worse_is_the_rule_of_three() -> None:
    assert s.never_worse(299, 1.0, limit=0.01).p_value <= 0.05 < s.never_worse(298, 1.0, limit=0.01).p_value
    assert s.never_worse(1000, 1.0, limit=0.01).upper == pytest.approx(3 / 1000, rel=0.01)


def test_bootstrap_of_a_mean_is_close_to_t() -> None:
    rng = np.random.default_rng(5)
    x = rng.random(1200)
    y = x - rng.normal(0.01, 0.05, 1200)
    found = s.paired_bootstrap(lambda r: float(r.mean()), x, y, limit=0.013)
    exact = stats.ttest_1samp(x - y, 0.013, alternative="less")
    assert found.upper == pytest.approx(exact.confidence_interval(0.95).high, abs=4e-4)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.02)


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


def test_resamples_of_strata_hold_each_as_often_as_it_occurs() -> None:
    strata = np.array([0, 0, 0, 1, 1, 2] * 5)
    for chunk in s._stratified(np.random.default_rng(0), strata, 50):
        for value, count in zip(*np.unique(strata, return_counts=True), strict=True):
            assert (chunk[:, strata == value].sum(axis=1) == count).all()


def test_resamples_grow_with_the_confidence() -> None:
    rows = np.random.default_rng(1).random(40)
    late = s.paired_bootstrap(lambda r: float(r.mean()), rows, rows - 0.001, limit=0.1, alpha=0.001)
    assert late.p_value < 0.001  # 2,000 resamples could not have shown less than 0.0005 with any to spare
