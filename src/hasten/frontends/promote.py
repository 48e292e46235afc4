"""Operands of different types, which torch joins by itself and ONNX does not: ``1 - gate``, with an int32 one.

one i32, gate f32 -> Sub    =>    one -> Cast(f32), gate -> Sub
"""

from __future__ import annotations

import onnx_ir as ir

from hasten.graph import edit

ALIKE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Sum", "Mean", "PRelu", "Equal", "Less", "Greater"}
    | {"LessOrEqual", "GreaterOrEqual", "Where", "Concat", "MatMul", "Gemm"}
)  # operators whose operands have one type, the condition of Where apart


def of_one_type(graph: ir.Graph) -> None:
    """Cast the operands of each such operator to the type to which torch promotes them, in place."""
    taken = {v.name for node in graph.all_nodes() for v in node.outputs if v.name}
    taken |= {v.name for v in (*graph.inputs, *graph.initializers.values()) if v.name}
    for node in list(graph.all_nodes()):
        if node.op_type not in ALIKE or node.domain not in ("", "ai.onnx"):
            continue
        first = 1 if node.op_type == "Where" else 0
        operands = [(at, v) for at, v in enumerate(node.inputs) if at >= first and v is not None]
        types = {v.dtype for _, v in operands}
        if len(types) < 2 or None in types:
            continue
        target = _promoted([v for _, v in operands])
        for at, value in operands:
            if value.dtype != target:
                name = edit.fresh(taken, f"{value.name}/{target.name.lower()}")
                cast = edit.add_node(node, "Cast", [value], name, {"to": target.value})
                cast.shape, cast.type = value.shape, ir.TensorType(target)
                node.replace_input_with(at, cast)


def _promoted(values: list[ir.Value]) -> ir.DataType:
    """The type of the result: floats before whole numbers, then tensors before single numbers, then the wider."""

    def rank(value: ir.Value) -> tuple[bool, bool, float]:
        assert value.dtype is not None
        whole = value.shape is None or len(value.shape) > 0
        return value.dtype.is_floating_point(), whole, value.dtype.itemsize

    dtype = max(values, key=rank).dtype
    assert dtype is not None
    return dtype
