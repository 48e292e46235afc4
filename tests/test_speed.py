"""Sign intervals, pairs and percentiles against the published tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hasten.measure import speed

RANKS = {
    6: (1, 6), 8: (1, 8), 10: (2, 9), 12: (3, 10), 15: (4, 12), 20: (6, 15), 25: (8, 18), 30: (10, 21),
    40: (14, 27), 50: (18, 33), 60: (22, 39), 100: (40, 61), 200: (86, 115),
}  # fmt: skip
COVERAGE = {6: 96.9, 8: 99.2, 10: 97.9, 12: 96.1, 15: 96.5, 20: 95.9, 40: 96.1, 100: 96.5, 200: 96.0}
QUERIES = {0.5: (7, 11, 14, 22, 35), 0.9: (44, 64, 81, 127, 197), 0.95: (90, 130, 165, 259, 398),
           0.99: (459, 662, 838, 1307, 2010), 0.999: (4603, 6636, 8403, 13105, 20140)}  # fmt: skip


@pytest.mark.parametrize("pairs", RANKS)
def test_ranks_are_the_published_table(pairs: int) -> None:
    k = speed.sign_ranks(pairs)
    assert (k, pairs + 1 - k) == RANKS[pairs]
    if pairs in COVERAGE:
        assert 100 * (1 - 2 * stats.binom.cdf(k - 1, pairs, 0.5)) == pytest.approx(COVERAGE[pairs], abs=0.06)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.floats(0.001, 0.4))
def test_rank_is_the_largest_allowed(pairs: int, alpha: float) -> None:
    k = speed.sign_ranks(pairs, alpha)
    assert stats.binom.cdf(k, pairs, 0.5) > alpha / 2
    assert k == 0 or stats.binom.cdf(k - 1, pairs, 0.5) <= alpha / 2


def test_interval_takes_the_order_statistics() -> None:
    ratios = np.random.default_rng(0).permutation(np.log(np.arange(1, 21)))
    assert speed.sign_interval(ratios) == pytest.approx((6, 15))
    assert speed.speedup_of(np.log([2, 0.5])) == pytest.approx(1)
    assert speed.sign_interval(np.zeros(5)) == (0.0, np.inf)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.03, 1.1, "clearly faster"), (1.01, 1.1, "faster"), (0.99, 1.01, "same"), (1.005, 1.015, "same"),
        (0.8, 0.95, "slower"), (0.9, 1.1, "undecided"), (0.0, np.inf, "undecided"),
    ],
)  # fmt: skip
def test_verdict(low: float, high: float, verdict: str) -> None:
    assert speed.speed_verdict(low, high) == verdict


def test_margin_grows_with_the_noise() -> None:
    assert speed.margin_of(0.995, 1.005) == 0.02
    assert speed.margin_of(0.97, 1.03) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("sd", "half_width", "pairs"),
    [(0.01, 0.005, 25), (0.02, 0.005, 97), (0.05, 0.01, 151), (0.1, 0.02, 151), (0.1, 0.05, 25), (0.01, 0.05, 6)],
)
def test_pairs_needed_is_the_published_table(sd: float, half_width: float, pairs: int) -> None:
    assert speed.pairs_needed(sd, half_width) == pytest.approx(pairs, abs=1)


def test_independent_ratios_stay_and_correlated_ones_are_averaged() -> None:
    noise = np.random.default_rng(0).normal(size=64)
    np.testing.assert_array_equal(speed.block_average(noise), noise)
    walk = np.cumsum(noise)
    assert speed.autocorrelation(walk) > 0.8
    averaged = speed.block_average(walk)
    assert len(averaged) == 16
    assert averaged[1] == pytest.approx(walk[4:8].mean())


def test_autocorrelation_is_the_correlation_of_neighbours() -> None:
    values = np.sin(np.arange(4000) / 3)
    assert speed.autocorrelation(values) == pytest.approx(np.corrcoef(values[1:], values[:-1])[0, 1], abs=1e-3)
    assert speed.autocorrelation([]) == speed.autocorrelation([1.0, 2.0]) == speed.autocorrelation([1, 1, 1, 1]) == 0.0


@pytest.mark.parametrize("percentile", QUERIES)
def test_queries_are_the_published_table(percentile: float) -> None:
    for over, total in zip((0, 1, 2, 5, 10), QUERIES[percentile], strict=True):
        assert speed.percentile_allowed(total, percentile) == over
        below = speed.percentile_allowed(total - 1, percentile)
        assert below is None if over == 0 else below == over - 1


def test_conservative_percentile() -> None:
    times = np.random.default_rng(0).permutation(np.arange(1.0, 663.0))
    assert speed.conservative_percentile(times, 0.99) == 662.0
    assert speed.conservative_percentile(times[:458], 0.99) is None
    assert speed.conservative_percentile(np.arange(1.0, 839.0), 0.99) == 837.0


def test_conservative_percentile_is_rarely_too_small() -> None:
    rng = np.random.default_rng(1)
    found = [speed.conservative_percentile(rng.random(64), 0.9) or 0.0 for _ in range(2000)]
    assert np.mean(np.array(found) < 0.9) <= 0.01 + 3 * 0.0023


def test_a_steady_speedup_is_what_three_of_four_pairs_show() -> None:
    two_modes = np.log([2.0, 2.0, 2.0, 1.1, 1.1, 2.0, 1.1, 2.0])
    assert speed.steady_speedup(two_modes) == pytest.approx(1.1)
    assert speed.speedup_of(two_modes) == pytest.approx(2.0)
    assert speed.steady_speedup(np.log([2.0] * 7 + [1.1])) == pytest.approx(2.0)


def test_the_unit_of_a_final_timing_is_the_restart() -> None:
    """Against scipy's interval of the mean of the restarts' medians."""
    ratios = np.random.default_rng(3).normal(np.log(2), 0.05, (8, 4))
    found = speed.restart_interval(ratios.ravel(), 8)
    units = np.median(ratios, axis=1)
    wanted = stats.ttest_1samp(units, 0).confidence_interval(0.95)
    assert np.log(found) == pytest.approx([units.mean(), wanted.low, wanted.high])
    assert speed.restart_interval(np.zeros(12), 3) == (1, 1, 1)
