"""What calibration remembers of one tensor: a few kilobytes, however long the stream is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import frexp, gcd, inf, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
SAMPLED = 65_536  # elements of one array that enter the histogram
_HALF = BINS // 2
_SUM_SAFE = 1e25  # attention masks of -3.4e38 overflow a float32 sum
_INTEGERS = ("count", "samples", "skipped", "zeros", "updates", "channel_count")
_FLOATS = ("low", "high", "sum_low", "sum_high", "reach")
_CHANNELS = ("channel_low", "channel_high", "channel_sum")

F64 = NDArray[np.float64]


@dataclass(eq=False)
class TensorStats:
    """Streaming statistics of one tensor.

    ``low`` and ``high`` are the exact extremes of every finite element seen (0 before the first).
    ``histogram`` counts a part of them in 2,048 equal bins over ``[-reach, reach)``; ``reach`` is a power of two
    above every magnitude seen. When a sample exceeds it, ``reach`` doubles and bins merge in pairs, which is exact:
    the histogram of a stream equals the histogram of the concatenation. Arrays of more than ``SAMPLED`` elements
    enter the histogram (not the extremes) with a stride, at most 65,536 elements each.
    ``zeros`` of the counted elements are exactly 0, which no quantizer rounds.
    """

    name: str
    count: int = 0  # finite elements seen
    samples: int = 0  # arrays with at least one finite element
    skipped: int = 0  # NaN and infinite elements seen
    low: float = 0.0
    high: float = 0.0
    sum_low: float = 0.0
    sum_high: float = 0.0
    reach: float = 0.0  # 0 until a nonzero element was seen
    zeros: int = 0
    updates: int = 0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channel_low: F64 | None = None
    channel_high: F64 | None = None
    channel_sum: F64 | None = None
    channel_count: int = 0  # elements behind each entry of channel_sum; -1 when the number of channels varies

    @property
    def mean_low(self) -> float:
        """The mean over samples of the sample's minimum."""
        return self.sum_low / self.samples if self.samples else 0.0

    @property
    def mean_high(self) -> float:
        """The mean over samples of the sample's maximum."""
        return self.sum_high / self.samples if self.samples else 0.0

    @property
    def channel_absmax(self) -> F64 | None:
        """The largest magnitude of each channel, float64; None when channels were not collected."""
        if self.channel_low is None or self.channel_high is None:
            return None
        return np.maximum(-self.channel_low, self.channel_high)

    @property
    def channel_mean(self) -> F64 | None:
        """The mean of each channel, float64; None when channels were not collected."""
        return None if self.channel_sum is None else self.channel_sum / max(self.channel_count, 1)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return self.reach / _HALF

    @property
    def centres(self) -> F64:
        """The middles of the bins, float64[2048]."""
        return (np.arange(BINS, dtype=np.float64) - _HALF + 0.5) * self.width

    def update(self, array: NDArray[Any], axis: int | None = None) -> None:
        """Take in one array of any shape, in float32; with ``axis`` also its extremes and sums per channel."""
        array = np.asarray(array, np.float32)
        self.updates += 1
        if array.size == 0:
            return
        low, high = float(array.min()), float(array.max())
        finite = array.reshape(-1)
        if not (-inf < low <= high < inf):  # also false for NaN
            keep = np.isfinite(array)
            finite = array[keep]
            self.skipped += array.size - finite.size
            if finite.size == 0:
                return
            low, high = float(finite.min()), float(finite.max())
            array = np.where(keep, array, np.float32(0))
        self._extend(low, high, finite.size)
        self._count(_strided(finite, self.updates))
        if axis is not None:
            self._channels(array, axis)

    def _extend(self, low: float, high: float, size: int) -> None:
        self.low, self.high = (min(self.low, low), max(self.high, high)) if self.count else (low, high)
        self.sum_low += low
        self.sum_high += high
        self.samples += 1
        self.count += size
        self._reach(_power_above(max(-low, high)))

    def _reach(self, reach: float) -> None:
        """Double the range until it is ``reach``; bins merge in pairs around the middle."""
        if self.reach == 0 < reach:
            self.reach = reach
            if self.zeros:  # everything so far was 0, which lies in the bin right of the middle at any reach
                self.histogram[_HALF] = self.zeros
        while self.reach < reach:
            merged = self.histogram.reshape(-1, 2).sum(axis=1)
            self.histogram = np.zeros(BINS, np.int64)
            self.histogram[_HALF // 2 : _HALF // 2 + _HALF] = merged
            self.reach *= 2

    def _count(self, flat: NDArray[np.float32]) -> None:
        self.zeros += flat.size - int(np.count_nonzero(flat))
        if self.reach == 0:
            return
        # multiplying by a power of two and flooring are exact, so a bin never depends on the order of samples
        scaled = flat * np.float32(_HALF / self.reach)
        index = np.floor(scaled, out=scaled).astype(np.intp)
        index += _HALF
        self.histogram += np.bincount(index, minlength=BINS)

    def _channels(self, array: NDArray[np.float32], axis: int) -> None:
        if self.channel_count < 0 or not -array.ndim <= axis < array.ndim:
            return
        axis %= array.ndim
        blocks = array.reshape(prod(array.shape[:axis]), array.shape[axis], -1)
        # over the last axis first: rows are contiguous there, and float32 sums of a row are pairwise (and fast)
        low = blocks.min(axis=2).min(axis=0).astype(np.float64)
        high = blocks.max(axis=2).max(axis=0).astype(np.float64)
        wide = np.float64 if max(high.max(initial=0), -low.min(initial=0)) > _SUM_SAFE else np.float32
        total = blocks.sum(axis=2, dtype=wide).sum(axis=0, dtype=np.float64)
        if self.channel_low is None or self.channel_high is None or self.channel_sum is None:
            self.channel_low, self.channel_high, self.channel_sum = low, high, total
        elif self.channel_low.shape != low.shape:
            self._forget_channels()
            return
        else:
            self.channel_low = np.minimum(self.channel_low, low)
            self.channel_high = np.maximum(self.channel_high, high)
            self.channel_sum = self.channel_sum + total
        self.channel_count += array.size // low.size

    def _forget_channels(self) -> None:
        self.channel_low, self.channel_high, self.channel_sum, self.channel_count = None, None, None, -1


def merge(first: TensorStats, second: TensorStats) -> TensorStats:
    """The statistics of both streams together, as a new object under the first's name."""
    both = replace(first, histogram=first.histogram.copy())
    other = replace(second, histogram=second.histogram.copy())
    if second.samples:
        both.low, both.high = (
            (min(first.low, second.low), max(first.high, second.high)) if first.samples else (second.low, second.high)
        )
    for stats in (both, other):
        if max(first.reach, second.reach) > 0:
            stats._reach(max(first.reach, second.reach))
    for name in ("count", "samples", "skipped", "sum_low", "sum_high", "zeros", "updates"):
        setattr(both, name, getattr(first, name) + getattr(second, name))
    both.histogram += other.histogram
    _merge_channels(both, first, second)
    return both


def save(path: Path, stats: Mapping[str, TensorStats]) -> None:
    """Write all statistics into one ``.npz`` that ``load`` reads without pickle."""
    items = list(stats.values())
    empty = np.zeros(0)
    channels = {name: [empty if getattr(s, name) is None else getattr(s, name) for s in items] for name in _CHANNELS}
    np.savez_compressed(
        path,
        keys=np.array(list(stats), dtype=np.str_),
        names=np.array([s.name for s in items], dtype=np.str_),
        integers=np.array([[getattr(s, n) for n in _INTEGERS] for s in items], np.int64).reshape(-1, len(_INTEGERS)),
        floats=np.array([[getattr(s, n) for n in _FLOATS] for s in items], np.float64).reshape(-1, len(_FLOATS)),
        histograms=np.array([s.histogram for s in items], np.int64).reshape(-1, BINS),
        channel_sizes=np.array([a.size for a in channels["channel_sum"]], np.int64),
        **{name: np.concatenate([empty, *several]) for name, several in channels.items()},  # type: ignore[arg-type]
    )


def load(path: Path) -> dict[str, TensorStats]:
    """Read what ``save`` wrote."""
    stats: dict[str, TensorStats] = {}
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    ends = np.cumsum(data["channel_sizes"])
    for i, key in enumerate(data["keys"]):
        part = slice(int(ends[i] - data["channel_sizes"][i]), int(ends[i]))
        integers = dict(zip(_INTEGERS, map(int, data["integers"][i]), strict=True))
        floats = dict(zip(_FLOATS, map(float, data["floats"][i]), strict=True))
        has = part.stop > part.start
        stats[str(key)] = TensorStats(
            name=str(data["names"][i]),
            **integers,
            **floats,  # type: ignore[arg-type]
            histogram=data["histograms"][i].copy(),
            channel_low=data["channel_low"][part].copy() if has else None,
            channel_high=data["channel_high"][part].copy() if has else None,
            channel_sum=data["channel_sum"][part].copy() if has else None,
        )
    return stats


def _merge_channels(both: TensorStats, first: TensorStats, second: TensorStats) -> None:
    if first.channel_sum is None or second.channel_sum is None:
        chosen = first if second.samples == 0 else second if first.samples == 0 else None
        for name in _CHANNELS:
            setattr(both, name, getattr(chosen, name) if chosen else None)
        both.channel_count = chosen.channel_count if chosen else min(first.channel_count, second.channel_count, 0)
    elif first.channel_sum.shape != second.channel_sum.shape:
        both._forget_channels()
    else:
        both.channel_low = np.minimum(first.channel_low, second.channel_low)  # type: ignore[arg-type]
        both.channel_high = np.maximum(first.channel_high, second.channel_high)  # type: ignore[arg-type]
        both.channel_sum = first.channel_sum + second.channel_sum
        both.channel_count = first.channel_count + second.channel_count


def _power_above(magnitude: float) -> float:
    """The smallest power of two strictly above a magnitude; 0 for 0."""
    # the floor keeps 1024 / reach inside float32
    return max(2.0 ** frexp(magnitude)[1], 2.0**-100) if magnitude > 0 else 0.0


def _strided(flat: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """At most ``SAMPLED`` elements, evenly spread; the start moves with every turn."""
    stride = -(-flat.size // SAMPLED)
    if stride <= 1:
        return flat
    while gcd(stride, 210) > 1:  # a stride with a factor in common with the width would see only some columns
        stride += 1
    return flat[turn % stride :: stride]
