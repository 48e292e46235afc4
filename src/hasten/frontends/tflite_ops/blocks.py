"""Blocks of pixels to batches and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.frontends.tflite_call import DAMAGED, Call, Translate
from hasten.frontends.tflite_ops.slicing import cut


def space_to_batch(call: Call) -> ir.Value:
    """Pad, then pixels a block apart go to a batch of their own: [b, h, w, c] -> [block * block * b, h', w', c]."""
    (blocks, amounts), x = _blocks(call), call.real(0)
    size, n = call.tensor(0).shape, len(blocks)
    spread = np.zeros((call.rank(), 2), np.int64)
    spread[1 : 1 + n] = amounts
    x = call.emit("Pad", x, call.fixed(spread.T.reshape(-1))) if spread.any() else x
    padded = [s + int(a.sum()) for s, a in zip(size[1:], amounts, strict=False)]
    if any(p % b for p, b in zip(padded, blocks, strict=True)):
        raise call.refuse(f"{padded} does not divide into blocks of {blocks}", DAMAGED)
    split = [v for p, b in zip(padded, blocks, strict=True) for v in (p // b, b)]
    x = call.emit("Reshape", x, call.fixed(np.array([size[0], *split, *size[1 + n :]])))
    inner = [2 + 2 * i for i in range(n)]
    order = [*inner, 0, *(1 + 2 * i for i in range(n)), *range(1 + 2 * n, 1 + 2 * n + len(size) - 1 - n)]
    return call.emit("Reshape", call.emit("Transpose", x, perm=order), call.fixed(np.array(call.out().shape)))


def batch_to_space(call: Call) -> ir.Value:
    """The way back: batches to pixels, then crop."""
    (blocks, amounts), x = _blocks(call), call.real(0)
    size, n, every = call.tensor(0).shape, len(blocks), int(np.prod(blocks))
    if size[0] % every:
        raise call.refuse(f"a batch of {size[0]} does not divide into blocks of {blocks}", DAMAGED)
    x = call.emit("Reshape", x, call.fixed(np.array([*blocks, size[0] // every, *size[1:]])))
    order = [n, *(v for i in range(n) for v in (n + 1 + i, i)), *range(2 * n + 1, n + 1 + len(size) - 1)]
    whole = [size[0] // every, *(s * b for s, b in zip(size[1:], blocks, strict=False)), *size[1 + n :]]
    x = call.emit("Reshape", call.emit("Transpose", x, perm=order), call.fixed(np.array(whole)))
    for i, (before, behind) in enumerate(amounts.tolist()):
        if before or behind:
            x = cut(call, x, 1 + i, before, whole[1 + i] - behind)
    return x


def _blocks(call: Call) -> tuple[list[int], NDArray[np.int64]]:
    blocks, amounts = call.ints(1), call.known(2).astype(np.int64)
    small = amounts.shape == (len(blocks), 2) and not (amounts < 0).any() and (amounts < 1 << 31).all()
    if not small or not 0 < len(blocks) < call.rank() or min(blocks) < 1 or None in call.tensor(0).dims:
        raise call.refuse(f"its blocks are {blocks} with {amounts.tolist()} around {list(call.tensor(0).dims)}")
    return blocks, amounts


TABLE: dict[str, Translate] = {"BATCH_TO_SPACE_ND": batch_to_space, "SPACE_TO_BATCH_ND": space_to_batch}
