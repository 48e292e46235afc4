"""Factors per channel that balance what a scale for all channels must cover."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.quant.gram import Gram
from hasten.quant.grid import S8, U8, Grid, symmetric
from hasten.quant.weights import nearest, spread

Array = NDArray[Any]
F64 = NDArray[np.float64]

EXPONENTS = (0.3, 0.5, 0.65, 0.8, 0.9, 0.95)
SMALLEST = 1e-4  # of the largest: a channel that is (nearly) never used must not ask for a huge factor


def balance(r1: Array, r2: Array) -> F64:
    """``s = sqrt(r1 / r2)``, by which rows of range r1 are divided and the columns they meet multiplied.

    Both ranges become ``sqrt(r1 r2)`` (Nagel et al. 2019, eq. 11). Channels of almost no range keep theirs.
    """
    r1, r2 = np.asarray(r1, np.float64), np.asarray(r2, np.float64)
    used = (r1 > 1e-8 * r1.max(initial=0)) & (r2 > 1e-8 * r2.max(initial=0)) & (r1 > 0) & (r2 > 0)
    return np.where(used, np.sqrt(np.where(used, r1, 1) / np.where(used, r2, 1)), 1.0)


def smoothing(inputs: Array, weights: Array, exponent: float) -> F64:
    """``s_j = max|X_j|**a / max|W_j|**(1 - a)`` (Xiao et al. 2023, eq. 4), in units of its geometric mean."""
    x = np.maximum(inputs, SMALLEST * max(float(np.max(inputs, initial=0)), 1e-30))
    w = np.maximum(weights, SMALLEST * max(float(np.max(weights, initial=0)), 1e-30))
    s = exponent * np.log(x) - (1 - exponent) * np.log(w)
    return np.asarray(np.exp(s - s.mean()), np.float64)


def output_error(
    w: Array, factor: Array, low: Array, high: Array, gram: Gram, *, activations: Grid = U8, weights: Grid = S8
) -> float:
    """The mean squared output error of an eight-bit layer whose columns are divided by ``factor`` first.

    ``w`` is [groups, rows, k]; ``factor``, ``low`` and ``high`` are [groups, 1, k]: by column what it is divided by,
    and the extremes of what it is. Rounding ``x / s`` to steps d over the range that all channels need adds
    ``s**2 d**2 / 12`` to the mean square of each x; rounding ``W s`` to a scale a row adds its own error, which the
    Gram matrix weighs. Relative to the mean square of the output.
    """
    step = (max(float((high / factor).max()), 0.0) - min(float((low / factor).min()), 0.0)) / activations.levels
    noise = float((np.square(w * factor, dtype=np.float64) * step**2 / 12).sum())
    stretched = np.asarray(w * factor, np.float32)
    scale, _ = symmetric(np.abs(stretched).max(axis=-1), weights)
    error = (nearest(stretched, scale, weights) * spread(scale) - stretched) / factor
    signal = float(gram.error(w).sum())
    return (noise + float(gram.error(error).sum())) / max(signal, 1e-30)
