"""Every tail and quantile is scipy.stats's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hasten.measure import tails

SHARE = st.floats(1e-6, 1 - 1e-6)
COUNT = st.integers(1, 5000)


def same(found: float, wanted: float) -> bool:
    return found == pytest.approx(wanted, rel=1e-9, abs=1e-300)


@given(SHARE, st.floats(-30, 30))
def test_normal(p: float, z: float) -> None:
    assert same(tails.normal_quantile(p), stats.norm.ppf(p))
    assert same(tails.normal_upper(p), stats.norm.isf(p))
    assert same(tails.normal_below(z), stats.norm.cdf(z))
    assert same(tails.normal_above(z), stats.norm.sf(z))


@given(SHARE, st.floats(-50, 50), COUNT)
def test_student(p: float, t: float, freedom: int) -> None:
    assert tails.student_upper(p, freedom) == pytest.approx(stats.t.isf(p, freedom), rel=1e-7, abs=1e-7)
    assert tails.student_below(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), rel=1e-7, abs=1e-300)


@given(st.data(), COUNT, SHARE, SHARE)
def test_binomial(data: st.DataObject, n: int, share: float, p: float) -> None:
    k = data.draw(st.integers(-1, n))
    assert tails.binomial_more_than(k, n, share) == pytest.approx(stats.binom.sf(k, n, share), rel=1e-7, abs=1e-250)
    quantile = tails.binomial_quantile(p, n, share)
    assert stats.binom.cdf(quantile, n, share) >= p * (1 - 1e-12)
    assert stats.binom.cdf(quantile - 1, n, share) < p * (1 + 1e-12)
    ks = np.arange(n + 1)
    found, wanted = tails.binomial_at_most(ks, n, share), stats.binom.cdf(ks, n, share)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-250)


@given(SHARE, COUNT, COUNT)
def test_beta(p: float, a: int, b: int) -> None:
    assert tails.beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-7, abs=1e-12)
    assert tails.beta_upper(p, a, b) == pytest.approx(stats.beta.isf(p, a, b), rel=1e-7, abs=1e-12)
