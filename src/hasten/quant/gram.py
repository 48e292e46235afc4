"""Gram matrices of what linear layers read: all that rounding their weights needs to know of the data.

A layer ``y = W x`` with rounded weights ``W + D`` errs by ``sum |D x|**2 = tr(D G D')``, where ``G = sum x x'`` runs
over every column ``x`` that the layer has seen: a row of a matrix product's input, a patch under a convolution's
kernel. ``G`` is built once; then any number of roundings can be judged without the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

COLUMNS = 1024  # of one sample that enter; a large picture has thousands, and they tell little new


@dataclass(frozen=True)
class Window:
    """How a convolution looks at its input; each tuple has one number per spatial axis.

    ``before`` and ``after`` are the zeros padded at either end.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(eq=False)
class Gram:
    """``total[g] = sum x x'``, ``sums[g] = sum x`` and ``sizes[g] = sum |x|`` over ``count`` columns, for each group.

    Products are float32, their sums float64: float64[groups, k, k] and twice float64[groups, k].
    """

    groups: int
    k: int
    count: int = 0
    total: F64 = field(init=False)
    sums: F64 = field(init=False)
    sizes: F64 = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((self.groups, self.k, self.k))
        self.sums = np.zeros((self.groups, self.k))
        self.sizes = np.zeros((self.groups, self.k))

    def update(self, x: Array) -> None:
        """Take in columns, float32[n, groups, k]; those with NaN or infinity are left out."""
        x = np.asarray(x, np.float32)
        if x.size and not (-inf < x.min() <= x.max() < inf):  # also false for NaN
            x = x[np.isfinite(x).all(axis=(1, 2))]
        self.count += len(x)
        self.sums += x.sum(axis=0, dtype=np.float64)
        self.sizes += np.abs(x).sum(axis=0, dtype=np.float64)
        for g in range(self.groups) if self.k > 64 else ():
            part = np.ascontiguousarray(x[:, g])
            self.total[g] += part.T @ part  # numpy sees one matrix and does half of the work
        if self.k <= 64:
            rows = np.ascontiguousarray(x.transpose(1, 0, 2))
            self.total += rows.transpose(0, 2, 1) @ rows

    @property
    def mean(self) -> F64:
        """The mean column, float64[groups, k]."""
        return self.sums / max(self.count, 1)

    def error(self, difference: Array) -> F64:
        """The mean of ``(D x)**2`` for each row of ``D``: float[groups, rows, k] to float64[groups, rows].

        In float32, which is twice as fast and enough to compare roundings.
        """
        unit = max(float(np.abs(self.total).max(initial=0)), 1e-30)
        return row_errors(difference, (self.total / unit).astype(np.float32)) * (unit / max(self.count, 1))


def row_errors(difference: Array, total: Array) -> F64:
    """``diag(D G D')``: the squared output error that each row of ``difference`` [..., rows, k] makes in all."""
    d = np.asarray(difference, total.dtype)
    return np.asarray(np.einsum("...rk,...rk->...r", d @ total, d), np.float64)


def rows(x: Array, limit: int = COLUMNS, seed: int = 0) -> Array:
    """The columns of a matrix product: [..., k] to [n, 1, k], at most ``limit`` of them, chosen at random."""
    flat = x.reshape(-1, 1, x.shape[-1])
    return flat[_chosen(len(flat), limit, seed)]


def patches(x: Array, window: Window, groups: int = 1, limit: int = COLUMNS, seed: int = 0) -> Array:
    """The columns of a convolution: [batch, channels, ...] to [n, groups, channels / groups * kernel].

    Their order is that of the weight [out, channels / groups, *kernel] made flat behind its first axis. At most
    ``limit`` positions are taken, chosen at random over batch and space.
    """
    axes = tuple(range(2, x.ndim))
    padded = np.pad(x, [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)])
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)  # [batch, channels, *places, *reach]
    everything: tuple[Any, ...] = (slice(None), slice(None))
    stepped = views[
        everything + tuple(slice(None, None, s) for s in window.strides)
        + tuple(slice(None, None, d) for d in window.dilations)
    ]  # fmt: skip
    places = (stepped.shape[0], *stepped.shape[2 : x.ndim])
    at = np.unravel_index(_chosen(int(np.prod(places)), limit, seed), places)
    where: tuple[Any, ...] = (at[0], slice(None), *at[1:])
    taken = stepped[where]  # advanced indices come first: [n, channels, *kernel]
    return np.ascontiguousarray(taken).reshape(len(taken), groups, -1)


def _chosen(count: int, limit: int, seed: int) -> NDArray[np.intp]:
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False)).astype(np.intp)
