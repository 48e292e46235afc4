"""Scales of blocks by least squares: k-quants (llama.cpp) without data, scale estimation (NNCF) with a Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.quant.blocks import GRIDS, Blocks, affine_scale, encode, pack, signed_scale, split

Array = NDArray[Any]
F32 = NDArray[np.float32]
Zero = F32 | np.float32  # one a block, or the middle code of symmetric blocks

STEPS = 20  # of k-quant's search
RECTIFICATIONS, SHRINKS = 5, 10  # of scale estimation


def kquant(w: Array, bits: int, block: int, *, symmetric: bool = False, importance: Array | None = None) -> Blocks:
    """The scale and zero point of least weighted error in each block of ``w`` [out, k].

    A weight counts ``a = |w| + rms(w)``, or ``importance * sqrt(rms**2 + w**2)`` with the mean square of each input
    (float[k], llama.cpp's importance matrix). For k = 0..19 codes are taken at ``iscale = (qmax - 1 + 0.1 k) /
    (max - min)``; the scale and minimum that fit them best follow in closed form. The zero point must be whole, so
    codes are taken again with it and the scale is fitted again. Symmetric blocks try 19 scales around plain rounding's.
    Plain rounding itself stays where nothing is better.
    """
    parts = split(w, block)
    a = _emphasis(parts, block, importance)
    plain, zero = _plain(parts, bits, symmetric)
    taken, fitted, most = plain, plain, np.full(plain.shape, -np.inf, np.float32)
    tries = _around(plain, bits) if symmetric else _fits(parts, a, bits)
    for scale, at in tries:
        t = encode(parts, scale, at if at is not None else zero, bits)
        t -= _wide(at if at is not None else zero)
        weighted = a * t
        below, above = _dot(weighted, t), _dot(weighted, parts)
        refitted = above / np.where(below > 0, below, 1)
        gain = refitted * above  # the error is sum(a w w) less this
        better = (gain > most) & (np.abs(refitted) > 1e-30)
        most, taken = np.where(better, gain, most), np.where(better, scale, taken)
        fitted = np.where(better, refitted, fitted)
        if at is not None:
            zero = np.where(better, at, zero)
    return _better(parts, a, (taken, fitted, zero), bits, symmetric, w.shape[1])


def _better(parts: F32, a: F32, found: tuple[F32, F32, Zero], bits: int, symmetric: bool, k: int) -> Blocks:
    """The codes at ``found`` = (scale they are taken at, scale they stand for, zero) where they beat plain rounding."""
    taken, fitted, zero = found
    plain, plain_zero = _plain(parts, bits, symmetric)
    codes, simple = encode(parts, taken, zero, bits), encode(parts, plain, plain_zero, bits)

    def error(codes: F32, scale: F32, zero: Zero) -> F32:
        d = (codes - _wide(zero)) * scale[..., None] - parts
        return _dot(a * d, d)

    better = error(codes, fitted, zero) < error(simple, plain, plain_zero)
    codes = np.where(better[..., None], codes, simple)
    zeros = None if symmetric else np.where(better, zero, plain_zero)
    return pack(codes, np.where(better, fitted, plain), zeros, bits, k)


def _plain(parts: F32, bits: int, symmetric: bool) -> tuple[F32, Zero]:
    return (signed_scale(parts, bits), np.float32(1 << (bits - 1))) if symmetric else affine_scale(parts, bits)


def _wide(zero: Zero) -> F32 | np.float32:
    return zero[..., None] if isinstance(zero, np.ndarray) else zero


def _dot(a: Array, b: Array) -> F32:
    return np.asarray(np.einsum("...i,...i->...", a, b), np.float32)


def _emphasis(parts: F32, block: int, importance: Array | None) -> F32:
    square = np.square(parts).mean(axis=-1, keepdims=True)
    if importance is None:
        return np.asarray(np.abs(parts) + np.sqrt(square), np.float32)
    weight = split(importance[None], block)
    return np.asarray(weight * np.sqrt(square + np.square(parts)), np.float32)


def _around(plain: F32, bits: int) -> Iterator[tuple[F32, None]]:
    """Scales of symmetric blocks: make_qx_quants of llama.cpp, ``iscale * (1 + 0.1 step / middle)``."""
    for step in range(-9, 10):
        yield plain / np.float32(1 + 0.1 * step / (1 << (bits - 1))), None


def _fits(parts: F32, a: F32, bits: int) -> Iterator[tuple[F32, F32]]:
    """(scale, zero) of least ``sum a (scale l + min - w)**2`` for the codes l taken at each step.

    ``D = sum(a) sum(a l l) - sum(a l)**2``; ``scale = (sum(a) sum(a l w) - sum(a w) sum(a l)) / D``;
    ``min = (sum(a l l) sum(a w) - sum(a l) sum(a l w)) / D``; ``zero = round(-min / scale)``.
    """
    top = np.float32(GRIDS[bits].qmax)
    low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    width = np.where(high > low, high - low, np.float32(1))
    shifted, sa, sw = parts - low[..., None], a.sum(-1), _dot(a, parts)
    for k in range(STEPS):
        step = (width / (top - 1 + np.float32(0.1 * k))).astype(np.float32)
        codes = encode(shifted, step, np.float32(0), bits)
        al = a * codes
        sl, sll, slw = al.sum(-1), _dot(al, codes), _dot(al, parts)
        d = sa * sll - sl * sl
        scale = (sa * slw - sw * sl) / np.where(d > 0, d, 1)
        sound = (d > 1e-6 * sa * sll) & (scale > 0)
        scale = np.where(sound, scale, step)
        minimum = np.where(sound, (sll * sw - sl * slw) / np.where(d > 0, d, 1), low)
        yield scale, np.clip(np.rint(-minimum / scale), 0, top)


def scale_estimation(w: Array, bits: int, block: int, total: Array, sizes: Array, *, symmetric: bool = True) -> Blocks:
    """Scales of least output error, block by block (NNCF's scale estimation), with zero points as by rounding.

    The ideal scale of a weight is ``|w| / |t|`` with ``t`` its code less the zero point; a block's is their mean,
    weighted with the mean magnitude of each input (``sizes`` float[k]) where t is not 0. Five times codes and scale
    are taken in turn; then from each of ten smaller scales. A block keeps what lowers ``D G D'`` over its own columns
    of ``total`` (sum x x', float[k, k]), starting from plain rounding.
    """
    k = w.shape[1]
    parts = np.ascontiguousarray(split(w, block).transpose(1, 0, 2))  # [blocks, out, block], for one product a block
    own = _diagonal(total, block)
    weight = split(np.asarray(sizes, np.float32)[None], block).transpose(1, 0, 2)
    plain, zero = _plain(parts, bits, symmetric)

    def error(t: F32, scale: F32) -> F32:
        d = t * scale[..., None] - parts
        return _dot(d @ own, d)

    def rectified(t: F32) -> F32:
        size = np.abs(t)
        a = weight * (size > 0)
        ideal = _dot(a / np.maximum(size, 1), np.abs(parts)) / np.maximum(a.sum(-1), 1e-30)
        return np.where(ideal > 0, np.copysign(ideal, plain), plain).astype(np.float32)

    t = encode(parts, plain, zero, bits) - _wide(zero)
    best, kept, least = plain, t, error(t, plain)
    for step in range(RECTIFICATIONS + SHRINKS):
        if step >= RECTIFICATIONS:
            t = encode(parts, plain * np.float32(1 - 0.05 * (step - RECTIFICATIONS)), zero, bits) - _wide(zero)
        scale = rectified(t)
        t = encode(parts, scale, zero, bits) - _wide(zero)
        loss = error(t, scale)
        better = loss < least
        best, least = np.where(better, scale, best), np.minimum(loss, least)
        kept = np.where(better[..., None], t, kept)
    codes = (kept + _wide(zero)).transpose(1, 0, 2)
    return pack(codes, best.T, None if symmetric else np.asarray(zero).T, bits, k)


def _diagonal(total: Array, block: int) -> F32:
    """The square blocks on the diagonal of a Gram matrix, float32[blocks, block, block], filled up with zeros."""
    k = len(total)
    count = -(-k // block)
    found = np.zeros((count, block, block), np.float32)
    unit = max(float(np.abs(np.diag(total)).max()), 1e-30)
    for i in range(count):
        part = total[i * block : (i + 1) * block, i * block : (i + 1) * block]
        found[i, : len(part), : len(part)] = part / unit
    return found
