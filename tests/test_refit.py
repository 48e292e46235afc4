"""Least squares from moments: against numpy on the data itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.graph.moments import Moments
from hasten.quant.elimination import Reader, by_energy, with_compensation
from hasten.quant.refit import loss, refit, shift_only

F64 = np.ndarray


def data(seed: int, n: int = 400, k: int = 12, outputs: int = 5) -> tuple[F64, F64, F64, np.random.Generator]:
    """Correlated columns with a mean, weights and a bias."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, k)) @ random.standard_normal((k, k)) * 0.5 + random.standard_normal(k)
    return x, random.standard_normal((outputs, k)), random.standard_normal(outputs), random


@pytest.mark.parametrize("ridge", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("noisy", [False, True])
def test_refit_is_the_least_squares_solution(ridge: float, noisy: bool) -> None:
    x, w, b, random = data(0)
    kept = np.array([0, 2, 3, 5, 8, 9, 11])
    z = x[:, kept] + (0.3 * random.standard_normal((len(x), len(kept))) if noisy else 0)
    v, shift = refit(w, w[:, kept], x.mean(0), z.mean(0), x.T @ z / len(x), z.T @ z / len(z), ridge)
    # the same as one stacked system: centred data, then sqrt(ridge) rows that pull towards the prior
    strength = np.sqrt(len(x) * ridge * np.trace(np.cov(z.T, bias=True)) / len(kept))
    stacked = np.concatenate([z - z.mean(0), strength * np.eye(len(kept))])
    target = np.concatenate([(x - x.mean(0)) @ w.T, strength * w[:, kept].T])
    wanted = np.linalg.lstsq(stacked, target, rcond=None)[0].T
    np.testing.assert_allclose(v, wanted, rtol=1e-7, atol=1e-9)
    answers, old = z @ v.T + b + shift, x @ w.T + b
    np.testing.assert_allclose(answers.mean(0), old.mean(0), atol=1e-9)
    found = loss(w, v, x.mean(0), z.mean(0), x.T @ x / len(x), x.T @ z / len(x), z.T @ z / len(x))
    assert found == pytest.approx(np.square(answers - old).sum(1).mean(), rel=1e-7)


def test_a_shift_alone_brings_the_means_back() -> None:
    x, w, _, _ = data(1)
    kept = np.arange(7)
    shift = shift_only(w, w[:, kept], x.mean(0), x[:, kept].mean(0))
    np.testing.assert_allclose((x[:, kept] @ w[:, kept].T + shift).mean(0), (x @ w.T).mean(0), atol=1e-9)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_moments_do_not_depend_on_how_the_columns_come(seed: int, sizes: list[int]) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((sum(sizes), 4)).astype(np.float32)
    z = random.standard_normal((sum(sizes), 3)).astype(np.float32)
    x[0, 0] = np.nan if seed % 2 else x[0, 0]
    one, two = Moments(), Moments()
    for a, b in zip(np.split(x, np.cumsum(sizes)[:-1]), np.split(z, np.cumsum(sizes)[:-1]), strict=True):
        one.update(a)
        two.update(a, b)
    good = np.isfinite(x).all(1)
    x, z = x[good].astype(np.float64), z[good].astype(np.float64)
    if not len(x):
        assert one.count == two.count == 0
        return
    np.testing.assert_allclose(one.zz, x.T @ x / len(x), atol=1e-5)
    np.testing.assert_allclose(one.x, x.mean(0), atol=1e-5)
    np.testing.assert_allclose(two.xz, x.T @ z / len(x), atol=1e-5)
    np.testing.assert_allclose(two.zz, z.T @ z / len(x), atol=1e-5)
    assert one.count == two.count == len(x)


def least(w: F64, h: F64, gone: np.ndarray) -> float:
    """The loss of going without columns, by solving for the best rest from scratch."""
    kept = ~gone
    v = w[:, kept] + np.linalg.solve(h[np.ix_(kept, kept)], h[np.ix_(kept, gone)] @ w[:, gone].T).T
    change = w.copy()
    change[:, kept] -= v
    return float(np.einsum("ok,kl,ol->", change, h, change))


@pytest.mark.parametrize("spread", [1, 3])
def test_elimination_is_greedy_and_its_losses_are_those_of_a_fresh_fit(spread: int) -> None:
    units = 8
    x, w, _, _ = data(2, k=units * spread)
    covariance = np.cov(x.T, bias=True)
    owner = np.arange(units).repeat(spread)
    ridge = 0.01
    h = covariance + ridge * np.trace(covariance) / len(owner) * np.eye(len(owner))
    total = float(np.einsum("ok,kl,ol->", w, covariance, w))
    found = with_compensation([Reader(w, covariance, owner)], units, ridge)
    gone: list[int] = []
    for i, unit in enumerate(found.order):
        if i == units - 1:
            break
        cost = {u: least(w, h, np.isin(owner, [*gone, u])) for u in range(units) if u not in gone}
        assert unit == min(cost, key=lambda u: cost[u])
        assert found.loss[i + 1] == pytest.approx(cost[unit] / total, rel=1e-6)
        gone.append(int(unit))


def test_rounds_of_removal_end_at_the_joint_loss() -> None:
    units = 40
    x, w, _, _ = data(3, n=2000, k=units)
    covariance = np.cov(x.T, bias=True)
    found = with_compensation([Reader(w, covariance, np.arange(units))], units, 0.01, steps=10)
    h = covariance + 0.01 * np.trace(covariance) / units * np.eye(units)
    total = float(np.einsum("ok,kl,ol->", w, covariance, w))
    for count in (4, 8, 20, 36):  # the ends of rounds
        gone = np.isin(np.arange(units), found.order[:count])
        assert found.loss[count] == pytest.approx(least(w, h, gone) / total, rel=1e-6)
    assert sorted(found.order.tolist()) == list(range(units))
    assert (np.diff(found.loss) >= -1e-12).all()


def test_several_readers_share_a_unit_and_columns_of_others_stay() -> None:
    x, w, _, _ = data(4, k=6)
    covariance = np.cov(x.T, bias=True)
    w[:, 1] = 0  # the first reader does not care for unit 1
    second = np.random.default_rng(5).standard_normal((3, 6))
    readers = [Reader(w, covariance, np.array([0, 1, 2, -1, -1, -1])), Reader(second, covariance, np.arange(6))]
    found = with_compensation(readers, 6)
    assert sorted(found.order.tolist()) == list(range(6))
    alone = with_compensation(readers[:1], 6)
    assert alone.loss[2] == pytest.approx(0, abs=1e-12)  # 3, 4, 5 are not read, 1 has no weight
    assert set(alone.order[:4].tolist()) == {1, 3, 4, 5}


def test_energy_is_what_each_unit_alone_carries() -> None:
    x, w, _, _ = data(6, k=6)
    x -= x.mean(0)
    owner = np.array([0, 0, 1, 1, 2, 2])
    found = by_energy([Reader(w, x.T @ x / len(x), owner)], 3)
    carried = [np.square(x[:, owner == u] @ w[:, owner == u].T).sum() for u in range(3)]
    total = np.square(x @ w.T).sum()
    assert found.order.tolist() == np.argsort(carried).tolist()
    np.testing.assert_allclose(np.diff(found.loss), np.sort(carried) / total, rtol=1e-9)
