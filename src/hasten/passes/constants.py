"""Constant folding: everything that depends on no input is computed once and stored."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hasten.graph import edit, evaluate, walk

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
GROWTH = 1 << 20  # bytes that folding one node may add to the file


def fold_constants(model: ir.Model) -> int:
    """Replace nodes of the main graph whose inputs are all constant by initialisers; returns how many went.

    Quantized weights stay: a DequantizeLinear on constants is how int8 is written, not work to save.
    """
    foldable = _foldable(model)
    wanted = [v for node in foldable for v in node.outputs if v.name and _leaves(v, foldable)]
    if not wanted:
        return 0
    taken = edit.names(model)
    for value, array in zip(wanted, _compute(model, foldable, wanted), strict=True):
        limit = GROWTH + sum(c.nbytes for c in map(walk.constant, _node(value).inputs) if c is not None)
        if array.nbytes > limit:
            continue
        new = edit.add_constant(model.graph, edit.fresh(taken, f"{value.name}/value"), array)
        value.replace_all_uses_with(new)
    return len(foldable)


def _node(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _foldable(model: ir.Model) -> list[ir.Node]:
    known: set[ir.Value] = set()
    nodes: list[ir.Node] = []
    for node in model.graph:
        plain = node.domain == "" and node.op_type not in RANDOM and "QuantizeLinear" not in node.op_type
        bodies = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        if not plain or bodies or node.op_type in ("Constant", "DequantizeLinear") or not node.inputs:
            continue
        if all(v is None or v in known or walk.constant(v) is not None for v in node.inputs):
            known.update(node.outputs)
            nodes.append(node)
    return nodes


def _leaves(value: ir.Value, foldable: Sequence[ir.Node]) -> bool:
    """True when a node that stays reads the value; a graph output keeps its node."""
    inside = set(foldable)
    return not value.is_graph_output() and any(node not in inside for node, _ in walk.consumers(value))


def _compute(model: ir.Model, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[walk.Array]:
    """Run only ``nodes`` on their constants."""
    copies: dict[ir.Value, ir.Value] = {}
    constants: list[ir.Value] = []

    def copied(value: ir.Value | None) -> ir.Value | None:
        if value is None or value in copies:
            return None if value is None else copies[value]
        array = walk.constant(value)
        assert array is not None
        tensor = ir.tensor(array, name=value.name)
        copies[value] = ir.Value(
            name=value.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        constants.append(copies[value])
        return copies[value]

    body = []
    for node in nodes:
        outputs = [ir.Value(name=v.name, type=v.type) for v in node.outputs]
        inputs = [copied(v) for v in node.inputs]
        body.append(ir.Node("", node.op_type, inputs, list(node.attributes.values()), outputs=outputs, name=node.name))
        copies.update(zip(node.outputs, outputs, strict=True))
    outputs = [copies[v] for v in wanted]
    graph = ir.Graph(
        [], outputs, nodes=body, initializers=constants, opset_imports=dict(model.opset_imports), name="constants"
    )
    [values] = evaluate.run(ir.Model(graph, ir_version=model.ir_version), [{}])
    return [values[v.name or ""] for v in wanted]
