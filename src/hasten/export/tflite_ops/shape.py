"""Operators that move, pick, repeat or make elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from hasten.export.tflite_ops.rules import Table
from hasten.export.tflite_step import Rule, Step
from hasten.graph import walk

FAR = 1 << 30


def reshape(s: Step) -> None:
    shape = walk.constant(s.value(1))
    if shape is None:
        s.emit("RESHAPE", [s.input(0), s.index(1)])
        return
    own = s.writer.dims(s.outs[0])
    sizes = [int(v) for v in shape.reshape(-1)]
    sizes = [own[i] or -1 if v == 0 and not s.attr("allowzero", 0) else v for i, v in enumerate(sizes)]
    _to(s, own if sizes.count(-1) > 1 else [None if v == -1 else v for v in sizes])


def _to(s: Step, shape: list[int | None]) -> None:
    """RESHAPE to sizes of which one may be free."""
    sizes = [-1 if d is None else d for d in shape]
    if sizes.count(-1) > 1:
        raise s.refuse("more than one size of its output is free")
    s.emit("RESHAPE", [s.input(0), s.int32(sizes)], "ReshapeOptions", newShape=np.array(sizes, np.int32))


def squeeze(s: Step) -> None:
    own = s.writer.dims(s.outs[0])
    if own.count(None) < 2:
        _to(s, own)
        return
    axes = s.ints(1) if s.given(1) else [i for i, d in enumerate(s.dims()) if d == 1]
    s.emit("SQUEEZE", [s.input(0)], "SqueezeOptions", squeezeDims=np.array(axes, np.int32))


def unsqueeze(s: Step) -> None:
    own = s.writer.dims(s.outs[0])
    if own.count(None) < 2:
        _to(s, own)
        return
    axes = sorted(a % len(own) for a in s.ints(1))
    x, dims = s.input(0), s.dims()
    for axis in axes[:-1]:
        dims = [*dims[:axis], 1, *dims[axis:]]
        made = s.inner(dims, _dtype(s), s.grid() if s.int8 else None)
        x = s.operator("EXPAND_DIMS", [x, s.int32(axis)], [made], "ExpandDimsOptions")
    s.emit("EXPAND_DIMS", [x, s.int32(axes[-1])], "ExpandDimsOptions")


def _dtype(s: Step) -> str:
    kind = s.value(0).dtype
    return "int8" if s.int8 else kind.numpy().name if kind is not None else "float32"


def transpose(s: Step) -> None:
    order = s.attr("perm", list(range(len(s.dims())))[::-1])
    s.emit("TRANSPOSE", [s.input(0), s.int32(order)], "TransposeOptions")


def concat(s: Step) -> None:
    """On codes all parts take the grid of the whole."""
    parts = [s.input(k) for k in range(len(s.node.inputs))]
    if s.int8:
        wanted = s.wanted()
        for k, part in enumerate(parts):
            if not s.grid(k).near(wanted):
                parts[k] = s.operator("QUANTIZE", [part], [s.inner(s.dims(k), grid=wanted)])
    s.emit("CONCATENATION", parts, "ConcatenationOptions", axis=s.axis(0))


def split(s: Step) -> None:
    axis, count = s.axis(0), len(s.outs)
    sizes = s.ints(1) if s.given(1) else [int(n) for n in s.attr("split", [])]
    sizes = sizes or _even(s.size(0, axis), count)
    if len(set(sizes)) == 1:
        s.emit("SPLIT", [s.int32(axis), s.input(0)], "SplitOptions", numSplits=count)
    else:
        s.emit("SPLIT_V", [s.input(0), s.int32(sizes), s.int32(axis)], "SplitVOptions", numSplits=count)


def _even(size: int, count: int) -> list[int]:
    """Equal parts, the last one smaller where they do not fit."""
    part = -(-size // count)
    return [*[part] * (count - 1), size - part * (count - 1)]


def slice_(s: Step) -> None:
    """STRIDED_SLICE, with whole axes and open ends in its masks, so that free sizes stay free."""
    rank, count = len(s.dims()), int(s.dims(1)[0] or 0)
    axes = [a % rank for a in s.ints(3)] if s.given(3) else list(range(count))
    steps = s.ints(4) if s.given(4) else [1] * count
    signs = [0] * rank
    stride = [1] * rank
    for a, step in zip(axes, steps, strict=True):
        signs[a], stride[a] = (1 if step > 0 else -1), int(np.clip(step, -FAR, FAR))
    begin, begin_mask = _ends(s, 1, axes, [0 if v > 0 else FAR for v in signs])
    end, end_mask = _ends(s, 2, axes, [FAR if v > 0 else -FAR for v in signs])
    vectors = [begin, end, s.int32(stride)]
    s.emit("STRIDED_SLICE", [s.input(0), *vectors], "StridedSliceOptions", beginMask=begin_mask, endMask=end_mask)


def _ends(s: Step, k: int, axes: list[int], edges: list[int]) -> tuple[int, int]:
    """A number for each axis, and the mask of axes that start or end at their edge; computed ones are put together."""
    rank, mask = len(edges), (1 << len(edges)) - 1
    numbers = walk.constant(s.value(k))
    if numbers is not None:
        vector = [0] * rank
        for a, number in zip(axes, numbers.reshape(-1).tolist(), strict=True):
            at_edge = number >= FAR if edges[a] == FAR else number <= -FAR if edges[a] == -FAR else number == 0
            vector[a], mask = int(np.clip(number, -FAR, FAR)), mask & ~(0 if at_edge else 1 << a)
        return s.int32(vector), mask
    first, behind = axes[0], axes[-1] + 1
    if axes != list(range(first, behind)):
        raise s.refuse("its places are computed, and the axes do not follow each other")
    parts = [s.int32([0] * first)] * bool(first) + [s.index(k)] + [s.int32([0] * (rank - behind))] * (behind < rank)
    for a in axes:
        mask &= ~(1 << a)
    if len(parts) == 1:
        return parts[0], mask
    return s.plain("CONCATENATION", parts, [rank], "ConcatenationOptions", axis=0), mask


def pad(s: Step) -> None:
    rank, mode = len(s.dims()), s.attr("mode", "constant")
    if walk.constant(s.value(1)) is None and mode == "constant" and not s.given(2) and not s.given(3):
        pairs = s.plain("RESHAPE", [s.index(1), s.int32([2, rank])], [2, rank], "")
        s.emit("PAD", [s.input(0), s.plain("TRANSPOSE", [pairs, s.int32([1, 0])], [rank, 2], "")], "PadOptions")
        return
    amounts = np.array(s.ints(1)).reshape(2, -1).T
    spread = np.zeros((rank, 2), np.int32)
    spread[[a % rank for a in s.ints(3)] if s.given(3) else range(rank)] = amounts
    if (spread < 0).any() or mode not in ("constant", "reflect"):
        raise s.refuse(f"its mode is {mode}, or it cuts")
    fill = s.known(2).reshape(()) if s.given(2) else np.float32(0)
    if mode == "reflect":
        s.emit("MIRROR_PAD", [s.input(0), s.int32(spread)], "MirrorPadOptions", mode=0)
    elif fill == 0:
        s.emit("PAD", [s.input(0), s.int32(spread)], "PadOptions")
    elif s.int8:
        grid = s.grid()
        code = np.clip(np.rint(fill / np.float32(grid.scale[0])) + grid.zero[0], -128, 127).astype(np.int8)
        s.emit("PADV2", [s.input(0), s.int32(spread), s.constant(code, grid)], "PadV2Options")
    else:
        s.emit("PADV2", [s.input(0), s.int32(spread), s.constant(fill)], "PadV2Options")


def reverse_sequence(s: Step) -> None:
    axes: dict[str, Any] = {"seqDim": int(s.attr("time_axis", 0)), "batchDim": int(s.attr("batch_axis", 1))}
    s.emit("REVERSE_SEQUENCE", [s.input(0), s.index(1)], "ReverseSequenceOptions", **axes)


def tile(s: Step) -> None:
    s.emit("TILE", [s.input(0), s.index(1)], "TileOptions")


def expand(s: Step) -> None:
    own = s.writer.dims(s.outs[0])
    shape = s.index(1) if None in own else s.int32(own)
    s.emit("BROADCAST_TO", [s.input(0), shape], "BroadcastToOptions")


def shape(s: Step) -> None:
    """All sizes, or those from ``start`` to ``end``."""
    rank = len(s.dims())
    start, end = int(s.attr("start", 0)), int(s.attr("end", rank))
    if (start, end) == (0, rank):
        s.emit("SHAPE", [s.input(0)], "ShapeOptions", outType=4)
        return
    whole = s.operator("SHAPE", [s.input(0)], [s.inner([rank], "int64")], "ShapeOptions", outType=4)
    s.emit("STRIDED_SLICE", [whole, s.int32([start]), s.int32([end]), s.int32([1])], "StridedSliceOptions")


def constant_of_shape(s: Step) -> None:
    value = s.attr("value", None)
    number = np.float32(0) if value is None else value.numpy().reshape(())
    s.emit("FILL", [s.index(0), s.constant(number)], "FillOptions")


def range_(s: Step) -> None:
    s.emit("RANGE", [s.input(k) for k in range(3)], "RangeOptions")


def non_zero(s: Step) -> None:
    """WHERE gives a row a place, NonZero a column."""
    rank = len(s.dims())
    rows = s.operator("WHERE", [s.input(0)], [s.inner([None, rank], "int64")], "WhereOptions")
    s.emit("TRANSPOSE", [rows, s.int32([1, 0])], "TransposeOptions")


TABLE: Table = {
    "Concat": Rule(concat, int8="any"),
    "ConstantOfShape": Rule(constant_of_shape),
    "Expand": Rule(expand, int8="same"),
    "NonZero": Rule(non_zero),
    "Pad": Rule(pad, int8="same"),
    "Range": Rule(range_),
    "Reshape": Rule(reshape, int8="same"),
    "ReverseSequence": Rule(reverse_sequence),
    "Shape": Rule(shape),
    "Slice": Rule(slice_, int8="same"),
    "Split": Rule(split, int8="same"),
    "Squeeze": Rule(squeeze, int8="same"),
    "Tile": Rule(tile, int8="same"),
    "Transpose": Rule(transpose, int8="same"),
    "Unsqueeze": Rule(unsqueeze, int8="same"),
}
