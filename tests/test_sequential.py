"""Early decisions: what they cost in false claims, and the order of tests."""

import numpy as np
import pytest

from hasten.measure import sequential as q
from hasten.measure.proportions import required_n


def pairs(
    rng: np.random.Generator, shape: tuple[int, ...], losses: float, gains: float
) -> tuple[np.ndarray, np.ndarray]:
    place = rng.random(shape)
    reference = (place >= gains).astype(float)
    return reference, np.where(place < gains, 1.0, np.where(place > 1 - losses, 0.0, reference))


def naive_wealth(x: np.ndarray, y: np.ndarray, limit: float) -> list[float]:
    m, wealth, out = (1 + limit) / 2, 1.0, []
    total, mean, squares, variance = 0.5, 0.5, 0.25, 0.25
    for i, (a, b) in enumerate(zip(x, y, strict=True), 1):
        value = (1 + a - b) / 2
        stake = min(max((m - mean) / (variance + (m - mean) ** 2), 0), 0.75 / (1 - m))
        wealth *= 1 + stake * (m - value)
        out.append(wealth)
        total += value
        mean = total / (i + 1)
        squares += (value - mean) ** 2
        variance = squares / (i + 1)
    return out


def test_e_process_is_the_loop_of_the_paper() -> None:
    x, y = pairs(np.random.default_rng(0), (200,), 0.03, 0.02)
    np.testing.assert_allclose(q.e_process(x, y, 0.01), naive_wealth(x, y, 0.01))


def test_e_process_at_the_limit_rarely_wins_whenever_one_looks() -> None:
    x, y = pairs(np.random.default_rng(1), (1000, 2000), 0.02, 0.01)
    ever = (q.e_process(x, y, 0.01) >= 20).any(axis=1).mean()
    assert 0.005 < ever <= 0.05


def test_e_process_needs_about_as_many_samples_as_a_fixed_design() -> None:
    x, y = pairs(np.random.default_rng(2), (300, 4000), 0.005, 0.005)
    wealth = q.e_process(x, y, 0.01) >= 20
    assert np.median(np.where(wealth.any(axis=1), wealth.argmax(axis=1) + 1, 4000)) == pytest.approx(712, rel=0.15)
    assert required_n(0.01, 0.01) == 856
    assert q.accepted_at(x[0], y[0], 0.01) == wealth[0].argmax() + 1
    assert q.accepted_at(x[0, :50], y[0, :50], 0.01) is None


def test_futility_gives_up_what_is_clearly_over() -> None:
    rng = np.random.default_rng(3)
    assert q.clearly_over(*pairs(rng, (256,), 0.15, 0.0), 0.01)
    assert not q.clearly_over(*pairs(rng, (256,), 0.02, 0.01), 0.01)
    x = rng.random(128)
    assert q.clearly_over(x, x - 0.2 - rng.normal(0, 0.1, 128), 0.01)
    assert not q.clearly_over(x, x - 0.01 - rng.normal(0, 0.1, 128), 0.01)
    assert q.clearly_over(x, np.append(x[1:], np.nan), 0.01)


def test_futility_rarely_gives_up_a_candidate_at_the_limit() -> None:
    rng = np.random.default_rng(4)
    wrong = [q.clearly_over(*pairs(rng, (256,), 0.03, 0.02), 0.01) for _ in range(400)]
    assert np.mean(wrong) <= 0.01 + 3 * 0.005


def test_fixed_sequence_stops_at_the_first_failure() -> None:
    assert q.fixed_sequence([0.01, 0.04, 0.2, 0.001]) == 2
    assert q.fixed_sequence([0.2, 0.001]) == 0
    assert q.fixed_sequence([]) == 0
    assert q.fixed_sequence([0.05]) == 1


def test_worn_alpha_spends_alpha_in_all() -> None:
    spent = sum(q.worn_alpha(0.05, look) for look in range(1, 20_000))
    assert spent == pytest.approx(0.05, rel=1e-3)
    assert q.worn_alpha(0.05, 2) == pytest.approx(q.worn_alpha(0.05, 1) / 4)
    with pytest.raises(ValueError, match="counted from 1, not 0"):
        q.worn_alpha(0.05, 0)


def test_simultaneous_bounds_hold_together() -> None:
    rng = np.random.default_rng(5)
    missed = [
        (q.simultaneous_upper(rng.normal(0.02, 0.1, (8, 200)), resamples=100, seed=seed) < 0.02).any()
        for seed in range(300)
    ]
    assert np.mean(missed) <= 0.05 + 3 * 0.0126
    assert q.simultaneous_upper(np.zeros((2, 50))).tolist() == [0, 0]
