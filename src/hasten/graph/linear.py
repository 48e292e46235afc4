"""Linear nodes as matrices: the weight as [groups, rows, k], and the columns that it meets in the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.walk import Array
from hasten.quant import gram


@dataclass(frozen=True)
class Linear:
    """A Conv, Gemm or MatMul with a constant weight, read as ``y = W x`` for each column x of its input.

    ``rows`` output channels in all, in ``groups`` that each read ``k`` numbers. ``kernel`` is empty for products.
    """

    node: ir.Node
    weight: walk.Weight
    groups: int
    rows: int
    k: int
    kernel: tuple[int, ...] = ()
    transposed: bool = False  # the weight is stored [k, rows]

    @property
    def input(self) -> ir.Value:
        """The tensor whose columns the layer reads."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    def matrix(self, w: Array) -> Array:
        """A weight in the node's own layout as [groups, rows / groups, k]."""
        return (w.T if self.transposed else w).reshape(self.groups, self.rows // self.groups, self.k)

    def restored(self, matrix: Array) -> Array:
        """``matrix`` [groups, rows / groups, k] in the node's own layout."""
        if self.kernel:
            return matrix.reshape(self.rows, self.k // int(np.prod(self.kernel)), *self.kernel)
        flat = matrix.reshape(self.rows, self.k)
        return np.ascontiguousarray(flat.T) if self.transposed else flat

    def columns(self, x: Array, seed: int = 0, limit: int = gram.COLUMNS) -> Array:
        """Columns of one sample of the input, float32[n, groups, k]; at most ``limit``."""
        if not self.kernel:
            return gram.rows(x, limit, seed)
        return gram.patches(x, window(self.node, self.kernel, x.shape[2:]), self.groups, limit, seed)


def linear(node: ir.Node) -> Linear | None:
    """The node as a matrix; None for others, for stacks of matrices, transposed inputs and ConvTranspose."""
    found = walk.weight(node)
    if found is None or found.value.const_value is None or node.op_type == "ConvTranspose":
        return None
    shape = found.value.const_value.shape.numpy()
    if node.op_type == "Conv":
        groups = int(walk.attribute(node, "group", 1))
        return Linear(node, found, groups, shape[0], int(np.prod(shape[1:])), tuple(shape[2:]))
    if len(shape) != 2 or walk.attribute(node, "transA", 0):
        return None
    return Linear(node, found, 1, shape[found.axis], shape[1 - found.axis], transposed=found.axis == 1)


def linears(model: ir.Model) -> list[Linear]:
    """Every linear node of the main graph, in the order of execution."""
    return [found for found in map(linear, model.graph) if found is not None]


def window(node: ir.Node, kernel: tuple[int, ...], spatial: tuple[int, ...]) -> gram.Window:
    """How the Conv looks at an input of these spatial sizes, ``auto_pad`` worked out."""
    n = len(kernel)
    strides = tuple(walk.attribute(node, "strides", [1] * n))
    dilations = tuple(walk.attribute(node, "dilations", [1] * n))
    pads = tuple(walk.attribute(node, "pads", [0] * 2 * n))
    auto = walk.attribute(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        pads = (0,) * 2 * n
    elif auto.startswith("SAME"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        short = [max((-(-size // s) - 1) * s + r - size, 0) for size, s, r in zip(spatial, strides, reach, strict=True)]
        small = tuple(p // 2 for p in short)
        large = tuple(p - p // 2 for p in short)
        pads = small + large if auto == "SAME_UPPER" else large + small
    return gram.Window(kernel, strides, dilations, pads[:n], pads[n:])
