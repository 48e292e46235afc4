"""Least squares: the weights that come nearest to a layer's old answers, given what it reads now.

Old y = W x + b, new y = V z + c, where z is what is left of x, or what x has become. From the means of x, z, x z'
and z z' alone:

    V = (W C + lambda P) (S + lambda I)^-1,   c = b + W mean(x) - V mean(z)
    C = mean(x z') - mean(x) mean(z)',   S = mean(z z') - mean(z) mean(z)'

the minimum of E |(W x + b) - (V z + c)|^2 + lambda |V - P|^2. The ridge pulls towards P, the old weights for z, where
the data say nothing (OBC: Frantar & Alistarh, NeurIPS 2022, section 4; the bias alone is FLAP: An et al., AAAI 2024).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

F64 = NDArray[np.float64]
RIDGE = 0.01  # of the mean variance of z


def refit(w: F64, prior: F64, x: F64, z: F64, xz: F64, zz: F64, ridge: float = RIDGE) -> tuple[F64, F64]:
    """(V, c - b): new weights float64[outputs, j] and what to add to the bias float64[outputs].

    ``w`` [outputs, k] are the old weights, ``prior`` [outputs, j] those of the columns that are left.
    """
    spread, cross = zz - np.outer(z, z), xz - np.outer(x, z)
    strength = ridge * float(np.trace(spread)) / max(len(z), 1) + np.finfo(np.float64).tiny
    normal = spread + strength * np.eye(len(z))
    v = linalg.solve(normal, (w @ cross + strength * prior).T, assume_a="pos").T
    return v, w @ x - v @ z


def shift_only(w: F64, prior: F64, x: F64, z: F64) -> F64:
    """What to add to the bias when the weights stay: float64[outputs]."""
    shift: F64 = w @ x - prior @ z
    return shift


def loss(w: F64, v: F64, x: F64, z: F64, xx: F64, xz: F64, zz: F64) -> float:
    """E |(W x + b) - (V z + c)|^2 with the best c, from the moments."""
    a, b, c = xx - np.outer(x, x), xz - np.outer(x, z), zz - np.outer(z, z)
    return float(
        np.einsum("ok,kl,ol->", w, a, w) - 2 * np.einsum("ok,kj,oj->", w, b, v) + np.einsum("oj,jl,ol->", v, c, v)
    )
