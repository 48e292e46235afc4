"""Paired 0/1 outcomes against the published tables, exact enumeration, and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from hasten.measure import proportions as p

counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400)).map(
    lambda t: (t[0], t[1], t[0] + t[1] + t[2])
)

NEEDED = {  # flips -> (80 %, 90 % power) for limits 0.1, 0.25, 0.5, 1, 2 %
    0.005: [(31_700, 43_700), (5600, 7600), (1700, 2300), (600, 762), (232, 282)],
    0.01: [(62_000, 86_000), (10_300, 14_100), (2800, 3800), (856, 1132), (298, 378)],
    0.02: [(124_000, 172_000), (20_000, 27_600), (5100, 7100), (1400, 1900), (425, 563)],
    0.05: [(309_000, 428_000), (49_500, 68_600), (12_400, 17_200), (3200, 4400), (837, 1146)],
    0.1: [(618_000, 856_000), (99_000, 137_000), (24_800, 34_300), (6200, 8600), (1600, 2200)],
}
SMALLEST = {  # n -> points for flips of 0.5, 1, 2, 5, 10 %
    100: [3.9, 4.4, 5.2, 6.9, 8.8],
    200: [2.2, 2.7, 3.2, 4.5, 5.9],
    500: [1.1, 1.4, 1.8, 2.7, 3.6],
    1000: [0.7, 0.9, 1.2, 1.8, 2.5],
    5000: [0.27, 0.36, 0.51, 0.79, 1.1],
    50_000: [0.08, 0.11, 0.16, 0.25, 0.35],
}


def test_required_n_is_the_published_table() -> None:
    for flips, row in NEEDED.items():
        for limit, (at80, at90) in zip((0.001, 0.0025, 0.005, 0.01, 0.02), row, strict=True):
            assert p.required_n(flips, limit) == pytest.approx(at80, rel=0.025)
            assert p.required_n(flips, limit, power=0.9) == pytest.approx(at90, rel=0.025)


def test_required_n_with_a_true_drop_of_half_the_limit() -> None:
    needed = [p.required_n(0.02, limit, limit / 2) for limit in (0.001, 0.0025, 0.005, 0.01, 0.02)]
    assert needed == pytest.approx([495_000, 80_000, 20_000, 5300, 1500], rel=0.01)


def test_required_n_refuses_a_drop_at_the_limit() -> None:
    with pytest.raises(ValueError, match=r"0\.02 is not below the limit 0\.01"):
        p.required_n(0.05, 0.01, 0.02)


@pytest.mark.parametrize(("limit", "needed"), [(0.001, 2995), (0.005, 598), (0.01, 299), (0.02, 149), (0.05, 59)])
def test_sets_without_a_loss_need_the_exact_floor(limit: float, needed: int) -> None:
    assert p.tango_p(0, 0, needed, limit) <= 0.05 < p.tango_p(0, 0, needed - 1, limit)
    assert p.required_n(0.0, limit) >= needed


def test_smallest_limit_is_the_published_table() -> None:
    for n, row in SMALLEST.items():
        found = [100 * p.smallest_limit(n, flips) for flips in (0.005, 0.01, 0.02, 0.05, 0.1)]
        assert found == pytest.approx(row, rel=0.04)


def test_tango_at_zero_is_mcnemar() -> None:
    assert p.tango_z(14, 5, 41, 0.0) == pytest.approx((14 - 5) / np.sqrt(14 + 5))


def test_tango_uses_the_likeliest_rates_under_the_hypothesis() -> None:
    b, c, n, limit = 7, 4, 150, 0.06

    def cost(gains: float) -> float:
        return -float(stats.multinomial.logpmf([b, c, n - b - c], n, [gains + limit, gains, 1 - 2 * gains - limit]))

    gains = optimize.minimize_scalar(cost, bounds=(1e-9, 0.4), method="bounded", options={"xatol": 1e-10}).x
    z = (b - c - n * limit) / np.sqrt(n * (2 * gains + limit - limit**2))
    assert p.tango_z(b, c, n, limit) == pytest.approx(z, abs=1e-5)


def test_ratio_uses_the_likeliest_rates_under_the_hypothesis() -> None:
    a, b, c, n, share = 120, 7, 4, 150, 0.95

    def cost(rates: np.ndarray) -> float:
        both, losses = rates
        gains = share * losses - (1 - share) * both
        shares = np.maximum([both, losses, gains, 1 - both - losses - gains], 1e-12)
        return float(-(np.array([a, b, c, n - a - b - c]) * np.log(shares)).sum())

    best = optimize.minimize(cost, (0.8, 0.06), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}).x
    gains = share * best[1] - (1 - share) * best[0]
    z = (share * (a + b) - (a + c)) / np.sqrt(n * share * (best[1] + gains))
    assert p.ratio_z(a, b, c, n, share) == pytest.approx(z, abs=1e-4)


@pytest.mark.parametrize(("b", "c"), [(0, 3), (3, 0), (0, 0)])
def test_ratio_with_empty_cells_is_the_limit_of_small_ones(b: int, c: int) -> None:
    near = p.ratio_z(200, b + 1e-7, c + 1e-7, 300, 0.97)
    assert p.ratio_z(200, b, c, 300, 0.97) == pytest.approx(float(near), abs=1e-3)


@pytest.mark.parametrize(
    ("n", "limit"), [(100, 0.05), (200, 0.01), (270, 0.01), (300, 0.01), (500, 0.005), (500, 0.01)]
)
@pytest.mark.parametrize("gains", [0.0, 0.0025, 0.01, 0.05])
def test_exact_size(n: int, limit: float, gains: float) -> None:
    """The true error rate by enumerating every table of counts; 270 without gains is 6.6 % for Tango alone."""
    b, c = np.meshgrid(np.arange(min(n, 80)), np.arange(min(n, 70)), indexing="ij")
    rates = [gains + limit, gains, 1 - 2 * gains - limit]
    chance = np.where(b + c <= n, stats.multinomial.pmf(np.stack([b, c, np.maximum(n - b - c, 0)], -1), n, rates), 0)
    assert chance[p.tango_ps(b, c, n, limit) <= 0.05].sum() <= 0.052


@settings(deadline=None, max_examples=50)
@given(counts, st.floats(0.001, 0.3))
def test_tango_is_antisymmetric(table: tuple[int, int, int], limit: float) -> None:
    b, c, n = table
    assert p.tango_z(b, c, n, limit) == pytest.approx(-p.tango_z(c, b, n, -limit), rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(counts, st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_upper_is_monotone_and_above_the_estimate(table: tuple[int, int, int], first: float, second: float) -> None:
    b, c, n = table
    strict, loose = sorted((first, second))
    assert p.tango_upper(b, c, n, strict) >= p.tango_upper(b, c, n, loose) - 1e-12 >= (b - c) / n - 1e-9
    assert p.ratio_upper(n - b - c, b, c, n, strict) >= p.ratio_upper(n - b - c, b, c, n, loose) - 1e-12
    assert p.clopper_pearson_upper(b, n, strict) >= p.clopper_pearson_upper(b, n, loose) >= b / n


@settings(deadline=None, max_examples=50)
@given(counts, st.floats(0.002, 0.3))
def test_upper_is_where_the_p_value_crosses(table: tuple[int, int, int], limit: float) -> None:
    b, c, n = table
    upper = p.tango_upper(b, c, n, 0.05)
    if abs(upper - limit) > 1e-9 and limit > (b - c) / n:
        assert (p.tango_p(b, c, n, limit) <= 0.05) == (upper < limit)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.integers(0, 20), st.integers(0, 20))
def test_ratio_bounds_enclose_the_estimate(a: int, b: int, c: int) -> None:
    n = a + b + c + 10
    assert p.ratio_lower(a, b, c, n) - 1e-9 <= (b - c) / (a + b) <= p.ratio_upper(a, b, c, n) + 1e-9


def test_ratio_of_nothing_right() -> None:
    assert p.ratio_upper(0, 0, 3, 10) == 1.0
    assert p.ratio_lower(0, 0, 3, 10) == -np.inf


def test_clopper_pearson_inverts_the_binomial() -> None:
    upper, lower = p.clopper_pearson_upper(4, 200), p.clopper_pearson_lower(4, 200)
    assert stats.binom.cdf(4, 200, upper) == pytest.approx(0.05)
    assert stats.binom.sf(3, 200, lower) == pytest.approx(0.05)
    assert (p.clopper_pearson_upper(9, 9), p.clopper_pearson_lower(0, 9)) == (1.0, 0.0)


def test_newcombe_agrees_with_tango_on_many_flips() -> None:
    low, high = p.newcombe_interval(700, 120, 80, 100)
    assert high == pytest.approx(p.tango_upper(120, 80, 1000, 0.025), abs=2e-3)
    assert low == pytest.approx(-p.tango_upper(80, 120, 1000, 0.025), abs=2e-3)


def test_newcombe_is_antisymmetric_and_survives_empty_margins() -> None:
    low, high = p.newcombe_interval(36, 12, 2, 0)
    assert p.newcombe_interval(36, 2, 12, 0) == pytest.approx((-high, -low))
    assert low < 0.2 < high
    assert p.newcombe_interval(50, 0, 0, 0)[1] == pytest.approx(0.0714, abs=1e-3)  # Wilson's zero-count limit
