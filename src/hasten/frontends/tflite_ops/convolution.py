"""Convolutions and pooling. TensorFlow Lite keeps channels last, ONNX first: transposes around each, which the
layout pass takes away again where two of them meet.

Weights lie as CONV_2D [out, height, width, in], DEPTHWISE_CONV_2D [1, height, width, out], TRANSPOSE_CONV
[out, height, width, in], CONV_3D [depth, height, width, in, out].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import DAMAGED, Call
from hasten.graph.layout import to_first, to_last

_SIDES = ("H", "W")


def conv_2d(call: Call) -> ir.Value:
    channels, inner = call.tensor(0).shape[-1], call.tensor(1).shape[-1]
    if inner == 0 or channels % inner:
        raise call.refuse(f"{channels} channels do not divide into groups of {inner}", DAMAGED)
    return _convolve(call, (0, 3, 1, 2), call.tensor(1).shape[1:3], _SIDES, channels // inner)


def depthwise_conv_2d(call: Call) -> ir.Value:
    return _convolve(call, (3, 0, 1, 2), call.tensor(1).shape[1:3], _SIDES, call.tensor(0).shape[-1])


def conv_3d(call: Call) -> ir.Value:
    channels, inner = call.tensor(0).shape[-1], call.tensor(1).shape[3]
    if inner == 0 or channels % inner:
        raise call.refuse(f"{channels} channels do not divide into groups of {inner}", DAMAGED)
    return _convolve(call, (4, 3, 0, 1, 2), call.tensor(1).shape[:3], ("D", *_SIDES), channels // inner)


def _convolve(call: Call, perm: Sequence[int], kernel: Sequence[int], sides: Sequence[str], groups: int) -> ir.Value:
    if len(call.tensor(0).shape) != len(perm) or len(call.tensor(1).shape) != len(perm):
        raise call.refuse(f"it convolves tensors of {call.rank(0)} and {call.rank(1)} axes", DAMAGED)
    strides = [call.positive(f"stride{s}") for s in sides]
    dilations = [call.positive(f"dilation{s}Factor") for s in sides]
    padding = _padding(call, kernel, strides, dilations)
    inputs = [first(call, call.real(0)), call.weights(1, perm), *([call.real(2)] if call.given(2) else [])]
    y = call.emit("Conv", *inputs, group=groups, strides=strides, dilations=dilations, **padding)
    return call.activated(last(call, y))


def _padding(
    call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Sequence[int] | str]:
    """SAME gives ceil(size / stride) outputs, an odd pixel of padding at the end; VALID none."""
    known = call.option("pads", None)  # of a dilated convolution that was spelt out
    if known is not None:
        return {"pads": known}
    if call.option("padding", 0) == 1:
        return {"pads": [0] * 2 * len(kernel)}
    sizes = call.tensor(0).dims[1:-1]
    if None in sizes:
        return {"auto_pad": "SAME_UPPER"}
    total = [
        max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        for size, k, s, d in zip((n or 0 for n in sizes), kernel, strides, dilations, strict=True)
    ]
    return {"pads": [*(t // 2 for t in total), *(t - t // 2 for t in total)]}


def transpose_conv(call: Call) -> ir.Value:
    """Inputs: the shape of the output, the weights, x, and a bias."""
    x, w, out = call.tensor(2), call.tensor(1), call.out()
    if len(x.shape) != 4 or len(w.shape) != 4 or len(out.shape) != 4:
        raise call.refuse("it takes tensors of four axes", DAMAGED)
    known = tuple(call.ints(0)[1:3]) if call.tensor(0).data is not None else out.dims[1:3]
    strides = [call.positive(f"stride{s}") for s in _SIDES]
    inputs = [first(call, call.real(2)), call.weights(1, (3, 0, 1, 2))]
    bias = call.real(3) if call.given(3) else None
    if None in known or None in x.dims[1:3]:
        y = _cut_out(call, call.emit("ConvTranspose", *inputs, strides=strides), strides)
        y = last(call, y)
        return call.activated(y if bias is None else call.emit("Add", y, bias))
    sizes = [int(n or 0) for n in known]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], strides, w.shape[1:3], strict=True)]
    begin = [_before(size, k, s, call) for size, k, s in zip(sizes, w.shape[1:3], strides, strict=True)]
    behind = [f - b - size for f, b, size in zip(full, begin, sizes, strict=True)]
    pads, extra = [*begin, *(max(n, 0) for n in behind)], [max(-n, 0) for n in behind]
    y = call.emit("ConvTranspose", *inputs, bias, strides=strides, pads=pads, output_padding=extra)
    return call.activated(last(call, y))


def _before(size: int, kernel: int, stride: int, call: Call) -> int:
    """How much of the whole is cut off at the start: half of what a convolution back would pad."""
    return 0 if call.option("padding", 0) == 1 else max(0, (-(-size // stride) - 1) * stride + kernel - size) // 2


def _cut_out(call: Call, whole: ir.Value, strides: Sequence[int]) -> ir.Value:
    """Height and width as the first input asks for them, out of the whole; zeros behind it where it is too small."""

    def one(op_type: str, a: ir.Value, b: ir.Value) -> ir.Value:
        return call.emit(op_type, a, b)

    def fixed(*numbers: int) -> ir.Value:
        return call.fixed(np.array(numbers, np.int64))

    zero, sizes = fixed(0, 0), call.emit("Slice", call.index(0), fixed(1), fixed(3))
    begin = zero
    if call.option("padding", 0) != 1:
        steps, kernel = fixed(*strides), call.tensor(1).shape[1:3]
        less = fixed(*(k - s for k, s in zip(kernel, strides, strict=True)))  # (n - 1) s + k, for n steps
        count = one("Div", one("Add", sizes, fixed(*(s - 1 for s in strides))), steps)
        over = one("Sub", one("Add", one("Mul", count, steps), less), sizes)
        begin = one("Div", one("Max", over, zero), fixed(2, 2))
    end = one("Add", begin, sizes)
    have = call.emit("Slice", call.emit("Shape", whole), fixed(2), fixed(4))
    short = one("Max", one("Sub", end, have), zero)
    amounts = call.emit("Concat", fixed(0, 0, 0, 0, 0, 0), short, axis=0)
    return call.emit("Slice", call.emit("Pad", whole, amounts), begin, end, fixed(2, 3))


def max_pool_2d(call: Call) -> ir.Value:
    return call.activated(_pool(call, "MaxPool", call.real(0)))


def average_pool_2d(call: Call) -> ir.Value:
    """Padding does not count."""
    return call.activated(_pool(call, "AveragePool", call.real(0)))


def l2_pool_2d(call: Call) -> ir.Value:
    """The root of the mean square."""
    x = call.real(0)
    return call.activated(call.emit("Sqrt", _pool(call, "AveragePool", call.emit("Mul", x, x))))


def _pool(call: Call, kind: str, x: ir.Value) -> ir.Value:
    if call.rank() != 4:
        raise call.refuse(f"it pools a tensor of {call.rank()} axes", DAMAGED)
    kernel = [call.positive("filterHeight"), call.positive("filterWidth")]
    strides = [call.positive(f"stride{s}") for s in _SIDES]
    padding = _padding(call, kernel, strides, (1, 1))
    return last(call, call.emit(kind, first(call, x), kernel_shape=kernel, strides=strides, **padding))


def resize_bilinear(call: Call) -> ir.Value:
    return _resize(call, "linear", {})


def resize_nearest_neighbor(call: Call) -> ir.Value:
    aligned = call.option("alignCorners", False) or call.option("halfPixelCenters", False)
    return _resize(call, "nearest", {"nearest_mode": "round_prefer_ceil" if aligned else "floor"})


def _resize(call: Call, mode: str, more: dict[str, str]) -> ir.Value:
    """The new height and width, behind the batch and the channels, which are asked for where they are free."""
    x, fixed = call.tensor(0), call.tensor(1).data is not None and None not in call.tensor(0).dims
    centers, corners = call.option("halfPixelCenters", False), call.option("alignCorners", False)
    where = "align_corners" if corners else "half_pixel" if centers else "asymmetric"
    turned, none = first(call, call.real(0)), None
    more = {"mode": mode, "coordinate_transformation_mode": where, **more}
    if fixed:
        sizes = call.fixed(np.array([x.shape[0], x.shape[3], *call.ints(1)]))
    else:
        start = call.fixed(np.array([0])), call.fixed(np.array([2]))
        sizes = call.emit("Concat", call.emit("Slice", call.emit("Shape", turned), *start), call.index(1), axis=0)
    return last(call, call.emit("Resize", turned, none, none, sizes, **more))


def depth_to_space(call: Call) -> ir.Value:
    block = call.positive("blockSize")
    return last(call, call.emit("DepthToSpace", first(call, call.real(0)), blocksize=block, mode="DCR"))


def space_to_depth(call: Call) -> ir.Value:
    block = call.positive("blockSize")
    return last(call, call.emit("SpaceToDepth", first(call, call.real(0)), blocksize=block))


def local_response_normalization(call: Call) -> ir.Value:
    """x * (bias + alpha * sum of squares over 2 radius + 1 channels) ** -beta; ONNX takes alpha times their number."""
    size = 2 * call.positive("radius") + 1
    numbers = {"bias": call.option("bias", 1.0), "beta": call.option("beta", 0.5)}
    alpha = float(call.option("alpha", 1.0)) * size
    return last(call, call.emit("LRN", first(call, call.real(0)), size=size, alpha=alpha, **numbers))


def first(call: Call, value: ir.Value) -> ir.Value:
    """Channels from the last axis to axis 1; every tensor of these operators has as many axes as the output."""
    return call.emit("Transpose", value, perm=to_first(len(call.out().shape)))


def last(call: Call, value: ir.Value) -> ir.Value:
    """Channels from axis 1 to the last axis."""
    return call.emit("Transpose", value, perm=to_last(len(call.out().shape)))


TABLE = {
    "AVERAGE_POOL_2D": average_pool_2d,
    "CONV_2D": conv_2d,
    "CONV_3D": conv_3d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "DEPTH_TO_SPACE": depth_to_space,
    "L2_POOL_2D": l2_pool_2d,
    "LOCAL_RESPONSE_NORMALIZATION": local_response_normalization,
    "MAX_POOL_2D": max_pool_2d,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "SPACE_TO_DEPTH": space_to_depth,
    "TRANSPOSE_CONV": transpose_conv,
}
