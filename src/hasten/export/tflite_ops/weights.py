"""Weights and biases of the linear operators: floats, int8 by channel, and int8 under float activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.export.tflite_file import Grid, numbers
from hasten.export.tflite_step import Step
from hasten.graph import walk

INT32 = 2**31 - 1


def weights(s: Step, perm: Sequence[int]) -> tuple[int, Grid | None]:
    """The weights of input 1 with their axes in the order ``perm``; and their grid when they are int8.

    Under float activations int8 weights make LiteRT round those as they come: its dynamic, or hybrid, kernels.
    """
    value = s.value(1)
    stored, name = s.writer.stored(value), value.name or "weights"
    if stored is not None and not any(stored[1].zero):
        codes, grid = stored
        turned = Grid(grid.scale, grid.zero, list(perm).index(grid.axis) if len(grid.scale) > 1 else 0)
        return s.writer.file.constant(name, codes.transpose(perm), turned), turned
    array = walk.constant(value) if stored is None else numbers(*stored)
    if array is not None:
        return s.writer.file.constant(name, array.transpose(perm)), None
    shape = [s.dims(1)[i] for i in perm]  # computed: turned at run time
    return s.operator("TRANSPOSE", [s.writer.real(value), s.int32(perm)], [s.inner(shape)], "TransposeOptions"), None


def bias(s: Step, k: int, grid: Grid | None, channels: int) -> int:
    """The bias of input ``k``, zeros where there is none; int32 at the accumulator's scale when the node is int8."""
    if s.given(k):
        stored = s.writer.stored(s.value(k))
        found = walk.constant(s.value(k))
        if stored is not None:
            found = numbers(*stored)
        if found is None:
            raise s.refuse("its bias is computed")
        array = found.astype(np.float64).reshape(-1)
    else:
        array = np.zeros(channels)
    if not s.int8 or grid is None:
        return s.constant(array.astype(np.float32))
    scale = np.float32(s.grid().scale[0]) * np.array(grid.scale, np.float32)
    codes = np.clip(np.rint(array / scale.astype(np.float64)), -INT32, INT32).astype(np.int32)
    return s.constant(codes, Grid(tuple(float(v) for v in scale), (0,) * scale.size, 0))
