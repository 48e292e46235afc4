"""How much a linear node multiplies and holds: what a first guess of its time and size is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.affine import RECURRENT
from hasten.graph.taps import sizes
from hasten.model import Model
from hasten.protocols import Feeds


def multiplications(model: Model, feeds: Callable[[], Iterator[Feeds]]) -> dict[str, int]:
    """Of each linear node, by first output, on the first sample; nodes without one constant weight are left out."""
    found = {node.outputs[0].name or "": (node, shape) for node in model.graph.graph if (shape := _weight(node))}
    counted = {name: _counted(node) for name, (node, _) in found.items()}
    known = sizes(model, sorted({v.name or "" for v in counted.values()}), feeds)
    fed = {name: array.size for name, array in next(iter(feeds()), {}).items()}
    elements = {name: known.get(v.name or "", 4 * fed.get(v.name or "", 0)) // 4 for name, v in counted.items()}
    return {name: elements[name] * _each(node, shape) for name, (node, shape) in found.items()}


def weights(model: Model) -> dict[str, int]:
    """How many numbers the weight of each linear node holds, by first output."""
    return {node.outputs[0].name or "": prod(shape) for node in model.graph.graph if (shape := _weight(node))}


def _weight(node: ir.Node) -> tuple[int, ...] | None:
    if node.op_type in RECURRENT and node.domain == "" and len(node.inputs) > 1:
        array = walk.constant(node.inputs[1])
    else:
        found = walk.weight(node)
        array = walk.constant(found.value) if found is not None else None
    return None if array is None else array.shape


def _counted(node: ir.Node) -> ir.Value:
    """The tensor each of whose elements is multiplied equally often."""
    value = node.inputs[0] if node.op_type in ("ConvTranspose", *RECURRENT) else node.outputs[0]
    assert value is not None
    return value


def _each(node: ir.Node, shape: tuple[int, ...]) -> int:
    """How often."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return prod(shape[1:])
    if node.op_type in RECURRENT:  # each number of a step meets all gates of all directions
        return shape[0] * shape[1]
    turned = node.op_type == "Gemm" and walk.attribute(node, "transB", 0)
    return shape[-1] if turned else shape[-2]
