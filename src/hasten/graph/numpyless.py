"""Sessions of ONNX Runtime whose inputs or outputs are bfloat16, a type that its binding to numpy lacks."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NARROW, NAME, CODE = "tensor(bfloat16)", "bfloat16", 16  # ONNX Runtime's, numpy's and ONNX's names for it


class BFloatSession:
    """A session that takes arrays of ``ml_dtypes.bfloat16``, and returns such outputs as float32."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, wanted: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """As ``InferenceSession.run``."""
        fed = {name: as_value(array) for name, array in feeds.items()}
        return [_array(value) for value in self._session.run_with_ort_values(wanted, fed)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def able(session: Any) -> Any:
    """``session`` itself, or where one of its ends is bfloat16 one whose ``run`` copes with that."""
    narrow = any(end.type == NARROW for end in (*session.get_inputs(), *session.get_outputs()))
    return BFloatSession(session) if narrow else session


def as_value(array: Array) -> Any:
    """An array in the runtime's memory."""
    import onnxruntime as ort

    array = np.ascontiguousarray(array).reshape(np.shape(array))
    if array.dtype.name != NAME:
        return ort.OrtValue.ortvalue_from_numpy(array)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), CODE)


def _array(value: Any) -> Array:
    if value.data_type() != NARROW:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    if not prod(shape):
        return np.empty(shape, np.float32)
    held = ctypes.cast(value.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    return from_bits(np.ctypeslib.as_array(held, shape))


def from_bits(bits: Array) -> Array:
    """The numbers of bfloat16 that lie in an array of 16 bits, whatever its type claims, as float32."""
    return np.asarray((bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
