"""From the statistics of a tensor to the range that its grid should cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hasten.errors import UsageError, did_you_mean
from hasten.quant.grid import U8, Grid, affine, fake_quantize
from hasten.quant.histogram import BINS, TensorStats

METHODS = ("minmax", "mean_minmax", "p99.999", "p99.99", "mse", "entropy")

F64 = NDArray[np.float64]
Range = tuple[float, float]

_HALF = BINS // 2
_KL_LEVELS = 128  # integer levels on each side of zero, as in TensorRT's calibrator
_KL_TRIED = 256  # thresholds, evenly spaced
_SMOOTH = 1e-4


def choose_range(stats: TensorStats, method: str, *, grid: Grid = U8) -> Range:
    """``(low, high)`` with ``low <= 0 <= high``, inside the extremes seen.

    minmax: the extremes. mean_minmax: the mean over samples of each sample's extremes.
    p99.999, p99.99: the tails outside hold that share of the elements, half on each side, all on one side when
    the tensor has only one. mse: the least squared error after rounding on ``grid``. entropy: the least
    Kullback-Leibler divergence of the clipped and rounded histogram (Migacz 2017).

    Raises:
        UsageError: the method is not one of ``METHODS``.
    """
    if method not in METHODS:
        raise UsageError(f"there is no calibration method {method!r}", help=did_you_mean(method, METHODS))
    low, high = min(stats.low, 0.0), max(stats.high, 0.0)
    if method == "minmax" or stats.reach == 0 or not stats.histogram.any():
        return low, high
    if method == "mean_minmax":
        return _inside((stats.mean_low, stats.mean_high), low, high)
    if method == "mse":
        return _inside(_least_error(stats, low, high, grid), low, high)
    if method == "entropy":
        return _inside(_least_divergence(stats, low, high), low, high)
    return _inside(_percentile(stats, low, high, float(method[1:]) / 100), low, high)


def noise(stats: TensorStats, chosen: Range, *, grid: Grid = U8) -> float:
    """The share of the tensor's energy, ``sum((x - Q(x))**2) / sum(x**2)``, that rounding over a range costs."""
    counts = _without_zeros(stats)
    used = np.flatnonzero(counts)
    if used.size == 0:
        return 0.0
    centres, counts = stats.centres[used] / stats.reach, counts[used]
    scale, zero = affine(chosen[0] / stats.reach, chosen[1] / stats.reach, grid)
    error = centres - fake_quantize(centres, scale, zero, grid)
    return float(np.square(error) @ counts / (np.square(centres) @ counts))


def _inside(chosen: Range, low: float, high: float) -> Range:
    return min(max(chosen[0], low), 0.0), max(min(chosen[1], high), 0.0)


def _percentile(stats: TensorStats, low: float, high: float, inside: float) -> Range:
    total = int(stats.histogram.sum())
    tail = (1 - inside) * total / (2 if low < 0 < high else 1)
    edges = (np.arange(BINS + 1, dtype=np.float64) - _HALF) * stats.width
    below = np.concatenate([[0], np.cumsum(stats.histogram)]).astype(np.float64)
    return _edge(below, edges, tail), -_edge(total - below[::-1], -edges[::-1], tail)


def _edge(below: F64, edges: F64, tail: float) -> float:
    """Where the cumulative count first passes ``tail``, linear inside the bin."""
    right = int(np.searchsorted(below, tail, side="right"))
    share = (tail - below[right - 1]) / (below[right] - below[right - 1])
    return float(edges[right - 1] + share * (edges[right] - edges[right - 1]))


def _least_error(stats: TensorStats, low: float, high: float, grid: Grid) -> Range:
    """A coarse grid of shrink factors for both ends, then a finer one around its best."""
    counts = _without_zeros(stats)
    used = np.flatnonzero(counts)
    if used.size == 0:
        return low, high
    # in units of reach, a power of two, so that squares of an attention mask's -3.4e38 stay finite
    low, high = low / stats.reach, high / stats.reach
    counts, centres = counts[used], np.clip(stats.centres[used] / stats.reach, low, high)
    shrink = np.linspace(0.05, 1, 20)
    best = _search(centres, counts, low * shrink, high * shrink, grid)
    for step in (0.05, 0.01):
        around = step * np.linspace(-0.8, 0.8, 9)
        lows, highs = np.clip(best[0] + low * around, low, 0), np.clip(best[1] + high * around, 0, high)
        best = _search(centres, counts, lows, highs, grid)
    return best[0] * stats.reach, best[1] * stats.reach


def _search(centres: F64, counts: F64, lows: F64, highs: F64, grid: Grid) -> Range:
    """The pair of least error, ``sum(counts * (c - Q(c))**2)`` over the bins; the widest of equals."""
    lows, highs = np.unique(lows), np.unique(highs)[::-1]
    grid_low, grid_high = (a.reshape(-1) for a in np.meshgrid(lows, highs, indexing="ij"))
    scale, zero = affine(grid_low, grid_high, grid)
    step, offset = scale[:, None], zero.astype(np.float32)[:, None]
    c = centres.astype(np.float32)
    codes = np.rint(c / step)
    np.clip(codes, grid.qmin - offset, grid.qmax - offset, out=codes)
    codes *= step
    codes -= c
    error = np.square(codes, out=codes) @ counts.astype(np.float32)
    best = int(np.argmin(error))
    return float(grid_low[best]), float(grid_high[best])


def _least_divergence(stats: TensorStats, low: float, high: float) -> Range:
    """One threshold for both sides: the window of T bins on each side of zero, cut to the bins in use."""
    counts = _without_zeros(stats)
    used = np.flatnonzero(counts)
    if used.size == 0:
        return low, high
    first, last = min(int(used[0]), _HALF), max(int(used[-1]) + 1, _HALF)
    farthest = max(_HALF - first, last - _HALF)
    bins = np.unique(np.linspace(min(_KL_LEVELS, farthest), farthest, _KL_TRIED).astype(np.intp))
    divergence = _divergences(counts, bins, np.maximum(first, _HALF - bins), np.minimum(last, _HALF + bins))
    widest_best = len(bins) - 1 - int(np.argmin(divergence[::-1]))
    reach = float(bins[widest_best] * stats.width)
    return -reach, reach


def _divergences(counts: F64, bins: NDArray[np.intp], starts: NDArray[np.intp], ends: NDArray[np.intp]) -> F64:
    """KL(P || Q) of every window ``[starts, ends)``, all at once from cumulative sums.

    P is the clipped histogram: what lies outside is added to the end bins. Q spreads the count of the bins that
    share one of the 128 levels of a side evenly over those of them that P fills, and at least 1e-4 of a count each
    (an end bin may hold only what was clipped; without smoothing one outlier would forbid that window).
    """
    total = counts.sum()
    mass, filled = _cumulative(counts), _cumulative((counts > 0).astype(np.float64))
    entropy = _cumulative(_xlogx(counts))
    outside_left, outside_right = mass[starts], total - mass[ends]
    edges = _HALF + bins[:, None] * np.arange(-_KL_LEVELS, _KL_LEVELS + 1) // _KL_LEVELS
    edges = np.clip(edges, starts[:, None], ends[:, None])
    left, right = edges[:, :-1], edges[:, 1:]
    has_first = (left == starts[:, None]) & (right > left)
    has_last = (right == ends[:, None]) & (right > left)
    kept = mass[right] - mass[left]
    added_left, added_right = (counts[starts] == 0) & (outside_left > 0), (counts[ends - 1] == 0) & (outside_right > 0)
    spread = filled[right] - filled[left] + has_first * added_left[:, None] + has_last * added_right[:, None]
    clipped = kept + has_first * outside_left[:, None] + has_last * outside_right[:, None]
    level = np.maximum(kept / np.maximum(spread, 1), _SMOOTH)
    own = entropy[ends] - entropy[starts]
    for end, extra in ((starts, outside_left), (ends - 1, outside_right)):
        own = own + _xlogx(counts[end] + extra) - _xlogx(counts[end])
    cross = (clipped * np.log(level)).sum(axis=1)
    mass_q = (spread * level * (clipped > 0)).sum(axis=1)
    return np.asarray((own - cross) / total - np.log(total) + np.log(mass_q), np.float64)


def _without_zeros(stats: TensorStats) -> F64:
    """Counts without the elements that are exactly 0, which every grid represents."""
    counts = stats.histogram.astype(np.float64)
    counts[_HALF] -= stats.zeros
    return counts


def _cumulative(values: F64) -> F64:
    return np.concatenate([[0.0], np.cumsum(values)])


def _xlogx(values: F64) -> F64:
    return values * np.log(np.maximum(values, 1.0))  # counts are whole, so below 1 means 0
