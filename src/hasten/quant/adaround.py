"""AdaRound (Nagel et al. 2020) without samples: rounding up or down is learned against a Gram matrix.

The reconstruction error of a linear layer is ``tr(D G D')`` with ``D = W~ - W``, so its gradient ``2 D G`` needs no
data (see ``quant.gram``), and Adam is a few lines of numpy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.quant.gram import row_errors
from hasten.quant.grid import Grid
from hasten.quant.weights import nearest, spread

Array = NDArray[Any]
F32 = NDArray[np.float32]

ZETA, GAMMA = 1.1, -0.1  # the stretched sigmoid reaches 0 and 1 exactly
LAMBDA = 10.0  # against an error of k a row; found on Gram matrices of several shapes at 4 and 8 bits
RATE = 0.03  # of Adam
BETA_FIRST, BETA_LAST, WARM_UP = 20.0, 2.0, 0.2
SETTLED = 0.999  # stop when this share of the weights has decided


@dataclass(eq=False)
class _Adam:
    """Kingma and Ba 2015, algorithm 1, on one array."""

    rate: float
    m: F32
    v: F32
    t: int = 0

    def step(self, parameter: F32, gradient: F32) -> None:
        self.t += 1
        self.m += 0.1 * (gradient - self.m)
        self.v += 0.001 * (np.square(gradient) - self.v)
        rate = self.rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        parameter -= np.float32(rate) * self.m / (np.sqrt(self.v) + np.float32(1e-8))


def adaround(
    w: Array, scale: Array, total: Array, grid: Grid, *, iterations: int = 500, seconds: float = float("inf")
) -> F32:
    """Codes of least output error, float32[groups, rows, k]: each weight goes to one of its two neighbours.

    ``W~ = s clip(floor(W / s) + h(V), qmin, qmax)`` (eq. 22), ``h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1)``
    (eq. 23), minimised over ``V`` is ``|D G D'| + lambda sum(1 - |2 h - 1|**beta)`` (eq. 21, 24) with f linear, beta
    falling from 20 to 2 after a fifth of the iterations. Each row's error counts relative to that of rounding to the
    nearest, so that layers of any magnitude share one lambda. A row that ends worse than by rounding to the nearest
    keeps the nearest codes: the error never exceeds theirs. After ``seconds`` what has been learned is rounded off.
    """
    w = np.asarray(w, np.float32)
    plain, step = nearest(w, scale, grid), spread(scale)
    before = row_errors(plain * step - w, total)
    wanted: F32 = np.asarray(w / step, np.float32)
    floor: F32 = np.floor(wanted)
    learned = _learn(wanted, floor, _relative(total, step, before, w.shape[-1]), grid, iterations, seconds)
    codes = np.clip(floor + (learned >= 0.5), grid.qmin, grid.qmax)
    better = row_errors(codes * step - w, total) < before
    return np.where(better[..., None], codes, plain).astype(np.float32)


def _relative(total: Array, step: Array, before: Array, k: int) -> tuple[F32, F32]:
    """(G in units of its mean diagonal, factor of each row) so that a row's nearest error becomes ``k``."""
    unit = max(float(np.trace(total, axis1=-2, axis2=-1).mean()) / k, 1e-30)
    factor = k * unit * np.square(step, dtype=np.float64) / np.maximum(before, 1e-30)[..., None]
    return (total / unit).astype(np.float32), factor.astype(np.float32)


def _learn(wanted: F32, floor: F32, weighted: tuple[F32, F32], grid: Grid, iterations: int, seconds: float) -> F32:
    """h(V) after Adam; ``wanted`` and ``floor`` are W / s and its floor."""
    total, factor = weighted
    rest: F32 = np.asarray(np.clip(wanted - floor, 1e-3, 1 - 1e-3), np.float32)
    v: F32 = -np.log((ZETA - GAMMA) / (rest - GAMMA) - 1)  # h(V) is the fraction itself: nothing is rounded yet
    adam = _Adam(RATE, np.zeros_like(v), np.zeros_like(v))
    inside = (floor >= grid.qmin) & (floor < grid.qmax)  # elsewhere the clip has no slope
    warm, end = int(WARM_UP * iterations), time.monotonic() + seconds
    h: F32 = rest
    for i in range(iterations):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * np.float32(ZETA - GAMMA) + np.float32(GAMMA)
        h = np.asarray(np.clip(stretched, 0, 1), np.float32)
        if time.monotonic() > end or (i % 50 == 49 and (np.abs(2 * h - 1) > 0.98).mean() > SETTLED):
            break
        d = np.clip(floor + h, grid.qmin, grid.qmax) - wanted
        slope = 2 * factor * (d @ total)
        if i >= warm:
            beta = BETA_LAST + (BETA_FIRST - BETA_LAST) * (1 - (i - warm) / max(1, iterations - warm))
            side = 2 * h - 1
            slope -= np.float32(LAMBDA * 2 * beta) * np.sign(side) * np.abs(side) ** np.float32(beta - 1)
        slope *= inside & (stretched > 0) & (stretched < 1)
        slope *= sigmoid * (1 - sigmoid) * np.float32(ZETA - GAMMA)
        adam.step(v, slope)
    return h
