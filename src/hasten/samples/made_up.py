"""Inputs for a network whose owner gave no data: random numbers of the right shapes and types. They prove nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hasten.model import TensorSpec
from hasten.samples.fit import ANY_RANK
from hasten.samples.store import numpy_dtype
from hasten.samples.stream import Array

COUNT = 32
SIZES = (224, 64, 512, 32, 128, 16, 256, 1)  # tried for dimensions that are free, until the network runs
STEPS = 4  # of a network with state


def made_up(inputs: tuple[TensorSpec, ...], state: Mapping[str, str], size: int) -> list[dict[str, Array]]:
    """``COUNT`` samples, the same every time. Free dimensions are ``size`` long, the batch is one.

    Floats are drawn from a normal distribution, images of bytes from all bytes. Whole numbers are 0 or 1, which are
    valid indices everywhere; masks and booleans are all ones, so that nothing is divided by nothing.
    """
    rng = np.random.default_rng(0)
    fed = [spec for spec in inputs if spec.name not in state]
    return [{spec.name: _array(spec, size, rng, STEPS if state else 0) for spec in fed} for _ in range(COUNT)]


def _array(spec: TensorSpec, size: int, rng: np.random.Generator, steps: int) -> Array:
    dims = () if spec.shape == (ANY_RANK,) else spec.shape
    shape = [d if isinstance(d, int) else 1 if axis == 0 else size for axis, d in enumerate(dims)]
    shape = [steps, *shape] if steps and shape else shape
    dtype = numpy_dtype(spec.dtype)
    if dtype.kind == "b" or "mask" in spec.name.lower():
        return np.ones(shape, dtype)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    numbers: NDArray[np.int64] | NDArray[np.float64]
    numbers = rng.integers(0, 2, shape) if dtype.kind in "iu" else rng.standard_normal(shape)
    return np.asarray(numbers).astype(dtype)
