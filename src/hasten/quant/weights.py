"""Rounding the weights of a linear layer for the output that they make, not for the weights themselves.

Matrices are [groups, rows, k]: a plain layer has one group, a convolution as many as its ``group``. A row is one
output channel; ``total`` is ``sum x x'`` of the group's columns, float64[groups, k, k] (see ``quant.gram``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.quant.gram import row_errors
from hasten.quant.grid import Grid, symmetric

Array = NDArray[Any]
F32 = NDArray[np.float32]

STEPS = 20


def nearest(w: Array, scale: Array, grid: Grid) -> F32:
    """Codes ``clip(round(W / s))`` as float32[groups, rows, k]; ``scale`` is [groups, rows] or one number."""
    return np.asarray(np.clip(np.rint(np.asarray(w, np.float32) / spread(scale)), grid.qmin, grid.qmax), np.float32)


def spread(scale: Array) -> F32:
    """Scales shaped to multiply [groups, rows, k]."""
    scale = np.asarray(scale, np.float32)
    return scale[..., None] if scale.ndim else scale


def least_error_scale(w: Array, total: Array, grid: Grid, *, per_row: bool = True, steps: int = STEPS) -> F32:
    """The scale of least output error among ``c_k = (k / steps) * absmax``, k = 1 .. steps.

    AIMET's sequential MSE with the Gram matrix in place of samples: ``loss_k = diag((Q_k(W) - W) G (Q_k(W) - W)')``,
    the least for each row, or over all rows for one scale in all. absmax itself is among the candidates, so the
    error is never above that of the plain scale.
    """
    w = np.asarray(w, np.float32)
    absmax = np.abs(w).max(axis=-1) if per_row else np.abs(w).max()
    total32 = (total / max(float(np.abs(total).max()), 1e-30)).astype(np.float32)
    best = np.asarray(symmetric(absmax, grid)[0], np.float32)
    least = _loss(w, best, total32, grid, per_row)
    for k in range(steps - 1, 0, -1):
        scale = np.asarray(symmetric(absmax * (k / steps), grid)[0], np.float32)
        loss = _loss(w, scale, total32, grid, per_row)
        best = np.where(loss < least, scale, best)
        least = np.minimum(loss, least)
        if (loss > 4 * least).all():  # ever more of each row is clipped from here on
            break
    return np.asarray(best, np.float32)


def _loss(w: Array, scale: Array, total: Array, grid: Grid, per_row: bool) -> Array:
    error = row_errors(nearest(w, scale, grid) * spread(scale) - w, total)
    return error if per_row else np.asarray(error.sum())
