"""Outputs that no metric reads must not be spoilt unseen: one figure an output, and one limit."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from hasten.compare import compare, kind
from hasten.protocols import Array

F64 = NDArray[np.float64]
LIMIT = 0.25  # of the variance: a constant loses all of it, int8 with calibrated ranges mostly less than a twentieth
COLUMNS = 64  # an output of so many columns at most is looked at column by column: each may mean something of its own
STEADY = 0.05  # of its size: what varies less is measured against this
QUIET = 0.01  # of the whole output's spread: a column that varies less is measured against this
RARE = 0.05  # values that are all but the same are measured as if this share of them were others


def spoilt(old: Sequence[Array], new: Sequence[Array]) -> str:
    """Why one output is spoilt over these samples, in words that follow its name; empty where it is not.

    Numbers may differ by ``LIMIT`` of their variance, in mean square: as a whole, and in each column of small outputs.
    Whole numbers and text may differ in ``LIMIT`` times as many places as the commonest value, always answered, would.
    """
    shapes = sum(a.shape != b.shape or kind(a.dtype) != kind(b.dtype) for a, b in zip(old, new, strict=True))
    if shapes > LIMIT * len(old):
        return f"has another shape or type on {shapes} of {len(old)} samples"
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if a.shape == b.shape and kind(a.dtype) == kind(b.dtype)]
    if not any(a.size for a, _ in pairs):
        return ""
    if kind(pairs[0][0].dtype) != "number":
        share = _miscounted(pairs)
        return f"differs {share:.2f} times as often as a constant would, at most {LIMIT:g}" if share > LIMIT else ""
    figure, place = _figure(pairs)
    if figure == inf:
        return "answers NaN or infinity where the network does not"
    return f"moved by {figure:.2f} of its variance{place}, at most {LIMIT:g}" if figure > LIMIT else ""


def _figure(pairs: Sequence[tuple[Array, Array]]) -> tuple[float, str]:
    """The largest squared error over variance, of the whole output or of a column, and which."""
    a, b = (np.concatenate([_real(p[side]).reshape(-1) for p in pairs]) for side in (0, 1))
    if compare(a, b).broken:
        return inf, ""
    usable = np.isfinite(a)
    if not usable.any():
        return 0.0, ""
    spread = float(a[usable].var())
    found = [(_share(a[usable], b[usable], 0.0), "")]
    wide = {p[0].shape[-1] if 1 < p[0].ndim <= 3 else 0 for p in pairs}
    width = wide.pop() if len(wide) == 1 else 0
    if 1 < width <= COLUMNS:
        for k, (one, other) in enumerate(zip(a.reshape(-1, width).T, b.reshape(-1, width).T, strict=True)):
            able = np.isfinite(one)
            if able.any():
                found.append((_share(one[able], other[able], QUIET**2 * spread), f" in column {k}"))
    return max(found)


def _share(a: F64, b: F64, least: float) -> float:
    """Mean squared error over variance; over a share of the size or ``least`` where that is larger."""
    error = float(np.mean(np.square(b - a)))
    size = max(float(a.var()), STEADY**2 * float(np.mean(np.square(a))), least)
    return error / size if size else (0.0 if error == 0 else inf if error == inf else 1.0)


def _real(array: Array) -> F64:
    """Complex numbers as pairs."""
    if array.dtype.kind == "c":
        wide = array.astype(np.complex128)
        return np.stack([wide.real, wide.imag], -1)
    return np.asarray(array, np.float64)


def _miscounted(pairs: Sequence[tuple[Array, Array]]) -> float:
    a, b = (np.concatenate([p[side].reshape(-1) for p in pairs]).astype(str) for side in (0, 1))
    commonest = int(np.unique(a, return_counts=True)[1].max())
    return float(np.mean(a != b)) / max(1 - commonest / len(a), RARE)
