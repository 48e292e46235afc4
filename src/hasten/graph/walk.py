"""Small questions about a graph: who reads a value, what is constant, which channel axis a weight has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]

LINEAR = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True)
class Weight:
    """The constant operand of a linear node: ``axis`` runs over output channels, ``reduced`` over what is summed."""

    index: int
    value: ir.Value
    axis: int


def label(node: ir.Node) -> str:
    """The node's name, or its first output's where it has none."""
    return node.name or node.outputs[0].name or node.op_type


def opset(model: ir.Model) -> int:
    """The version of the default operator set."""
    return model.opset_imports.get("", 1)


def constant(value: ir.Value | None) -> Array | None:
    """The array behind an initialiser or a Constant node's output, or None for anything computed or fed."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element, whatever its shape."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None


def is_float(value: ir.Value | None) -> bool:
    """True when the value is known to be float32."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def consumers(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """(node, input index) for every reader, those inside If and Loop bodies included, in a stable order."""
    return [(use.node, use.idx) for use in value.uses()]


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads the value, or None when several do, none does, or it leaves the graph."""
    uses = consumers(value)
    return uses[0][0] if len(uses) == 1 and not value.is_graph_output() else None


def rank(value: ir.Value | None) -> int | None:
    """Number of axes, or None when unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's plain value, or ``default`` where the node leaves it out."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def operands(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """(computed, constant) inputs of a two-input node in either order; None when both or neither are constant."""
    if len(node.inputs) != 2 or node.inputs[0] is None or node.inputs[1] is None:
        return None
    first, second = node.inputs[0], node.inputs[1]
    known = (constant(first) is not None, constant(second) is not None)
    if known[0] == known[1]:
        return None
    return (second, first) if known[0] else (first, second)


def weight(node: ir.Node) -> Weight | None:
    """The constant weight of a Conv, ConvTranspose, Gemm or MatMul, with its output-channel axis.

    MatMul counts only with the weight on the right; float32 weights only.
    """
    if node.domain not in ("", "ai.onnx") or node.op_type not in LINEAR or len(node.inputs) < 2:
        return None
    value = node.inputs[1]
    array = constant(value)
    if (
        value is None
        or array is None
        or array.dtype != np.float32
        or array.ndim < 2
        or constant(node.inputs[0]) is not None
    ):
        return None
    if node.op_type == "Gemm":
        axis = 0 if attribute(node, "transB", 0) else 1
    else:
        axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": array.ndim - 1}[node.op_type]
    return Weight(1, value, axis)


def depthwise(node: ir.Node) -> bool:
    """True for a Conv whose every group has one input channel and there is more than one group."""
    found = weight(node)
    if node.op_type != "Conv" or found is None or found.value.const_value is None:
        return False
    return bool(attribute(node, "group", 1) > 1 and found.value.const_value.shape[1] == 1)


def dims(value: ir.Value | None) -> list[int | str | None] | None:
    """The sizes of a value's axes: numbers, names that mean the same size wherever they stand, or None; None: no rank.

    ``?`` and the empty name are what exporters write for "any"; they promise nothing.
    """
    if value is None:
        return None
    array = constant(value)
    if array is not None:
        return list(array.shape)
    if value.shape is None:
        return None
    found: list[int | str | None] = []
    for dim in value.shape:
        name = dim if isinstance(dim, int) else dim.value
        found.append(None if name in ("?", "", None) or (isinstance(name, int) and name < 0) else name)
    return found


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """True when both are known to have the same shape."""
    x, y = dims(a), dims(b)
    return x is not None and x == y and None not in x


def same_rank(a: ir.Value | None, b: ir.Value | None) -> bool:
    """True when both are known to have as many axes."""
    return rank(a) is not None and rank(a) == rank(b)


def integers(value: ir.Value | None) -> list[int] | None:
    """The numbers in a constant vector of integers."""
    array = constant(value)
    return None if array is None or array.dtype.kind not in "iu" else [int(v) for v in array.reshape(-1)]


def produced_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes ``value``, when it is one of these operators of the default domain."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types and node.domain == "" else None


def main_graph(node: ir.Node) -> ir.Graph:
    """The graph that the node stands in."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph
