"""GPTQ (Frantar et al. 2023) in one pass: codes and scales come out directly, nothing is rounded twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, lapack

from hasten.quant.grid import Grid

Array = NDArray[Any]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
FindScale = Callable[[Array], tuple[Array, Array]]
"""From weights [rows, columns of a group] to their scale and zero point, one a row."""

DAMP = 0.01  # of the mean diagonal
ROWS = 1024  # at a time: they do not depend on each other


@dataclass(frozen=True)
class Rounded:
    """``W ~ (codes - zeros) * scales``: codes [rows, k] as whole float32; scales and zeros [rows, groups]."""

    codes: F32
    scales: F32
    zeros: F32
    group: int  # columns that share a scale

    @property
    def weights(self) -> F32:
        """What the codes stand for, float32[rows, k]."""
        which = np.arange(self.codes.shape[1]) // self.group
        return np.asarray((self.codes - self.zeros[:, which]) * self.scales[:, which], np.float32)


def gptq(
    w: Array, total: Array, grid: Grid, find: FindScale, *, group: int = 0, block: int = 128,
    damp: float = DAMP, act_order: bool = False,
) -> Rounded:  # fmt: skip
    """Round ``w`` [rows, k] column by column; each column's error is spread over those that come after it.

    ``H = total + damp * mean(diag) I``, ``H^-1 = U' U`` with U upper triangular. Column i: ``e = (w_i - q_i) / U_ii``,
    ``W[:, i:] -= e U[i, i:]``; the columns behind a block of about ``block`` are updated once a block. ``find`` gives
    the scale of each ``group`` of columns (0: all) from the weights as they stand when the group begins. With
    ``act_order`` columns come in the order of falling ``diag(H)``, and scales from the weights as they were given.
    Columns that no input reached cost nothing and become 0. Memory is that of two matrices [k, k] and some rows.
    """
    rows, k = w.shape
    group = min(group or k, k)
    block = group * max(1, block // group) if group < k else block  # a block holds whole groups
    dead = np.diag(total) <= 0
    order = np.argsort(-np.diag(total), kind="stable") if act_order else np.arange(k)
    upper = _inverse_root(total, dead, damp, order)
    codes = np.empty((rows, k), np.float32)
    scales, zeros = np.empty((2, rows, -(-k // group)), np.float32)
    for start in range(0, rows, ROWS):
        some = slice(start, start + ROWS)
        part = np.where(dead, 0.0, w[some].astype(np.float64))
        for g in range(scales.shape[1]) if act_order else ():
            scales[some, g], zeros[some, g] = find(part[:, g * group : (g + 1) * group])
        columns = np.ascontiguousarray(part.T[order])
        codes[some] = _spread(
            columns, upper, grid, None if act_order else find, order, (scales[some], zeros[some]), group, block
        ).T
    return Rounded(codes, scales, zeros, group)


def _spread(
    columns: F64, upper: F64, grid: Grid, find: FindScale | None, order: NDArray[np.intp],
    params: tuple[F32, F32], group: int, block: int,
) -> F32:  # fmt: skip
    """Codes [k, rows] of ``columns`` [k, rows], which come in ``order``; ``find`` fills ``params`` on the way."""
    k, (scales, zeros) = len(columns), params
    codes = np.empty(columns.shape, np.float32)
    for start in range(0, k, block):
        end = min(start + block, k)
        errors = np.empty((end - start, columns.shape[1]))
        for i in range(start, end):
            g, before = order[i] // group, errors[: i - start]
            if find is not None and i % group == 0:
                ahead = slice(i, i + group)
                scales[:, g], zeros[:, g] = find((columns[ahead] - upper[start:i, ahead].T @ before).T)
            column = columns[i] - upper[start:i, i] @ before  # what this block has pushed here so far
            codes[order[i]] = q = np.clip(np.rint(column / scales[:, g] + zeros[:, g]), grid.qmin, grid.qmax)
            errors[i - start] = (column - (q - zeros[:, g]) * scales[:, g]) / upper[i, i]
        columns[end:] -= upper[start:end, end:].T @ errors
    return codes


def _inverse_root(total: Array, dead: NDArray[np.bool_], damp: float, order: NDArray[np.intp]) -> F64:
    """U of ``H^-1 = U' U``.

    Turned around, H has a lower root: ``J H J = L L'``, so ``H = R R'`` with ``R = J L J`` upper triangular, and
    ``U = R^-1``. One factorisation and one triangular inverse, both in place.
    """
    h = np.array(total[np.ix_(order[::-1], order[::-1])], np.float64, order="F")
    diagonal = np.einsum("ii->i", h)
    mean = float(diagonal.mean()) or 1.0
    diagonal[dead[order[::-1]]] = mean
    diagonal += damp * mean
    root = np.asfortranarray(cholesky(h, lower=True, overwrite_a=True, check_finite=False)[::-1, ::-1])
    upper, failed = lapack.dtrtri(root, lower=0, overwrite_c=1)
    assert not failed
    return np.asarray(upper, np.float64)


def descend(codes: Array, w: Array, scale: Array, total: Array, grid: Grid, *, sweeps: int = 2, block: int = 64) -> F32:
    """Improve codes [..., rows, k] one column after another, ``sweeps`` times over: no row's error ever rises.

    Cyclic coordinate descent on ``tr(D G D')`` (QuantEase, Behdin et al. 2023): with all other columns fixed, the best
    code of column j is that of ``q_j - (D G)_j / G_jj``. ``scale`` is one number a row [..., rows, 1] or a weight
    [..., rows, k], ``total`` [..., k, k]; zero points are taken off the codes beforehand. Like in GPTQ, what lies
    behind a block is updated once a block.
    """
    q = np.array(np.swapaxes(codes, -1, -2), np.float64, order="C")
    step = np.array(np.broadcast_to(np.swapaxes(np.asarray(scale, np.float64), -1, -2), q.shape), order="C")
    g = np.asarray(total, np.float64)
    slope = g @ (q * step - np.swapaxes(w, -1, -2))  # (D G)', kept up to date
    own = np.where(np.einsum("...ii->...i", g) > 0, np.einsum("...ii->...i", g), np.inf)[..., None]
    for _ in range(sweeps):
        for start in range(0, q.shape[-2], block):
            end = min(start + block, q.shape[-2])
            moved = np.zeros((*q.shape[:-2], end - start, q.shape[-1]))
            for j in range(start, end):
                pushed = g[..., j : j + 1, start:j] @ moved[..., : j - start, :]
                here = slope[..., j, :] + pushed[..., 0, :]
                best = q[..., j, :] - here / (own[..., j, :] * step[..., j, :])
                best = np.clip(np.rint(best), grid.qmin, grid.qmax)
                moved[..., j - start, :] = (best - q[..., j, :]) * step[..., j, :]
                q[..., j, :] = best
            slope += g[..., start:end] @ moved
    return np.ascontiguousarray(np.swapaxes(q, -1, -2), np.float32)
