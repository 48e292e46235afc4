"""Two thin matrices for one: W nearly A B, as the data see it.

For y = W x with covariance S = L L' of x, the SVD of W L = U Sigma V' gives the best A B of rank r,

    A = U_r Sigma_r^(1/2),   B = Sigma_r^(1/2) V_r' L^-1,   E |W x - A B x|^2 = sum of sigma_i^2 for i > r

exactly (truncation-aware whitening: Wang et al., SVD-LLM, ICLR 2025, section 3.1; the mean goes into the bias).

A k x k kernel can also be cut along space (Jaderberg et al., BMVC 2014; Zhang et al., PAMI 2016): r filters of k x 1,
then 1 x k. The first come from an SVD whitened by the covariance of the columns, the second are the least-squares fit
to the answers, so that their loss is exact too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

F64 = NDArray[np.float64]
DAMP = 1e-6  # of the mean variance: what keeps the Cholesky factor alive where the data have no variance


@dataclass(frozen=True)
class Factors:
    """``a`` float64[outputs, r'] and ``b`` [r', k]: W is nearly ``a @ b``; for a spatial cut r' is r * kernel width."""

    a: F64
    b: F64


def whitener(s: F64, damp: float = DAMP) -> F64:
    """The lower Cholesky factor of S + damp mean(diag S) I; where rounding left S indefinite, of a little more."""
    mean = float(np.trace(s)) / max(len(s), 1)
    while True:
        try:
            lift = damp * mean + np.finfo(np.float64).tiny
            lower: F64 = linalg.cholesky(s + lift * np.eye(len(s)), lower=True)
        except linalg.LinAlgError:
            damp = max(10 * damp, DAMP)
            if damp > 1:
                raise
        else:
            return lower


@dataclass(frozen=True)
class Whitened:
    """The SVD of W L, from which every rank is a cut; ``sigma`` are its singular values, largest first."""

    u: F64
    sigma: F64
    vt: F64
    lower: F64

    def factors(self, rank: int) -> Factors:
        """A and B of ``rank``."""
        root = np.sqrt(self.sigma[:rank])
        b = linalg.solve_triangular(self.lower, self.vt[:rank].T, lower=True, trans="T").T
        return Factors(self.u[:, :rank] * root, root[:, None] * b)

    def losses(self) -> F64:
        """E |W x - A B x|^2 as a share of the answers' variance, for ranks 0, 1, 2, ..."""
        tail = np.concatenate([np.cumsum(np.square(self.sigma)[::-1])[::-1], [0.0]])
        return np.asarray(tail / max(tail[0], np.finfo(np.float64).tiny))


def whitened_svd(w: F64, s: F64, damp: float = DAMP) -> Whitened:
    """``w`` float64[outputs, k], ``s`` the covariance [k, k] of what it is multiplied with."""
    lower = whitener(s, damp)
    u, sigma, vt = linalg.svd(w @ lower, full_matrices=False, lapack_driver="gesdd")
    return Whitened(u, sigma, vt, lower)


@dataclass(frozen=True)
class Spatial:
    """The vertical filters of every rank: ``vertical`` float64[ranks, channels, height], best first."""

    w: F64
    s: F64
    vertical: F64
    width: int

    def factors(self, rank: int) -> Factors:
        """B [rank * width, channels * height * width] spells out the vertical filters at each place of the kernel."""
        filters = self.vertical[:rank]
        b = np.einsum("rch,xz->rxchz", filters, np.eye(self.width)).reshape(rank * self.width, -1)
        middle = b @ self.s @ b.T
        lift = DAMP * float(np.trace(middle)) / len(middle) + np.finfo(np.float64).tiny
        a = linalg.solve(middle + lift * np.eye(len(middle)), b @ self.s @ self.w.T, assume_a="pos").T
        return Factors(a, b)

    def loss(self, rank: int) -> float:
        """E |W x - A B x|^2 as a share of the answers' variance."""
        return lost(self.w, self.factors(rank), self.s)


def spatial_svd(w: F64, s: F64, shape: tuple[int, int, int], damp: float = DAMP) -> Spatial:
    """``w`` float64[outputs, c * h * w] as a kernel's ``shape`` (c, h, w) has it; ``s``: covariance of patches."""
    channels, height, width = shape
    k = channels * height
    # rows (channel, height) of the kernel's middle column stand for all columns: patches look alike wherever they are
    blocks = s.reshape(channels, height, width, channels, height, width)
    column = np.einsum("abxcdx->abcd", blocks).reshape(k, k) / width
    lower = whitener(column, damp)
    matrix = w.reshape(-1, k, width).transpose(1, 0, 2).reshape(k, -1)
    u, _, _ = linalg.svd(lower.T @ matrix, full_matrices=False, lapack_driver="gesdd")
    # M is nearly L'^-1 U U' L' M: columns x of the picture are seen through U' L^-1... of whitened rows
    filters = linalg.solve_triangular(lower, u, lower=True, trans="T").T
    return Spatial(w, s, filters.reshape(-1, channels, height), width)


def lost(w: F64, found: Factors, s: F64) -> float:
    """E |W x - A B x|^2 as a share of E |W x|^2, x with mean 0 and covariance ``s``."""
    gap = w - found.a @ found.b
    total = float(np.einsum("ok,kl,ol->", w, s, w, optimize=True))
    return float(np.einsum("ok,kl,ol->", gap, s, gap, optimize=True)) / max(total, np.finfo(np.float64).tiny)


def break_even(outputs: int, k: int) -> float:
    """The rank at which two matrices multiply as often as one."""
    return outputs * k / (outputs + k)
