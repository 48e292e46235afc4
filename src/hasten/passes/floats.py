"""Round float operands to a narrower float and back: what bf16 or f16 arithmetic does to the values, on any engine.

x -> MatMul(W) -> y      =>      x -> Cast(bf16) -> Cast(f32) -> MatMul(W rounded) -> y
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from hasten.graph import edit, walk


def round_floats(graph: ir.Model, labels: Collection[str], dtype: ir.DataType) -> ir.Model:
    """Round inputs and weights of the linear operators ``labels``, in place; accumulation stays float32."""
    taken = edit.names(graph)
    for node in list(graph.graph):
        if walk.label(node) not in labels or walk.weight(node) is None:
            continue
        for index, value in enumerate(node.inputs[:2]):
            if value is None or not walk.is_float(value):
                continue
            name = f"{value.name}/{dtype.name.lower()}"
            narrow = edit.add_node(node, "Cast", [value], edit.fresh(taken, name), {"to": dtype.value})
            wide = edit.add_node(node, "Cast", [narrow], edit.fresh(taken, name), {"to": ir.DataType.FLOAT.value})
            wide.shape, wide.type = value.shape, value.type
            node.replace_input_with(index, wide)
    return graph
