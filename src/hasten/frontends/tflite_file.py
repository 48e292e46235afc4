"""What a TensorFlow Lite file holds, as values; ``tflite_reader`` has checked every number in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CODES = ("int4", "int8", "uint8", "int16")


@dataclass(frozen=True)
class Quantization:
    """``(codes - zero) * scale``: vectors of one element, or of one a slice along ``axis``."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    axis: int

    @property
    def per_axis(self) -> bool:
        """True when there is more than one scale."""
        return self.scale.size > 1


@dataclass(frozen=True)
class Tensor:
    """``dims`` holds None where the size is free and ``shape`` the size it stands for; ``data`` only for constants."""

    index: int
    name: str
    shape: tuple[int, ...]
    dims: tuple[int | None, ...]
    dtype: str
    data: Array | None = None
    quantization: Quantization | None = None
    variable: bool = False

    @property
    def quantized(self) -> bool:
        """True for integer codes of real numbers."""
        return self.quantization is not None and self.dtype in CODES


@dataclass(frozen=True)
class Operator:
    """``kind`` is the schema's name. ``inputs`` and ``outputs`` are tensor indices; -1 is an input left out."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = field(default_factory=SimpleNamespace)


@dataclass(frozen=True)
class File:
    """The main subgraph. ``inputs`` and ``outputs`` are (public name, tensor index) in the file's order."""

    path: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    producer: str = ""


def number_type(dtype: str) -> np.dtype[Any]:
    """numpy's type by name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def numbers(array: Array, grid: Quantization | None, axis: int | None = None) -> Array:
    """A constant as numbers: half floats and codes become float32, the rest stays. ``axis`` is where the scales'
    axis lies now, if not in its own place."""
    if grid is not None:
        along = grid.axis if axis is None else axis
        shape = [-1 if i == along and grid.per_axis else 1 for i in range(array.ndim)]
        scale, zero = grid.scale.astype(np.float64).reshape(shape), grid.zero.reshape(shape)
        return np.asarray((array.astype(np.int64) - zero) * scale, np.float32).reshape(array.shape)
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array
