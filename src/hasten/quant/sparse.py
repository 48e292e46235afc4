"""Which single weights go, and what the others do about it: Wanda and SparseGPT.

A layer y = W x with S = mean(x x'). Wanda (Sun et al., ICLR 2024, equation 1) ranks by |w_ij| sqrt(S_jj) within each
row and changes nothing else. SparseGPT (Frantar & Alistarh, ICML 2023, algorithm 1) goes from left to right: with
H = S + lambda I and the upper Cholesky factor U of H^-1, column j's error e = w_j / U_jj of a weight that goes is
subtracted from all columns behind, W_i: <- W_i: - e U_j:, which is the best that they can do about it.

A pattern is a share of each row ("0.5") or n zeros in every m neighbours ("2:4").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
BLOCK, DAMP = 128, 0.01


@dataclass(frozen=True)
class Pattern:
    """``zeros`` of every ``of`` neighbours in a row go; ``of`` 0 means the share ``zeros`` of a whole row."""

    zeros: float
    of: int = 0

    def __str__(self) -> str:
        return f"{self.zeros:g}:{self.of}" if self.of else f"{self.zeros:g}"


def parse_pattern(text: str) -> Pattern:
    """``"2:4"`` or ``"0.5"``.

    Raises:
        ValueError: it is neither.
    """
    zeros, colon, of = text.partition(":")
    found = Pattern(float(int(zeros) if colon else float(zeros)), int(of) if colon else 0)
    if not (0 < found.zeros < (found.of or 1)):
        raise ValueError(text)
    return found


def lowest(score: F64, pattern: Pattern) -> Mask:
    """True where a weight goes: the lowest scores of each row, or of each ``of`` neighbours in it."""
    rows, k = score.shape
    width = pattern.of or k
    count = round(pattern.zeros * (1 if pattern.of else k))
    gone = np.zeros((rows, k), bool)
    for start in range(0, k - k % width, width):
        part = score[:, start : start + width]
        np.put_along_axis(gone[:, start : start + width], part.argsort(axis=1, kind="stable")[:, :count], True, axis=1)
    return gone


def magnitude(w: F64, pattern: Pattern) -> F64:
    """The smallest weights go."""
    return np.where(lowest(np.abs(w), pattern), 0.0, w)


def wanda(w: F64, s: F64, pattern: Pattern) -> F64:
    """The weights that move their row's answers least, each by itself."""
    return np.where(lowest(np.abs(w) * np.sqrt(np.maximum(np.diag(s), 0)), pattern), 0.0, w)


def sparsegpt(w: F64, s: F64, pattern: Pattern, damp: float = DAMP, block: int = BLOCK) -> F64:
    """float64[outputs, k] with zeros; the rest of each row makes up for what went before it.

    The share of zeros holds within each block of columns; n:m patterns are chosen when their first column is reached,
    with all errors so far taken in. Columns that are never fed count as one.
    """
    w, k = w.copy(), w.shape[1]
    upper = factor(s, damp)
    dead = np.diag(s) == 0
    w[:, dead] = 0
    block = block - block % pattern.of if pattern.of else block
    for start in range(0, k, block):
        end = min(start + block, k)
        columns, errors = slice(start, end), np.zeros((len(w), end - start))
        gone = np.zeros((len(w), end - start), bool)
        if not pattern.of:
            gone = lowest(np.square(w[:, columns] / np.diag(upper)[columns]), pattern)
        for j in range(start, end):
            if pattern.of and j % pattern.of == 0 and j + pattern.of <= k:
                near = slice(j, j + pattern.of)
                gone[:, j - start : j - start + pattern.of] = lowest(
                    np.square(w[:, near] / np.diag(upper)[near]), pattern
                )
            e = np.where(gone[:, j - start], w[:, j], 0.0) / upper[j, j]
            w[:, j:end] -= np.outer(e, upper[j, j:end])
            w[gone[:, j - start], j] = 0.0  # exactly
            errors[:, j - start] = e
        w[:, end:] -= errors @ upper[columns, end:]
    return w


def factor(s: F64, damp: float) -> F64:
    """U, upper triangular, with U'U = (S + damp mean(diag S) I)^-1."""
    h = s.copy()
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    h[np.diag_indices_from(h)] += damp * float(np.mean(np.diag(h)))
    inverse = linalg.inv(h)
    upper: F64 = linalg.cholesky((inverse + inverse.T) / 2, lower=False)
    return upper
