"""Convolutions; their inputs are turned already.

Weights go from ONNX's [out, in, height, width] to [out, height, width, in], for depthwise ones to
[1, height, width, out].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hasten.export.tflite_ops.rules import Table
from hasten.export.tflite_ops.weights import bias, weights
from hasten.export.tflite_step import Rule, Step

SAME, VALID = 0, 1


def conv(s: Step) -> None:
    if len(s.dims()) == 5:
        conv_3d(s)
        return
    shape, group = s.dims(1), int(s.attr("group", 1))
    strides, dilations = s.attr("strides", [1, 1]), s.attr("dilations", [1, 1])
    x, padding = padded(s, [int(n or 1) for n in shape[2:]], strides, dilations)
    channels = s.size(0, 3)
    depthwise = group > 1 and group == channels and shape[1] == 1
    w, grid = weights(s, (1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
    options: dict[str, Any] = {"padding": padding, "strideH": strides[0], "strideW": strides[1]}
    options |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
    if depthwise:
        options["depthMultiplier"] = int(shape[0] or 1) // channels
    kind, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    s.emit(kind, [x, w, bias(s, 2, grid, int(shape[0] or 1))], table, **options)


def conv_3d(s: Step) -> None:
    shape, ones = s.dims(1), [1, 1, 1]
    strides, dilations = s.attr("strides", ones), s.attr("dilations", ones)
    x, padding = padded(s, [int(n or 1) for n in shape[2:]], strides, dilations)
    w, grid = weights(s, (2, 3, 4, 1, 0))
    options: dict[str, Any] = {"padding": padding}
    for side, stride, dilation in zip("DHW", strides, dilations, strict=True):
        options |= {f"stride{side}": stride, f"dilation{side}Factor": dilation}
    s.emit("CONV_3D", [x, w, bias(s, 2, grid, int(shape[0] or 1))], "Conv3DOptions", **options)


def padded(
    s: Step, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], fill: str = "zero"
) -> tuple[int, int]:
    """The input, padded by an operator of its own where neither SAME nor VALID says it; and which of the two then."""
    pads = amounts(s, kernel, strides, dilations)
    half = len(kernel)
    if not any(pads):
        return s.input(0), VALID
    if pads == same(s, kernel, strides, dilations):
        return s.input(0), SAME
    spread = np.zeros((half + 2, 2), np.int32)
    spread[1 : 1 + half] = np.array(pads).reshape(2, half).T
    dims = [None if d is None else d + int(p.sum()) for d, p in zip(s.dims(), spread, strict=True)]
    out = s.inner(dims, grid=s.grid() if s.int8 else None)
    if fill == "zero":
        return s.operator("PAD", [s.input(0), s.int32(spread)], [out], "PadOptions"), VALID
    lowest = s.constant(np.int8(-128), s.grid()) if s.int8 else s.constant(np.finfo(np.float32).min)
    return s.operator("PADV2", [s.input(0), s.int32(spread), lowest], [out], "PadV2Options"), VALID


def amounts(s: Step, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding before each axis, then behind each, with what ``ceil_mode`` adds."""
    half, auto = len(kernel), s.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        found = same(s, kernel, strides, dilations)
        if found is None:
            raise s.refuse(f"its padding is {auto} and its input has free sizes")
        return found if auto == "SAME_UPPER" else [*found[half:], *found[:half]]
    pads = [0] * 2 * half if auto == "VALID" else [int(p) for p in s.attr("pads", [0] * 2 * half)]
    if min(pads) < 0:
        raise s.refuse("its padding is negative")
    if s.attr("ceil_mode", 0):
        for i in range(half):
            size = s.size(0, 1 + i) + pads[i] + pads[half + i] - ((kernel[i] - 1) * dilations[i] + 1)
            short = -size % strides[i]
            # a last window that would start in the padding is left out
            starts_inside = size + short < s.size(0, 1 + i) + pads[i]
            pads[half + i] += short if starts_inside else 0
    return pads


def same(s: Step, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int] | None:
    """What SAME means here: ceil(size / stride) outputs, an odd pixel behind. None where it depends on free sizes."""
    total = []
    for size, k, stride, d in zip(s.dims()[1:-1], kernel, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        if size is None and stride != 1:
            return None
        total.append(reach - 1 if size is None else max(0, (-(-size // stride) - 1) * stride + reach - size))
    return [*(t // 2 for t in total), *(t - t // 2 for t in total)]


def conv_transpose(s: Step) -> None:
    """TRANSPOSE_CONV crops half of what is too much at the start; anything else is computed whole and cut."""
    shape, strides, dims = s.dims(1), s.attr("strides", [1, 1]), s.dims()
    kernel = [int(n or 1) for n in shape[2:]]
    plain = all(d == 1 for d in s.attr("dilations", [1, 1])) and int(s.attr("group", 1)) == 1 and len(dims) == 4
    if not plain or s.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or s.attr("output_shape", None):
        raise s.refuse("LiteRT has no grouped or dilated transposed convolution, and its padding must be in numbers")
    pads, extra = s.attr("pads", [0] * 4), s.attr("output_padding", [0, 0])
    begin, cut = list(pads[:2]), [p - e for p, e in zip(pads[2:], extra, strict=True)]
    more = [k - t - b - c for k, t, b, c in zip(kernel, strides, begin, cut, strict=True)]  # out = in * stride + more
    w, grid = weights(s, (1, 2, 3, 0))
    operands = [w, s.input(0), bias(s, 2, grid, int(shape[1] or 1))]
    options: dict[str, Any] = {"strideH": strides[0], "strideW": strides[1]}
    same_size = [m == 0 and b == max(k - t, 0) // 2 for m, b, k, t in zip(more, begin, kernel, strides, strict=True)]
    natural = begin == [0, 0] and all(-t < c <= 0 for c, t in zip(cut, strides, strict=True))
    if all(same_size) or natural:
        sizes = _sizes(s, strides, more, int(shape[1] or 1))
        padding = SAME if all(same_size) else VALID
        s.emit("TRANSPOSE_CONV", [sizes, *operands], "TransposeConvOptions", padding=padding, **options)
        return
    whole = [m + b + max(c, 0) for m, b, c in zip(more, begin, cut, strict=True)]
    sides = [None if d is None else d * t + m for d, t, m in zip(dims[1:3], strides, whole, strict=True)]
    made = s.inner([dims[0], *sides, shape[1]], grid=s.wanted() if s.int8 else None)
    options |= {"padding": VALID, "fusedActivationFunction": s.activation}
    sizes = _sizes(s, strides, whole, int(shape[1] or 1))
    s.operator("TRANSPOSE_CONV", [sizes, *operands], [made], "TransposeConvOptions", **options)
    ends, open_ends = [0, *(-max(c, 0) for c in cut), 0], sum(2 << i for i, c in enumerate(cut) if c <= 0)
    vectors = [s.int32(v) for v in ([0, *begin, 0], ends, [1, 1, 1, 1])]
    masks: dict[str, Any] = {"beginMask": 9, "endMask": 9 | open_ends}
    s.emit("STRIDED_SLICE", [made, *vectors], "StridedSliceOptions", fused=False, **masks)


def _sizes(s: Step, strides: Sequence[int], more: Sequence[int], channels: int) -> int:
    """The output's shape, [batch, in * stride + more, in * stride + more, channels]: known, or from the input's."""
    dims = s.dims()
    factors, terms = [1, *strides, 0], [0, *more, channels]
    if None not in dims:
        return s.int32([int(d or 0) * f + t for d, f, t in zip(dims, factors, terms, strict=True)])
    own = s.plain("SHAPE", [s.input(0)], [4], "ShapeOptions", outType=2)
    scaled = s.plain("MUL", [own, s.int32(factors)], [4], "MulOptions")
    return s.plain("ADD", [scaled, s.int32(terms)], [4], "AddOptions")


TABLE: Table = {
    "Conv": Rule(conv, fuses=True, int8="any", weights=(1, 2)),
    "ConvTranspose": Rule(conv_transpose, fuses=True, int8="any", weights=(1, 2)),
}
