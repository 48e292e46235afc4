"""Streaming statistics against numpy on the whole of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hasten.quant.histogram import BINS, SAMPLED, TensorStats, load, merge, save

# below 2**-126 float32 loses bits when a bin index is computed; no activation lives there
sizes = st.floats(2.0**-60, 2.0**60, width=32)
elements = st.one_of(st.just(0.0), sizes, sizes.map(lambda v: -v))
arrays = hnp.arrays(np.float32, st.integers(0, 30), elements=elements)


def stream(parts: list[NDArray[Any]], axis: int | None = None) -> TensorStats:
    stats = TensorStats("t")
    for part in parts:
        stats.update(part, axis)
    return stats


def naive_histogram(values: NDArray[Any], reach: float) -> NDArray[np.int64]:
    counts = np.zeros(BINS, np.int64)
    for value in values:
        counts[int(np.floor(float(value) / (2 * reach / BINS))) + BINS // 2] += 1
    return counts


@given(st.lists(arrays, max_size=5))
def test_a_stream_equals_its_concatenation(parts: list[NDArray[Any]]) -> None:
    stats, whole = stream(parts), np.concatenate([np.zeros(0, np.float32), *parts])
    assert stats.count == whole.size
    assert stats.zeros == np.sum(whole == 0)
    if whole.size:
        assert (stats.low, stats.high) == (whole.min(), whole.max())
    if np.any(whole):
        assert np.abs(whole).max() < stats.reach <= 2 * np.abs(whole).max()
        np.testing.assert_array_equal(stats.histogram, naive_histogram(whole, stats.reach))
    else:
        assert stats.reach == 0


@given(st.lists(arrays, max_size=3), st.lists(arrays, max_size=3))
@example([np.zeros(1, np.float32)], [np.zeros(1, np.float32)])
def test_merge_equals_one_stream(left: list[NDArray[Any]], right: list[NDArray[Any]]) -> None:
    merged, whole = merge(stream(left), stream(right)), stream(left + right)
    np.testing.assert_array_equal(merged.histogram, whole.histogram)
    for name in ("count", "samples", "zeros", "updates", "low", "high", "reach"):
        assert getattr(merged, name) == getattr(whole, name), name
    np.testing.assert_allclose([merged.mean_low, merged.mean_high], [whole.mean_low, whole.mean_high], rtol=1e-12)


def test_mean_of_extremes_is_over_samples() -> None:
    stats = stream([np.array([-1.0, 5.0]), np.array([-3.0, 1.0])])
    assert (stats.mean_low, stats.mean_high) == (-2.0, 3.0)


def test_nan_and_infinity_are_counted_and_skipped() -> None:
    dirty = stream([np.array([1, np.nan, -2, np.inf, -np.inf], np.float32), np.full(3, np.nan, np.float32)])
    clean = stream([np.array([1, -2], np.float32)])
    assert (dirty.skipped, dirty.count, dirty.samples, dirty.low, dirty.high) == (6, 2, 1, -2, 1)
    np.testing.assert_array_equal(dirty.histogram, clean.histogram)


def test_empty_and_all_zero() -> None:
    stats = stream([np.zeros((0, 3)), np.zeros((2, 3))])
    assert (stats.count, stats.zeros, stats.reach, stats.histogram.sum()) == (6, 6, 0, 0)
    stats.update(np.ones(1))
    assert stats.histogram.sum() == 7


def test_large_tensors_are_sampled_but_extremes_are_exact() -> None:
    x = np.random.default_rng(0).normal(size=(10, 320, 640)).astype(np.float32)
    x[3, 7, 11], x[5, 0, 0] = 99, -77
    stats = stream([x])
    assert (stats.low, stats.high, stats.count) == (-77, 99, x.size)
    assert SAMPLED / 2 < stats.histogram.sum() <= SAMPLED
    counted = np.cumsum(stats.histogram) / stats.histogram.sum()
    naive = np.cumsum(naive_histogram(x.reshape(-1)[::7], stats.reach)) / (-(-x.size // 7))
    assert np.abs(counted - naive).max() < 0.01


def test_channels() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(2, 3, 4, w)).astype(np.float32) for w in (5, 9)]
    stats = stream(parts, axis=1)
    per_channel = np.concatenate([p.transpose(1, 0, 2, 3).reshape(3, -1) for p in parts], axis=1)
    assert stats.channel_absmax is not None
    assert stats.channel_mean is not None
    np.testing.assert_array_equal(stats.channel_absmax, np.abs(per_channel).max(axis=1))
    np.testing.assert_allclose(stats.channel_mean, per_channel.mean(axis=1), atol=1e-6)
    merged = merge(stream(parts[:1], axis=1), stream(parts[1:], axis=1))
    np.testing.assert_allclose(merged.channel_mean, stats.channel_mean)  # type: ignore[arg-type]


def test_a_varying_number_of_channels_has_no_channel_statistics() -> None:
    stats = stream([np.ones((1, n), np.float32) for n in (4, 5, 4)], axis=-1)
    assert stats.channel_absmax is None
    assert stats.channel_mean is None
    assert stats.count == 13


def test_save_and_load(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kept = {"a": stream([rng.normal(size=(2, 3))], axis=1), "b/é": stream([rng.normal(size=9)]), "none": stream([])}
    save(tmp_path / "stats.npz", kept)
    back = load(tmp_path / "stats.npz")
    assert list(back) == list(kept)
    for name, stats in kept.items():
        for field in vars(stats):
            np.testing.assert_array_equal(getattr(back[name], field), getattr(stats, field), err_msg=field)
    save(tmp_path / "empty.npz", {})
    assert load(tmp_path / "empty.npz") == {}
