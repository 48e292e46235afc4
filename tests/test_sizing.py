"""The one model of what samples can show: against simulation, published tables, and itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hasten.budget import parse_budget
from hasten.measure import sizing as s
from hasten.measure.proportions import ratio_ps, tango_ps
from hasten.metrics import AGREEMENT, AUC, IOU, TOP1

POINT = s.sizing(parse_budget("1%"), TOP1)


@pytest.mark.parametrize(
    ("n", "drop", "flips"), [(130, 0.0, 0.004), (400, 0.0, 0.02), (1500, 0.0, 0.02), (5300, 0.005, 0.02)]
)
@pytest.mark.parametrize("share", [None, 0.6])
def test_the_power_is_the_simulated_one(n: int, drop: float, flips: float, share: float | None) -> None:
    """Absolute and relative: a limit of one point is 1.67 % of a score of 0.6."""
    asked = POINT if share is None else replace(POINT, relative=True, score=share, limit=0.01 / share)
    random = np.random.default_rng(0)
    changed = random.binomial(n, flips, 20_000)
    lost = random.binomial(changed, (1 + drop / flips) / 2)
    if share is None:
        passes = tango_ps(lost, changed - lost, n, 0.01) <= 0.05
    else:
        passes = ratio_ps(np.rint(n * share).astype(int) - lost, lost, changed - lost, n, 1 - asked.limit) <= 0.05
    told = s.power(asked, n, drop if share is None else drop / share, flips)
    assert told == pytest.approx(passes.mean(), abs=0.02)


def test_agreement_and_means_have_the_simulated_power_too() -> None:
    agree = s.sizing(parse_budget("agree:98%"), AGREEMENT)
    changed = np.random.default_rng(0).binomial(1000, 0.01, 20_000)
    from scipy import stats

    assert s.power(agree, 1000, 0.01, 0.01) == pytest.approx(
        (stats.binom.cdf(changed, 1000, 0.02) <= 0.05).mean(), abs=0.02
    )
    mean = s.sizing(parse_budget("1%"), IOU)
    assert s.power(mean, 500, 0.0, 0.08) == pytest.approx(0.86, abs=0.03), "one-sided t-test: 0.87"
    assert s.sizing(parse_budget("1%"), AUC).family == "corpus"


def test_needed_samples_have_the_power_and_fewer_have_not() -> None:
    for drop, flips in ((0.0, 0.02), (0.005, 0.02), (0.0, 0.0), (0.002, 0.004)):
        n = s.needed(POINT, drop, flips)
        assert n is not None
        assert s.power(POINT, n, drop, flips) >= 0.8
        assert s.power(POINT, int(0.85 * n), drop, flips) < 0.8
    assert s.needed(POINT, 0.0, 0.0) == 299, "the exact floor"
    assert s.needed(POINT, 0.01) is None


def test_the_smallest_drop_falls_with_the_samples_and_has_the_power() -> None:
    found = [s.smallest(POINT, n) for n in (20, 150, 700, 3000)]
    assert found == sorted(found, reverse=True)
    for n, limit in zip((150, 700, 3000), found[1:], strict=True):
        assert s.power(replace(POINT, limit=limit), n, 0.0, s.FLIPS) >= 0.8


def test_groups_are_the_units() -> None:
    grouped = replace(POINT, limit=0.05, size=100.0)
    assert s.power(grouped, 500, 0.0, 0.02) == 0.0, "five groups show nothing"
    few, many, alone = s.power(grouped, 700, 0.0, 0.02), s.power(grouped, 4000, 0.0, 0.02), replace(grouped, size=1.0)
    assert few < many <= s.power(alone, 4000, 0.0, 0.02)


def test_beliefs_come_from_divergence_until_labels_say_more() -> None:
    points, weights = s.beliefs(POINT, harm=0.01)
    calm = weights[points <= 0.01].sum()
    points, weights = s.beliefs(POINT, harm=4.0)
    wild = weights[points <= 0.01].sum()
    assert wild < 0.1 < 0.75 < calm
    points, weights = s.beliefs(POINT, harm=0.04, seen=0.03, error=0.003)
    assert weights @ points == pytest.approx(0.03, rel=0.25)
    points, weights = s.beliefs(POINT, harm=0.04, seen=0.05, error=0.08)
    assert weights @ points < 0.02, "a noisy pilot says little"
