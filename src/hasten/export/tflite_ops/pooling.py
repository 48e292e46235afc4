"""Pooling, resizing and blocks of pixels, channels last; their inputs are turned already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hasten.export.tflite_ops.convolution import SAME, VALID, amounts, padded, same
from hasten.export.tflite_ops.rules import Table
from hasten.export.tflite_step import Rule, Step
from hasten.graph import walk
from hasten.graph.walk import Array


def max_pool(s: Step) -> None:
    kernel, strides = s.attr("kernel_shape", [1, 1]), s.attr("strides", [1, 1])
    if any(d != 1 for d in s.attr("dilations", [1, 1])) or len(kernel) != 2:
        raise s.refuse("LiteRT has no dilated pooling, and none over three axes")
    x, padding = padded(s, kernel, strides, (1, 1), fill="lowest")
    s.emit("MAX_POOL_2D", [x], "Pool2DOptions", **_window(kernel, strides, padding))


def average_pool(s: Step) -> None:
    """Padding does not count in LiteRT; where it does, it is put in front as zeros."""
    kernel, strides = s.attr("kernel_shape", [1, 1]), s.attr("strides", [1, 1])
    if any(d != 1 for d in s.attr("dilations", [1, 1])) or len(kernel) != 2:
        raise s.refuse("LiteRT has no dilated pooling, and none over three axes")
    pads, counted = amounts(s, kernel, strides, (1, 1)), s.attr("count_include_pad", 0)
    if not any(pads) or (pads == same(s, kernel, strides, (1, 1)) and not counted):
        window = _window(kernel, strides, SAME if any(pads) else VALID)
        s.emit("AVERAGE_POOL_2D", [s.input(0)], "Pool2DOptions", **window)
        return
    if s.attr("ceil_mode", 0) or s.int8:
        raise s.refuse("its padding is not that of LiteRT")
    spread = np.zeros((4, 2), np.int32)
    spread[1:3] = np.array(pads).reshape(2, 2).T
    dims = [None if d is None else d + int(p.sum()) for d, p in zip(s.dims(), spread, strict=True)]
    x = s.operator("PAD", [s.input(0), s.int32(spread)], [s.inner(dims)], "PadOptions")
    window = _window(kernel, strides, VALID)
    if counted:
        s.emit("AVERAGE_POOL_2D", [x], "Pool2DOptions", **window)
        return
    means = s.operator("AVERAGE_POOL_2D", [x], [s.inner(s.writer.dims(s.outs[0]))], "Pool2DOptions", **window)
    s.emit("MUL", [means, s.constant(_shares(s, kernel, strides, pads))], "MulOptions")


def _shares(s: Step, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Array:
    """The size of a window over how much of it lies inside, for each output [1, height, width, 1]."""
    sides = []
    for i in range(2):
        size, out = s.size(0, 1 + i), int(s.writer.dims(s.outs[0])[1 + i] or 1)
        starts = np.arange(out) * strides[i] - pads[i]
        inside = np.minimum(starts + kernel[i], size) - np.maximum(starts, 0)
        sides.append(kernel[i] / inside)
    return np.asarray(np.outer(*sides)[None, :, :, None], np.float32)


def _window(kernel: Sequence[int], strides: Sequence[int], padding: int) -> dict[str, Any]:
    return {
        "filterHeight": kernel[0], "filterWidth": kernel[1], "strideH": strides[0], "strideW": strides[1],
        "padding": padding,
    }  # fmt: skip


def resize(s: Step) -> None:
    mode, where = s.attr("mode", "nearest"), s.attr("coordinate_transformation_mode", "half_pixel")
    factors = _factors(s)
    where = "half_pixel" if where == "pytorch_half_pixel" else where
    flags: dict[str, dict[str, Any]] = {
        "half_pixel": {"halfPixelCenters": True},
        "align_corners": {"alignCorners": True},
        "asymmetric": {},
    }
    if where not in flags or s.attr("antialias", 0):
        raise s.refuse(f"it resizes by {where}")
    if mode == "linear":
        s.emit("RESIZE_BILINEAR", [s.input(0), _new_size(s, factors)], "ResizeBilinearOptions", **flags[where])
    elif mode == "nearest" and all(_rounds_alike(s, where, *pair) for pair in factors):
        kind = "RESIZE_NEAREST_NEIGHBOR"
        s.emit(kind, [s.input(0), _new_size(s, factors)], "ResizeNearestNeighborOptions", **flags[where])
    else:
        raise s.refuse(f"its mode is {mode} by {where}, rounding {s.attr('nearest_mode', 'round_prefer_floor')}")


def _factors(s: Step) -> list[tuple[int, int]]:
    """(size, new size) of height and width; (1, factor) where only a whole factor is known."""
    out, own = s.writer.dims(s.outs[0]), s.dims()
    if len(out) != 4 or out[3] != own[3]:
        raise s.refuse("more than height and width change")
    found = []
    scales = walk.constant(s.value(2)) if s.given(2) else None
    for i in (1, 2):
        scale = None if scales is None or scales.size != 4 else float(scales[1 + i])
        if own[i] is not None and out[i] is not None:
            found.append((int(own[i] or 1), int(out[i] or 1)))
        elif (
            scale is not None
            and scale == int(scale) >= 1
            and s.attr("coordinate_transformation_mode", "") != "align_corners"
        ):
            found.append((1, int(scale)))
        else:
            raise s.refuse("the size of its output is not known, nor that it is a multiple")
    return found


def _new_size(s: Step, factors: Sequence[tuple[int, int]]) -> int:
    """Height and width of the output: known, or multiples of what the input has."""
    out = s.writer.dims(s.outs[0])
    if None not in out[1:3]:
        return s.int32(out[1:3])
    all_of = s.plain("SHAPE", [s.input(0)], [4], "ShapeOptions", outType=2)
    own = s.plain("STRIDED_SLICE", [all_of, *(s.int32(v) for v in ([1], [3], [1]))], [2], "StridedSliceOptions")
    ratio = s.int32([b // a for a, b in factors])
    return s.plain("MUL", [own, ratio], [2], "MulOptions")


def _rounds_alike(s: Step, where: str, n: int, size: int) -> bool:
    """Does nearest pick the same pixel? LiteRT rounds half up, or down where pixels count from their corner."""
    repeats = 3 if n == 1 else 1  # (1, factor) stands for any size
    n, size = n * repeats, size * repeats
    for places in (np.arange(size),):
        exact = {
            "asymmetric": places * (n / size),
            "half_pixel": (places + 0.5) * (n / size) - 0.5,
            "align_corners": places * ((n - 1) / max(1, size - 1)),
        }[where]
        theirs = np.floor(exact + (0 if where == "asymmetric" else 0.5))
        ours = {
            "floor": np.floor(exact),
            "ceil": np.ceil(exact),
            "round_prefer_floor": np.ceil(exact - 0.5),
            "round_prefer_ceil": np.floor(exact + 0.5),
        }[s.attr("nearest_mode", "round_prefer_floor")]
        if (np.clip(theirs, 0, n - 1) != np.clip(ours, 0, n - 1)).any():
            return False
    return True


def depth_to_space(s: Step) -> None:
    if s.attr("mode", "DCR") != "DCR":
        raise s.refuse("it counts channels before pixels, and how many there are is not known")
    s.emit("DEPTH_TO_SPACE", [s.input(0)], "DepthToSpaceOptions", blockSize=int(s.attr("blocksize", 1)))


def space_to_depth(s: Step) -> None:
    s.emit("SPACE_TO_DEPTH", [s.input(0)], "SpaceToDepthOptions", blockSize=int(s.attr("blocksize", 1)))


def lrn(s: Step) -> None:
    size = int(s.attr("size", 1))
    if size % 2 == 0:
        raise s.refuse(f"it spans {size} channels; LiteRT spans an odd number")
    numbers: dict[str, Any] = {"alpha": float(s.attr("alpha", 1e-4)) / size, "beta": float(s.attr("beta", 0.75))}
    table = "LocalResponseNormalizationOptions"
    bias_ = float(s.attr("bias", 1.0))
    s.emit("LOCAL_RESPONSE_NORMALIZATION", [s.input(0)], table, radius=size // 2, bias=bias_, **numbers)


TABLE: Table = {
    "AveragePool": Rule(average_pool, fuses=True, int8="same"),
    "DepthToSpace": Rule(depth_to_space, int8="same"),
    "LRN": Rule(lrn),
    "MaxPool": Rule(max_pool, fuses=True, int8="same"),
    "Resize": Rule(resize, int8="same"),
    "SpaceToDepth": Rule(space_to_depth, int8="same"),
}
