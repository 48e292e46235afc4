"""How far each channel of an inner tensor reaches over the calibrate split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.graph import taps
from hasten.model import Model
from hasten.protocols import Feeds

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """Lowest and highest value, mean and mean square of each channel, float64[channels]."""

    low: F64
    high: F64
    mean: F64
    square: F64
    count: int

    @property
    def deviation(self) -> F64:
        """The standard deviation of each channel."""
        return np.asarray(np.sqrt(np.maximum(self.square - self.mean**2, 0)))

    @property
    def size(self) -> F64:
        """The largest magnitude of each channel."""
        return np.maximum(-self.low, self.high)

    def joined(self, other: Reach) -> Reach:
        """Of both streams together."""
        total = self.count + other.count
        mean = (self.mean * self.count + other.mean * other.count) / total
        square = (self.square * self.count + other.square * other.count) / total
        return Reach(np.minimum(self.low, other.low), np.maximum(self.high, other.high), mean, square, total)


def reaches(model: Model, axes: Mapping[str, int], feeds: Callable[[], Iterator[Feeds]]) -> dict[str, Reach]:
    """The reach of each tensor of ``axes`` along the axis given for it; those never computed are left out.

    Raises:
        InputError: as ``graph.taps.collect``.
    """
    found: dict[str, Reach] = {}

    def take(name: str, array: Any) -> None:
        if array.size:
            one = reach(array, axes[name])
            found[name] = found[name].joined(one) if name in found else one

    taps.stream(model, list(axes), feeds, take)
    return found


def reach(array: Any, axis: int) -> Reach:
    """Of one array."""
    flat = np.moveaxis(np.asarray(array, np.float32), axis, 0).reshape(array.shape[axis], -1)
    mean, square = flat.mean(axis=1, dtype=np.float64), np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
    low, high = flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
    return Reach(low, high, mean, square / flat.shape[1], flat.shape[1])
