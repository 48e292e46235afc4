"""Integer grids: what a scale and a zero point can represent, and the rounding of ONNX QuantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
F32 = NDArray[np.float32]

SCALE_FLOOR = 2.0**-60  # the product of two scales (a bias scale) must stay above float32's denormals, 2**-126
_BIAS_MAX = 2**31 - 1


@dataclass(frozen=True)
class Grid:
    """The integers from ``qmin`` to ``qmax`` stored as ``dtype`` (numpy's name)."""

    qmin: int
    qmax: int
    dtype: str

    @property
    def levels(self) -> int:
        """Steps between the two ends: ``qmax - qmin``."""
        return self.qmax - self.qmin


U8 = Grid(0, 255, "uint8")  # activations
S8 = Grid(-127, 127, "int8")  # weights: narrow, so that +absmax and -absmax are both exact
S8_FULL = Grid(-128, 127, "int8")  # signed activations
S7 = Grid(-64, 64, "int8")  # weights where u8 x s8 pairs saturate in int16 (x86 without VNNI)


def affine(low: ArrayLike, high: ArrayLike, grid: Grid) -> tuple[F32, Array]:
    """Scale (float32) and zero point (``grid.dtype``) that cover ``[low, high]``; arrays give one pair per element.

    The range is widened to hold 0, so that 0.0 (padding, ReLU) is represented exactly:
    ``scale = (high - low) / levels``, ``zero_point = round(qmin - low / scale)`` (Jacob et al. 2018, section 3).
    """
    low64 = np.minimum(np.asarray(low, np.float64), 0.0)
    high64 = np.maximum(np.asarray(high, np.float64), 0.0)
    scale = np.asarray(np.maximum((high64 - low64) / grid.levels, SCALE_FLOOR), np.float32)
    zero = np.clip(np.rint(grid.qmin - low64 / scale.astype(np.float64)), grid.qmin, grid.qmax)
    return scale, np.asarray(zero, grid.dtype)


def symmetric(absmax: ArrayLike, grid: Grid) -> tuple[F32, Array]:
    """Scale and zero point 0 (the middle of an unsigned grid) that cover ``[-absmax, absmax]``, elementwise."""
    middle = (grid.qmin + grid.qmax + 1) // 2
    reach = min(grid.qmax - middle, middle - grid.qmin)
    scale = np.asarray(np.maximum(np.asarray(absmax, np.float64) / reach, SCALE_FLOOR), np.float32)
    return scale, np.full(scale.shape, middle, grid.dtype)


def activation_grid(low: float, high: float) -> tuple[np.float32, Array]:
    """uint8 scale and zero point; the largest code never passes ``high``, so that a Clip there is redundant."""
    scale, zero = affine(low, high, U8)
    return np.float32(np.nextafter(scale, np.float32(0))), zero


def product_grid(low: float, high: float) -> tuple[np.float32, Array]:
    """For an operand of a product of two computed tensors, whose zero point must be 0: int8, or uint8 above zero."""
    if low >= 0:
        scale, _ = affine(0, high, U8)
        return np.float32(scale), np.asarray(0, np.uint8)
    scale, _ = symmetric(max(-low, high), S8)
    return np.float32(scale), np.asarray(0, np.int8)


def hardswish_grid(high: float) -> tuple[np.float32, Array]:
    """Codes for the input of HardSwish, which is 0 below -3: the range starts there, with 3 a whole number of steps."""
    steps = min(int(3 * U8.levels / (max(high, 0.0) + 3)), U8.levels)
    return np.float32(3 / max(steps, 1)), np.asarray(steps, np.uint8)


def quantize(x: Array, scale: ArrayLike, zero_point: ArrayLike, grid: Grid, axis: int | None = None) -> Array:
    """``clip(round_half_even(x / scale) + zero_point)`` as ONNX QuantizeLinear does it, in float32.

    ``axis`` names the channel axis when ``scale`` and ``zero_point`` are vectors.
    """
    x = np.asarray(x, np.float32)
    codes = np.rint(x / _along(np.asarray(scale, np.float32), x.ndim, axis))
    codes += _along(np.asarray(zero_point, np.float32), x.ndim, axis)
    return np.clip(codes, grid.qmin, grid.qmax).astype(grid.dtype)


def dequantize(codes: Array, scale: ArrayLike, zero_point: ArrayLike, axis: int | None = None) -> F32:
    """``(codes - zero_point) * scale`` in float32, as ONNX DequantizeLinear does it."""
    codes = np.asarray(codes)
    offset = codes.astype(np.int32) - _along(np.asarray(zero_point, np.int32), codes.ndim, axis)
    return np.asarray(offset * _along(np.asarray(scale, np.float32), codes.ndim, axis), np.float32)


def fake_quantize(x: Array, scale: ArrayLike, zero_point: ArrayLike, grid: Grid, axis: int | None = None) -> F32:
    """``x`` after a round trip through the grid: what the next layer of the integer network sees."""
    return dequantize(quantize(x, scale, zero_point, grid, axis), scale, zero_point, axis)


def bias_scale(input_scale: ArrayLike, weight_scale: ArrayLike) -> F32:
    """The scale of the int32 accumulator, hence of the bias: ``input_scale * weight_scale``, zero point 0."""
    return np.asarray(np.asarray(input_scale, np.float32) * np.asarray(weight_scale, np.float32), np.float32)


def quantize_bias(bias: Array, input_scale: ArrayLike, weight_scale: ArrayLike) -> tuple[NDArray[np.int32], F32]:
    """Bias codes (int32) and their scale.

    Raises:
        OverflowError: a channel does not fit int32; widen its weight scale with ``fit_weight_scale`` first.
    """
    scale = bias_scale(input_scale, weight_scale)
    codes = np.rint(np.asarray(bias, np.float64) / scale.astype(np.float64))
    bad = np.flatnonzero(np.abs(codes) > _BIAS_MAX)
    if bad.size:
        raise OverflowError(
            f"the bias of channel {bad[0]} does not fit int32 at scale {scale.flat[bad[0] % scale.size]:g}"
        )
    return codes.astype(np.int32), scale


def fit_weight_scale(weight_scale: ArrayLike, bias: Array, input_scale: ArrayLike) -> F32:
    """``weight_scale`` raised where the bias would leave int32: channels of (almost) zero weights need it."""
    # a quarter of int32 stays free for the products that the accumulator adds to the bias
    least = np.abs(np.asarray(bias, np.float64)) / (np.asarray(input_scale, np.float64) * (0.75 * _BIAS_MAX))
    return np.asarray(np.maximum(np.asarray(weight_scale, np.float64), least), np.float32)


def sqnr(x: Array, y: Array) -> float:
    """Signal to quantization noise ``10 log10(sum(x**2) / sum((x - y)**2))`` in dB; ``inf`` when nothing changed."""
    signal = float(np.sum(np.square(x, dtype=np.float64)))
    noise = float(np.sum(np.square(np.subtract(x, y, dtype=np.float64))))
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def _along(vector: Array, rank: int, axis: int | None) -> Array:
    """A vector shaped to broadcast along ``axis`` of an array of that rank."""
    if vector.ndim == 0 or axis is None:
        return vector
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)
