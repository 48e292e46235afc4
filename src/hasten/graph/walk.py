"""Small questions about a graph: who reads a value, what is constant, which channel axis a weight has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]

SEQUENCES = frozenset({"SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence"})
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


def infer(model: ir.Model, *, outputs: bool = False) -> None:
    """Fill in inner shapes and types; the graph's own inputs keep theirs, and its outputs unless ``outputs``."""
    from onnx_ir.passes import common

    own = [(v, v.shape, v.type) for v in (*model.graph.inputs, *(() if outputs else model.graph.outputs))]
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # where onnx cannot tell, nothing is lost
    try:
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    finally:
        logger.setLevel(level)
    for value, shape, kind in own:
        value.shape, value.type = shape, kind
    _forget_sequences(model)


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
