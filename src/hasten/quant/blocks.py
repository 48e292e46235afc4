"""Weights of four or eight bits in blocks, as ``MatMulNBits`` stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.quant.grid import SCALE_FLOOR, Grid

Array = NDArray[Any]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

GRIDS = {4: Grid(0, 15, "uint8"), 8: Grid(0, 255, "uint8")}


@dataclass(frozen=True)
class Blocks:
    """``W ~ (codes - zero) * scale`` along blocks of each output's weights.

    codes: uint8[out, blocks, block]; scales: float32[out, blocks]; zeros: uint8[out, blocks], or None where every
    block's zero point is the middle code, 8 or 128. ``k`` weights of an output are real, what follows is padding.
    """

    codes: U8
    scales: F32
    zeros: U8 | None
    bits: int
    k: int

    @property
    def middle(self) -> int:
        """The zero point of symmetric blocks."""
        return 1 << (self.bits - 1)

    @property
    def weights(self) -> F32:
        """What the codes stand for, float32[out, k]."""
        zeros = np.float32(self.middle) if self.zeros is None else self.zeros[..., None].astype(np.float32)
        values = (self.codes - zeros) * self.scales[..., None]
        return np.asarray(values.reshape(len(values), -1)[:, : self.k], np.float32)

    def packed(self) -> U8:
        """The operand B: uint8[out, blocks, block * bits / 8], of two codes in a byte the first in the low half."""
        if self.bits == 8:
            return self.codes
        return np.asarray(self.codes[..., 0::2] | (self.codes[..., 1::2] << 4), np.uint8)

    def packed_zeros(self) -> U8 | None:
        """The operand zero_points: uint8[out, ceil(blocks * bits / 8)], None for the middle code."""
        if self.zeros is None or self.bits == 8:
            return self.zeros
        even = np.pad(self.zeros, ((0, 0), (0, self.zeros.shape[1] % 2)), constant_values=self.middle)
        return np.asarray(even[:, 0::2] | (even[:, 1::2] << 4), np.uint8)


def split(w: Array, block: int) -> F32:
    """float32[out, k] as [out, blocks, block]; the last block is filled up with zeros."""
    w = np.asarray(w, np.float32)
    short = -w.shape[1] % block
    return (np.pad(w, ((0, 0), (0, short))) if short else w).reshape(len(w), -1, block)


def signed_scale(w: Array, bits: int) -> F32:
    """The symmetric scale of [..., block] whose lowest code, -8 or -128, is the weight of largest magnitude.

    It is negative where that weight is positive: no code is wasted, where ``absmax / 7`` never uses -8.
    """
    low, high = w.min(axis=-1), w.max(axis=-1)
    extreme = np.where(-low >= high, low, high)
    return _safe(extreme / np.float32(-(1 << (bits - 1))))


def affine_scale(w: Array, bits: int) -> tuple[F32, F32]:
    """Scale and zero point of [..., block] that cover its weights and 0."""
    low, high = np.minimum(w.min(axis=-1), 0), np.maximum(w.max(axis=-1), 0)
    scale = _safe((high - low) / np.float32(GRIDS[bits].qmax))
    return scale, np.clip(np.rint(-low / scale), 0, GRIDS[bits].qmax).astype(np.float32)


def _safe(scale: Array) -> F32:
    return np.where(np.abs(scale) < SCALE_FLOOR, np.float32(SCALE_FLOOR), scale).astype(np.float32)


def encode(w: Array, scale: Array, zero: Array | np.float32, bits: int) -> F32:
    """``clip(round(w / scale + zero))`` of [..., block], whole numbers as float32."""
    codes: F32 = np.asarray(w * (np.float32(1) / scale)[..., None], np.float32)
    codes += zero[..., None] if isinstance(zero, np.ndarray) else zero
    return np.clip(np.rint(codes, out=codes), 0, GRIDS[bits].qmax, out=codes)


def pack(codes: Array, scale: Array, zero: Array | None, bits: int, k: int) -> Blocks:
    """The arrays of the routines here as ``Blocks``."""
    zeros = None if zero is None else zero.astype(np.uint8)
    return Blocks(codes.astype(np.uint8), np.asarray(scale, np.float32), zeros, bits, k)


def nearest(w: Array, bits: int, block: int, *, symmetric: bool = True) -> Blocks:
    """Each weight of ``w`` [out, k] to its nearest code; the extremes of a block set its scale."""
    parts = split(w, block)
    if symmetric:
        scale = signed_scale(parts, bits)
        return pack(encode(parts, scale, np.float32(1 << (bits - 1)), bits), scale, None, bits, w.shape[1])
    scale, zero = affine_scale(parts, bits)
    return pack(encode(parts, scale, zero, bits), scale, zero, bits, w.shape[1])
