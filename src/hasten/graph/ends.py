"""What the last operators before an output say about its numbers."""

from __future__ import annotations

import onnx_ir as ir

BOUNDED = frozenset({"Sigmoid", "HardSigmoid"})  # each number by itself, from 0 to 1
MOVES = frozenset(
    {
        "Identity",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Transpose",
        "Concat",
        "Slice",
        "Split",
        "Gather",
        "Cast",
    }
)  # values as they are, in other places


def bounded(graph: ir.Model) -> set[str]:
    """The outputs whose numbers are probabilities: made by a sigmoid, and only moved after that."""
    return {str(v.name) for v in graph.graph.outputs if _bounded(v, 0)}


def _bounded(value: ir.Value, depth: int) -> bool:
    node = value.producer()
    if node is None or depth > 16:
        return False
    if node.op_type in BOUNDED:
        return True
    if node.op_type == "Concat":
        return all(v is not None and _bounded(v, depth + 1) for v in node.inputs)
    first = node.inputs[0] if node.inputs else None
    return node.op_type in MOVES and first is not None and _bounded(first, depth + 1)
