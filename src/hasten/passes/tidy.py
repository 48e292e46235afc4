"""Exact housekeeping: constants become initialisers, what nobody reads goes, and so do copies.

x -> Identity                        =>  x
x -> Dropout                         =>  x
x -> Relu -> a, x -> Relu -> b       =>  x -> Relu -> a, a
"""

from __future__ import annotations

import logging

import onnx_ir as ir
from onnx_ir.passes import common

from hasten.graph import edit, walk
from hasten.passes.constants import RANDOM
from hasten.passes.rewrite import named

log = logging.getLogger(__name__)


def tidy(graph: ir.Model) -> ir.Model | None:
    """A copy with its constants in one place, sorted, without what nobody reads; None when it was so."""
    copy, changed = graph.clone(), 0
    for step in (
        common.RemoveInitializersFromInputsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    ):
        trial = copy.clone()
        try:
            modified = step(trial).modified
        except Exception as error:  # some cannot cope with If bodies that hand outer values on; the others still help
            log.info("%s does not fit this network: %s", type(step).__name__, error)
            continue
        if modified:
            copy, changed = trial, changed + 1
    return copy if changed else None


def identity(node: ir.Node, taken: set[str]) -> bool:
    return node.op_type == "Identity" and node.domain == "" and edit.bypass(node, node.inputs[0])


def dropout(node: ir.Node, taken: set[str]) -> bool:
    """Dropout passes its input through unless training_mode says otherwise."""
    if node.op_type != "Dropout" or node.domain != "" or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return False
    return edit.bypass(node, node.inputs[0])


def repeated_node(node: ir.Node, taken: set[str]) -> bool:
    """Two nodes that compute the same from the same: the first. One that leaves the graph stays, under its own name."""
    first = next((v for v in node.inputs if v is not None), None)
    key = _key(node) if first is not None else None
    if first is None or key is None:
        return False
    for other, _ in walk.consumers(first):
        if other is node or other.op_type != node.op_type or other.graph is not node.graph or _key(other) != key:
            continue
        kept, gone = (node, other) if _before(node, other) else (other, node)
        if any(v.is_graph_output() for v in gone.outputs):
            continue
        for old, new in zip(gone.outputs, kept.outputs, strict=True):
            old.replace_all_uses_with(new)
        walk.main_graph(gone).remove(gone, safe=True)
        return True
    return False


def _before(node: ir.Node, other: ir.Node) -> bool:
    return next(n for n in walk.main_graph(node) if n is node or n is other) is node


def _key(node: ir.Node) -> object:
    """Equal for nodes that compute the same; None for those that hold bodies or chance."""
    if node.op_type in RANDOM or (node.op_type == "Dropout" and len(node.inputs) > 2):
        return None
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            value = (value.shape.numpy(), value.dtype, value.tobytes())
        attributes.append((name, attribute.type, repr(value)))
    inputs = tuple(None if v is None else id(v) for v in node.inputs)
    return node.op_identifier(), inputs, len(node.outputs), tuple(attributes)


REWRITES = named(identity, dropout, repeated_node)
