"""Every index of every axis of every tensor is a position; operators tie positions that only make sense together.

x[n, 64, h, w] -> Relu -> y[n, 64, h, w]     x's channel 5 and y's channel 5 are one
a[n, 8] , b[n, 8] -> Concat -> c[n, 16]      c's 9 is b's 1
x[n, 64, 7, 7] -> Flatten -> y[n, 3136]      y's 49 to 97 are x's channel 1

Positions that are tied stay or go together. One position stands for everything that must stay as it is; whatever is
tied to it stays too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hasten.graph import walk

Ids = NDArray[np.int64]
Axis = Ids | None  # the positions along an axis, or None where its size is unknown
STAYS = 0


def size(axis: Axis) -> int | None:
    """How many positions an axis has; None where that is unknown."""
    return None if axis is None else len(axis)


class Positions:
    """Hands out positions and collects ties; ``solve`` says which positions hang together."""

    def __init__(self) -> None:
        self._next = STAYS + 1
        self._axes: dict[ir.Value, list[Axis] | None] = {}
        self._ties: list[tuple[Ids, Ids]] = []

    def axes(self, value: ir.Value) -> list[Axis] | None:
        """The positions along each axis of ``value``; None when not even its rank is known."""
        if value not in self._axes:
            sizes = _sizes(value)
            self._axes[value] = None if sizes is None else [self._new(size) for size in sizes]
        return self._axes[value]

    def declare(self, value: ir.Value, sizes: list[int | None]) -> None:
        """Sizes that are known better than the graph says, before anybody asks for the axes of ``value``."""
        if value not in self._axes:
            said = _sizes(value) or [None] * len(sizes)
            merged = [a if a is not None else b for a, b in zip(sizes, said, strict=True)]
            self._axes[value] = [self._new(size) for size in merged]

    def known(self) -> dict[ir.Value, list[Axis]]:
        """All values asked for so far whose rank is known."""
        return {value: axes for value, axes in self._axes.items() if axes is not None}

    def _new(self, size: int | None) -> Axis:
        if size is None:
            return None
        self._next += size
        return np.arange(self._next - size, self._next, dtype=np.int64)

    def tie(self, a: Axis, b: Axis) -> None:
        """The i-th of ``a`` and the i-th of ``b`` go together; what has no counterpart stays."""
        if a is None or b is None or len(a) != len(b):
            self.stay(a, b)
        else:
            self._ties.append((a, b))

    def stay(self, *axes: Axis) -> None:
        """These positions can never go."""
        self._ties.extend((axis, np.full_like(axis, STAYS)) for axis in axes if axis is not None)

    def stay_whole(self, value: ir.Value | None) -> None:
        """No axis of ``value`` may change."""
        self.stay(*(() if value is None else self.axes(value) or ()))

    def solve(self) -> Ids:
        """For each position the lowest one that it hangs together with; ``STAYS`` for those that cannot go."""
        return lowest_of_each(self._next, self._ties)


def lowest_of_each(count: int, ties: Sequence[tuple[Ids, Ids]]) -> Ids:
    """For each of ``count`` numbers the lowest one that ``ties`` connect it with."""
    if not ties:
        return np.arange(count, dtype=np.int64)
    a, b = (np.concatenate(side) for side in zip(*ties, strict=True))
    graph: Any = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    lowest = np.full(component.max() + 1, count, dtype=np.int64)
    np.minimum.at(lowest, component, np.arange(count))
    found: Ids = lowest[component]
    return found


def _sizes(value: ir.Value) -> list[int | None] | None:
    array = walk.constant(value)
    if array is not None:
        return list(array.shape)
    if value.shape is None:
        return None
    return [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape]
