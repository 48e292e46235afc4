"""Shapes as LiteRT wants them: two axes, sizes that are counted, a plane where there is only time, sorted channels.

Conv over time            =>  Conv over a plane of height 1
Reshape to (0, 0, -1)     =>  Reshape to (size, size, -1), sizes from Shape
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.export.tflite_site import Site
from hasten.graph import walk


def flatten(s: Site) -> ir.Value | None:
    """To two axes. One of them is known and not empty, or both are counted at run time."""
    x, axis = s.x(), s.attr("axis", 1)
    axis += s.rank() if axis < 0 else 0
    if x is None or x.shape is None:
        return None
    sides = [_count(x.shape[:axis]), _count(x.shape[axis:])]
    if max(sides) > 0:
        return s.add("Reshape", x, s.ints(*([-1, sides[1]] if sides[1] > 0 else [sides[0], -1])))
    ends = [s.add("Shape", x, start=a, end=b) for a, b in ((0, axis), (axis, s.rank()))]
    counts = [s.add("ReduceProd", end, s.ints(0), keepdims=1) for end in ends]
    return s.add("Reshape", x, s.add("Concat", *counts, axis=0))


def _count(dims: Sequence[int | ir.SymbolicDim]) -> int:
    """The product of sizes, -1 when one of them is free."""
    known = [d for d in dims if isinstance(d, int)]
    return math.prod(known) if len(known) == len(dims) else -1


def reshape(s: Site) -> ir.Value | None:
    """A zero copies the input's size there, which LiteRT does not know; nor more free sizes than one."""
    given = s.x(1)
    if given is None or s.attr("allowzero", 0):
        return None
    concat = given.producer()
    pieces = concat.inputs if concat is not None and concat.op_type == "Concat" else ()
    if _free_sizes(s) > 1:
        pieces = (given,)
    parts: list[ir.Value | None] = []
    place, copied = 0, 0
    for value in pieces:
        array = walk.constant(value)
        length = array.size if array is not None else value.shape[0] if value is not None and value.shape else None
        if not isinstance(length, int):
            return None
        for i, number in enumerate([] if array is None else array.reshape(-1).tolist()):
            copied += number == 0
            parts.append(s.add("Shape", s.x(), start=place + i, end=place + i + 1) if number == 0 else s.ints(number))
        parts += [value] if array is None else []
        place += length
    return s.add("Reshape", s.x(), s.add("Concat", *parts, axis=0)) if copied else None


def _free_sizes(s: Site) -> int:
    """How many entries of a constant shape stand for sizes that are not known here."""
    array, x = walk.constant(s.x(1)), s.x()
    own = list(x.shape) if x is not None and x.shape is not None else []
    numbers = [] if array is None else array.reshape(-1).tolist()
    return sum(n == -1 or (n == 0 and (i >= len(own) or not isinstance(own[i], int))) for i, n in enumerate(numbers))


def over_time(s: Site) -> ir.Value | None:
    """[N, C, W] as [N, C, 1, W]."""
    if s.rank() != 3:
        return None
    attributes: dict[str, Any] = {a.name: a.value for a in s.node.attributes.values()}
    for name, one in (
        ("kernel_shape", 1),
        ("strides", 1),
        ("dilations", 1),
        ("output_padding", 0),
        ("output_shape", 1),
    ):
        if name in attributes:
            attributes[name] = [one, *attributes[name]]
    if "pads" in attributes:
        before, behind = attributes["pads"]
        attributes["pads"] = [0, before, 0, behind]
    inputs = list(s.node.inputs)
    if s.node.op_type in ("Conv", "ConvTranspose"):
        weights = _plane(s, inputs[1])
        if weights is None:
            return None
        inputs[1] = weights
    inputs[0] = s.add("Unsqueeze", inputs[0], s.ints(2))
    return s.add("Squeeze", s.add(s.node.op_type, *inputs, **attributes), s.ints(2))


def _plane(s: Site, value: ir.Value | None) -> ir.Value | None:
    """Weights [O, I, K] as [O, I, 1, K], dequantized ones too."""
    array = walk.constant(value)
    if array is not None:
        return s.fixed(array[:, :, None])
    node = value.producer() if value is not None else None
    codes = walk.constant(node.inputs[0]) if node is not None and node.op_type == "DequantizeLinear" else None
    if node is None or codes is None:
        return None
    attributes = {a.name: a.value for a in node.attributes.values()}
    return s.add("DequantizeLinear", s.fixed(codes[:, :, None]), *node.inputs[1:], **attributes)


def depth_to_space(s: Site) -> ir.Value | None:
    """CRD counts channels first and pixels second; LiteRT has only the other way, so the channels are sorted."""
    shape = s.x().shape if s.x() is not None else None  # type: ignore[union-attr]
    if s.attr("mode", "DCR") != "CRD" or shape is None or not isinstance(shape[1], int):
        return None
    block = s.attr("blocksize", 1)
    order = np.arange(shape[1]).reshape(-1, block * block).T.reshape(-1)
    sorted_ = s.add("Gather", s.x(), s.fixed(order), axis=1)
    return s.add("DepthToSpace", sorted_, blocksize=block, mode="DCR")
