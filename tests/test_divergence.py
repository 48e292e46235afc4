"""Divergence against scipy's own, and its behaviour on broken answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from hasten.measure.divergence import divergence, mean_divergence


def test_probabilities_are_compared_by_kullback_leibler() -> None:
    rng = np.random.default_rng(0)
    p, q = (special.softmax(rng.standard_normal((5, 7)), axis=-1) for _ in range(2))
    expected = special.rel_entr(p, q).sum(-1).mean()
    assert divergence(p, q) == pytest.approx(expected)
    assert divergence(p, p) == 0


def test_candidates_whose_classes_do_not_sum_to_one_are_as_far_as_they_are() -> None:
    """Plain KL would be negative for the first, and clipped at 0: twice the probabilities would be no difference."""
    p = special.softmax(np.random.default_rng(3).standard_normal((5, 7)), axis=-1)
    for q in (2 * p, p / 2, p + 0.01):
        assert divergence(p, q) == pytest.approx(special.kl_div(p, q).sum(-1).mean())
        assert divergence(p, q) > 0
    assert divergence(p, -p) > 1


def test_a_new_nan_is_infinitely_far_and_an_old_one_is_left_out() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    holed = a.copy()
    holed[1, 2] = np.nan
    for classes in (True, False):
        assert divergence(a, holed, classes=classes) == divergence(holed, a, classes=classes) == np.inf
        assert divergence(holed, holed, classes=classes) == 0
    also = b.copy()
    also[1, 2] = np.nan
    rest = [0, 2, 3]
    assert divergence(holed, also, classes=True) == pytest.approx(divergence(a[rest], b[rest], classes=True))
    kept = ~np.isnan(holed)
    assert divergence(holed, also) == pytest.approx(np.mean((a - b)[kept] ** 2) / np.var(a[kept]))


def test_classes_that_are_ruled_out_stay_so() -> None:
    a = np.array([[1.0, 2.0, -np.inf], [0.5, -np.inf, 0.1]])
    assert divergence(a, a.copy(), classes=True) == 0
    assert divergence(a, np.nan_to_num(a, neginf=-5.0), classes=True) == np.inf


def test_scores_of_classes_go_through_a_softmax_first() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    expected = special.rel_entr(special.softmax(a, -1), special.softmax(b, -1)).sum(-1).mean()
    assert divergence(a, b, classes=True) == pytest.approx(expected)
    assert divergence(a, a + 3, classes=True) == pytest.approx(0, abs=1e-12)  # a softmax does not see a shift


def test_other_outputs_by_squared_error_over_variance() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((3, 50)) * 9
    b = a + rng.standard_normal(a.shape)
    assert divergence(a, b) == pytest.approx(np.mean((a - b) ** 2) / np.var(a))
    assert divergence(a * 1000, b * 1000) == pytest.approx(divergence(a, b))
    assert divergence(np.zeros((2, 2)) - 1, np.zeros((2, 2)) - 1) == 0  # no variance at all


@pytest.mark.parametrize(
    "broken", [np.full((2, 3), np.nan), np.full((2, 3), np.inf), np.zeros((3, 2)), np.full((2, 3), "yes")]
)
def test_answers_that_are_no_answers_are_infinitely_far(broken: np.ndarray) -> None:
    assert divergence(np.ones((2, 3)), broken) == np.inf


def test_a_mean_over_outputs_counts_floats_alike_and_integers_not() -> None:
    a = [[np.array([[1.0, 2.0]]), np.array([1, 2])]]
    b = [[np.array([[1.0, 3.0]]), np.array([5, 6])]]
    assert mean_divergence(a, b) == pytest.approx(divergence(a[0][0], b[0][0]))
    assert mean_divergence([[np.array([1])]], [[np.array([2])]]) == 0
