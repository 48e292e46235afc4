"""The always-valid test of added samples: against a slow product, and by simulation."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from hasten.measure.betting import BETS, Losses, informed, labels_needed, log_wealth, losses, more_needed, upper

EVEN = informed(None, 0.01)


def test_the_wealth_is_the_mean_of_products_one_sample_after_the_other() -> None:
    random = np.random.default_rng(0)
    values = random.choice([-1.0, 0.0, 0.25, 1.0], 80, p=[0.05, 0.85, 0.05, 0.05])
    limit, most = 0.2, 1.0
    wealth = 0.0
    for bet, share in zip(BETS, EVEN, strict=True):
        own = 1.0
        for value in values:
            own *= 1 + bet * (limit - value) / (most - limit)
        wealth += share * own
    assert log_wealth(losses(values, most), limit, EVEN) == pytest.approx(log(wealth))


def test_unchanged_answers_are_zeros() -> None:
    one, other = losses(np.asarray([1.0, 0, 0, 0]), 1.0), losses(np.asarray([1.0]), 1.0, unchanged=3)
    assert log_wealth(one, 0.1, EVEN) == pytest.approx(log_wealth(other, 0.1, EVEN))
    assert (one.n, other.n, losses(np.asarray([]), 1.0).n) == (4, 4, 0)


def test_the_bound_is_where_the_wealth_reaches_the_level() -> None:
    seen = losses(np.asarray([1.0, 1, -1]), 1.0, unchanged=1997)
    bound = upper(seen, EVEN, 0.01)
    assert 0.0005 < bound < 0.01
    assert log_wealth(seen, bound, EVEN) == pytest.approx(log(100), abs=1e-3)
    assert upper(losses(np.asarray([]), 1.0), EVEN, 0.01) == 1.0


def test_a_label_never_makes_the_wealth_smaller() -> None:
    for loss in (1.0, 0.0, -1.0):
        known = losses(np.asarray([1.0, loss]), 1.0, unchanged=300)
        assert log_wealth(known, 0.01, EVEN) >= log_wealth(
            losses(np.asarray([1.0, 1.0]), 1.0, unchanged=300), 0.01, EVEN
        )


@pytest.mark.parametrize(("lost", "gained"), [(0.01, 0.0), (0.05, 0.04), (0.4, 0.39)])
def test_false_proofs_stay_below_the_level_however_often_it_is_looked(lost: float, gained: float) -> None:
    """The true drop is the limit itself. The wealth is read after every sample, half of the changes have no label."""
    random = np.random.default_rng(1)
    runs, n, level, limit = 800, 400, 0.05, 0.01
    weights = informed(Losses(np.asarray([-1.0, 0, 1]), np.asarray([1.0, 148, 1]), 1.0), limit)
    values = random.choice([1.0, 0.0, -1.0], (runs, n), p=[lost, 1 - lost - gained, gained])
    hidden = random.random((runs, n)) < 0.5
    shown = np.where(hidden & (values != 0), 1.0, values)
    for told, most_false in ((values, level + 0.015), (shown, level + 0.015)):
        steps = np.log1p(np.maximum(np.multiply.outer(BETS, (limit - told) / (1 - limit)), -1 + 1e-12))
        paths = steps.cumsum(axis=2)
        wealth = np.einsum("k,krn->rn", weights, np.exp(paths))
        assert (wealth.max(axis=1) >= 1 / level).mean() <= most_false


def test_two_thousand_inputs_with_few_changes_prove_one_point_at_the_later_level() -> None:
    random = np.random.default_rng(2)
    passed = [
        upper(losses(np.ones(random.binomial(2000, 0.002)), 1.0, unchanged=2000), EVEN, 0.01) <= 0.01
        for _ in range(200)
    ]
    assert np.mean(passed) > 0.8


def test_earlier_samples_choose_the_bets_and_add_no_wealth() -> None:
    before = Losses(np.asarray([-1.0, 0, 1]), np.asarray([0.0, 5000, 0]), 1.0)
    assert informed(before, 0.01).sum() == pytest.approx(1)
    assert log_wealth(losses(np.asarray([]), 1.0), 0.01, informed(before, 0.01)) == pytest.approx(0)
    seen = losses(np.asarray([]), 1.0, unchanged=300)
    assert log_wealth(seen, 0.01, informed(before, 0.01)) > log_wealth(seen, 0.01, EVEN)


def test_what_is_needed_is_about_what_suffices() -> None:
    seen = losses(np.ones(1), 1.0, unchanged=299)
    more = more_needed(seen, 0.01, EVEN, 0.01)
    assert more is not None
    scale = (more + 300) / 300
    assert log_wealth(Losses(seen.values, seen.counts * scale, 1.0), 0.01, EVEN) >= log(100)
    assert more_needed(losses(np.ones(10), 1.0, unchanged=290), 0.01, EVEN, 0.01) is None
    k = labels_needed(losses(np.ones(60), 1.0, unchanged=1940), 60, 0.01, EVEN, 0.01, lost=0.1, gained=0.1)
    assert k is not None
    assert 30 < k <= 60
    assert labels_needed(losses(np.ones(60), 1.0, unchanged=1940), 60, 0.01, EVEN, 0.01, lost=1.0, gained=0.0) is None
