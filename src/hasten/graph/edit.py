"""Small changes to a graph: nodes and constants put in, taken out and swapped, and what nobody reads dropped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.walk import Array

SEQUENCES = frozenset({"SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence"})


def infer(model: ir.Model, *, outputs: bool = False) -> None:
    """Derive inner shapes and types anew: a file's own inner shapes are hints, and nothing relies on a hint.

    Facts are the declared inputs, the weights and the inference's conclusions. The graph's inputs keep their shapes.
    Its outputs keep theirs, unless an inferred shape contradicts them or ``outputs`` asks for the inferred ones.
    """
    from onnx_ir.passes import common

    graph = model.graph
    inputs = [(v, v.shape, v.type) for g in model.graphs() for v in g.inputs]  # a Loop needs those of its body
    declared = [(v, v.shape, v.type) for v in graph.outputs]
    _forget(model)
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # where onnx cannot tell, nothing is lost
    try:
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    finally:
        logger.setLevel(level)
    for value, shape, kind in inputs:
        value.shape, value.type = shape, kind
    for value, shape, kind in declared:
        value.type = kind if kind is not None else value.type
        if not outputs or value.shape is None:
            declare(value, shape)
    _forget_sequences(model)


def declare(value: ir.Value, shape: ir.Shape | None) -> None:
    """Give an output the shape that its file declares, unless the known one contradicts it."""
    known = value.shape
    if known is not None and shape is not None:
        pairs = zip(known, shape, strict=False)
        if len(known) != len(shape) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
            return
    value.shape = shape if shape is not None else known


def _forget(model: ir.Model) -> None:
    """Drop every shape that is no fact: those of computed values, and of what bodies take and return."""
    held = [v for v in model.graph.outputs if v.producer() is not None]
    for graph in model.graphs():
        held += [v for node in graph for v in node.outputs]
        held += [] if graph is model.graph else list(graph.inputs)
    loops = {v for node in model.graph.all_nodes() if node.op_type == "Loop" for v in _body(node).inputs[:2]}
    for value in held:
        if value not in loops and isinstance(value.type, ir.TensorType) and walk.constant(value) is None:
            value.shape = None


def _body(node: ir.Node) -> ir.Graph:
    return node.attributes["body"].as_graph()


def _forget_sequences(model: ir.Model) -> None:
    """Inference leaves the type of its elements on a sequence, which runtimes refuse; no type is right as well."""
    held: set[ir.Value] = set()
    for graph in reversed(list(model.graphs())):  # bodies before what holds them
        for node in graph:
            bodies = [a.value for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
            last = [v for body in bodies for v in body.outputs[len(body.outputs) - len(node.outputs) :]]
            if node.op_type in SEQUENCES:
                held.update(node.outputs)
            elif node.op_type == "Identity" and node.inputs[0] in held:
                held.add(node.outputs[0])
            elif held.intersection(last):
                held.update(o for i, o in enumerate(node.outputs) if held.intersection(last[i :: len(node.outputs)]))
    for value in held:
        if not isinstance(value.type, ir.SequenceType):
            value.type = value.shape = None


def prune(model: ir.Model) -> None:
    """Drop nodes and weights that nobody reads."""
    from onnx_ir.passes import common

    _release(model.graph)
    common.RemoveUnusedNodesPass()(model)


def _release(graph: ir.Graph) -> None:
    """Drop dead nodes whose bodies read values outside: a removed body would go on counting as their reader."""
    outputs = frozenset(graph.outputs)
    for node in reversed(graph):
        if any(v in outputs or v.uses() for v in node.outputs):
            continue
        let_go(node)
        graph.remove(node, safe=True)


def let_go(node: ir.Node) -> None:
    """Read nothing any more, in the node's bodies neither: one that was removed goes on counting as a reader."""
    bodies = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    for one in (node, *(inner for body in bodies for inner in body.all_nodes())):
        for at in range(len(one.inputs)):
            one.replace_input_with(at, None)


def names(model: ir.Model) -> set[str]:
    """Every value name in the model, bodies included."""
    found: set[str] = set()
    for graph in model.graphs():
        found.update(v.name for v in (*graph.inputs, *graph.initializers.values()) if v.name)
        found.update(v.name for node in graph for v in node.outputs if v.name)
    return found


def fresh(taken: set[str], name: str) -> str:
    """``name``, or ``name_1``, ``name_2`` ...: one that is not taken; the answer counts as taken from then on."""
    candidate, n = name, 0
    while candidate in taken:
        n += 1
        candidate = f"{name}_{n}"
    taken.add(candidate)
    return candidate


def add_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new initialiser; ``name`` must be free."""
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def add_node(
    anchor: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    attributes: dict[str, Any] | None = None,
) -> ir.Value:
    """Insert a one-output node before ``anchor``, in its graph; its output value carries ``name``."""
    output = ir.Value(name=name)
    node = ir.node(op_type, inputs, attributes or {}, outputs=[output], name=name)
    assert anchor.graph is not None
    anchor.graph.insert_before(anchor, node)
    return output


def replace(old: ir.Value, new: ir.Value) -> None:
    """Every reader of ``old`` reads ``new``; where ``old`` leaves the graph, ``new`` leaves it under the old name."""
    new.shape = new.shape if new.shape is not None else old.shape
    new.type = new.type if new.type is not None else old.type
    if old.is_graph_output():
        new.shape, new.type = old.shape, old.type  # what the graph promises
        name, old.name = old.name, f"{old.name}/replaced"
        new.name = name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def bypass(node: ir.Node, value: ir.Value | None) -> bool:
    """Let every reader of the node's first output read ``value``, and drop the node; False where that cannot be.

    An input or a weight cannot leave the graph in the place of an output, nor one value under two names.
    """
    output = node.outputs[0]
    if value is None or node.graph is None or any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return False
    if output.is_graph_output() and (value.producer() is None or value.is_graph_output()):
        return False
    replace(output, value)
    node.graph.remove(node, safe=True)
    return True


def swap(node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], taken: set[str], **attributes: Any) -> bool:
    """Put a new node in the place of ``node``, with the same first output; returns True."""
    name = fresh(taken, f"{node.outputs[0].name}/{op_type.lower()}")
    replace(node.outputs[0], add_node(node, op_type, inputs, name, attributes))
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True
