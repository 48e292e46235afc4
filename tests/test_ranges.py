"""Range methods against slow references that follow their definitions bin by bin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hasten.errors import UsageError
from hasten.quant.grid import S8_FULL, U8, Grid, affine, fake_quantize
from hasten.quant.histogram import TensorStats
from hasten.quant.ranges import METHODS, _divergences, choose_range

F64 = NDArray[np.float64]


def stats_of(*samples: NDArray[Any]) -> TensorStats:
    stats = TensorStats("t")
    for sample in samples:
        stats.update(sample)
    return stats


def draw(kind: str, seed: int = 0, size: int = 20_000) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    v = rng.standard_t(3, size=size) if kind == "heavy" else rng.normal(size=size)
    x = {
        "normal": v,
        "relu": np.maximum(v, 0),
        "heavy": v,
        "swish": 3 * v / (1 + np.exp(-3 * v)),
        "negative": -np.abs(v),
        "away": 5 + v / 10,
    }[kind]
    return np.asarray(x, np.float32)


KINDS = ["normal", "relu", "heavy", "swish", "negative", "away"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.floats(-(2.0**40), 2.0**40, width=32), max_size=20), max_size=4), st.sampled_from(METHODS))
def test_every_range_holds_zero_and_lies_inside_the_extremes(samples: list[list[float]], method: str) -> None:
    stats = stats_of(*(np.array(s, np.float32) for s in samples))
    low, high = choose_range(stats, method)
    assert min(stats.low, 0) <= low <= 0 <= high <= max(stats.high, 0)


def test_minmax_and_mean_minmax() -> None:
    stats = stats_of(np.array([-1.0, 6.0]), np.array([-3.0, 2.0]), np.array([1.0, 1.5]))
    assert choose_range(stats, "minmax") == (-3, 6)
    low, high = choose_range(stats, "mean_minmax")
    assert (low, high) == pytest.approx((-1.0, 9.5 / 3))
    assert choose_range(stats_of(np.array([2.0, 3.0])), "minmax") == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["p99.99", "p99.999"])
def test_percentile_is_numpys_within_a_bin(kind: str, method: str) -> None:
    x = np.concatenate([draw(kind, s, 60_000) for s in range(8)])
    stats = stats_of(*np.split(x, 8))
    tail = (100 - float(method[1:])) / (2 if x.min() < 0 < x.max() else 1)
    low, high = choose_range(stats, method)
    # between two of the few elements of a tail numpy interpolates and a bin does not: take both neighbours
    for got, share in ((low, tail), (high, 100 - tail)):
        below, above = (np.percentile(x, share, method=m) for m in ("lower", "higher"))
        assert min(below, 0) - stats.width <= got or got == 0
        assert got <= max(above, 0) + stats.width
    assert np.mean((x < low - stats.width) | (x > high + stats.width)) <= 1.01 * (1 - float(method[1:]) / 100)


def exact_error(x: NDArray[Any], low: float, high: float, grid: Grid) -> float:
    return float(np.mean((fake_quantize(x, *affine(low, high, grid), grid) - x) ** 2))


@pytest.mark.parametrize("grid", [U8, S8_FULL, Grid(0, 15, "uint8")], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_near_the_best_of_a_search_on_the_data(kind: str, grid: Grid) -> None:
    x = draw(kind)
    stats = stats_of(x)
    found = exact_error(x, *choose_range(stats, "mse", grid=grid), grid)
    best = min(
        exact_error(x, min(x.min(), 0) * a, max(x.max(), 0) * b, grid)
        for a in np.linspace(0.04, 1, 25)
        for b in np.linspace(0.04, 1, 25)
    )
    assert found <= 1.1 * best
    assert found <= 1.001 * exact_error(x, float(x.min()), float(x.max()), grid)


def naive_divergence(counts: F64, threshold: int) -> float:
    """KL(P || Q) of one window, in loops: P clipped with the outside at its ends, Q from 128 levels a side."""
    middle = len(counts) // 2
    used = [i for i, c in enumerate(counts) if c]
    start = max(min(used[0], middle), middle - threshold)
    end = min(max(used[-1] + 1, middle), middle + threshold)
    p = [float(c) for c in counts[start:end]]
    p[0] += sum(counts[:start])
    p[-1] += sum(counts[end:])
    groups: dict[int, list[int]] = {}
    for i in range(start, end):  # the level j of bin i: edges lie at floor(j * T / 128) bins from the middle
        level = max(j for j in range(-128, 129) if (j * threshold) // 128 <= i - middle)
        groups.setdefault(level, []).append(i)
    q = [0.0] * len(p)
    for members in groups.values():
        filled = [i for i in members if p[i - start] > 0]
        for i in filled:
            q[i - start] = max(sum(counts[k] for k in members) / len(filled), 1e-4)
    all_p, all_q = sum(p), sum(q)
    return sum(a / all_p * math.log((a / all_p) / (b / all_q)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_is_the_least_of_the_naive_divergences(kind: str) -> None:
    stats = stats_of(draw(kind, size=3000))
    counts = stats.histogram.astype(np.float64)
    counts[len(counts) // 2] -= stats.zeros
    low, high = choose_range(stats, "entropy")
    used = np.flatnonzero(counts)
    farthest = int(max(1024 - used[0], used[-1] + 1 - 1024))
    tried = np.unique([*np.linspace(128, farthest, 8).astype(int)])
    naive = [naive_divergence(counts, int(t)) for t in tried]
    # a range is cut to the extremes; the threshold behind it is the larger end, or everything
    reach = max(-low, high)
    cut = reach >= max(-stats.low, stats.high)
    chosen = farthest if cut else round(reach / stats.width)
    # not every threshold is tried, hence a margin
    assert naive_divergence(counts, chosen) <= 1.02 * min(naive) + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_divergences_are_the_naive_ones(kind: str) -> None:
    counts = stats_of(draw(kind, size=500)).histogram.astype(np.float64)
    used = np.flatnonzero(counts)
    first, last = min(int(used[0]), 1024), max(int(used[-1]) + 1, 1024)
    bins = np.linspace(128, max(1024 - first, last - 1024), 5).astype(np.intp)
    fast = _divergences(counts, bins, np.maximum(first, 1024 - bins), np.minimum(last, 1024 + bins))
    np.testing.assert_allclose(fast, [naive_divergence(counts, int(t)) for t in bins], rtol=1e-9, atol=1e-12)


def test_entropy_clips_an_outlier_that_minmax_keeps() -> None:
    x = draw("normal", size=50_000)
    x[0] = 100
    stats = stats_of(x)
    assert choose_range(stats, "minmax")[1] == 100
    assert choose_range(stats, "entropy")[1] < 20
    assert choose_range(stats, "p99.99")[1] < 6


@pytest.mark.parametrize("method", METHODS)
def test_an_attention_mask_overflows_nothing(method: str) -> None:
    lowest = float(np.finfo(np.float32).min)
    stats = TensorStats("mask")
    stats.update(np.array([[0, 0, lowest, lowest], [0, 1, 2, lowest]], np.float32), -1)
    low, high = choose_range(stats, method)
    assert lowest <= low < lowest / 2
    assert 0 <= high <= 2
    assert stats.channel_mean is not None
    assert stats.channel_mean[3] == lowest


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UsageError, match="no calibration method 'kl'") as caught:
        choose_range(TensorStats("t"), "kl")
    assert "entropy" in caught.value.help
