"""Exact rewrites that make a table of what depends on nothing but a class number.

x -> Equal(0..n-1) -> Cast -> MatMul(W)                 =>   x -> Gather(W and a row of zeros)
OneHot(x) -> MatMul(W)                                  =>   the same
Gather(T, x) -> Add(b) -> Gelu -> LayerNormalization    =>   Gather(LayerNormalization(Gelu(T + b)), x)

A product with a one-hot row only picks a row of W. And whatever is computed from a picked row alone can be computed
once for every row of the table, however often it is picked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, evaluate, walk

GROWTH = 4 << 20  # bytes that a table may gain
ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
        "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip
ALONG_ROWS = frozenset({"LayerNormalization", "Softmax"})  # on the last axis


def pick_rows(model: ir.Model) -> int:
    """Products with one-hot rows become Gather; returns how many."""
    taken = edit.names(model)
    return sum(_pick_rows(node, taken) for node in list(model.graph) if node.op_type == "MatMul")


def tabulate(model: ir.Model) -> int:
    """Move into constant tables what is computed from their rows alone; returns how many nodes went."""
    taken = edit.names(model)
    gathers = [n for n in model.graph if n.op_type == "Gather" and n.domain == ""]
    return sum(_compute_rows(model, node, taken) for node in gathers)


def _pick_rows(node: ir.Node, taken: set[str]) -> bool:
    """MatMul of one-hot rows with a constant: a Gather, with a row of zeros for numbers that have no place."""
    table = walk.constant(node.inputs[1])
    if table is None or table.ndim != 2 or table.dtype != np.float32 or node.domain != "":
        return False
    numbers = _class_numbers(node.inputs[0], len(table))
    if numbers is None or not isinstance(node.graph, ir.Graph):
        return False
    value, kind = numbers
    base = node.outputs[0].name or "y"

    def stored(suffix: str, array: walk.Array) -> ir.Value:
        assert isinstance(node.graph, ir.Graph)
        return edit.add_constant(node.graph, edit.fresh(taken, f"{base}/{suffix}"), array)

    def add(op_type: str, inputs: Sequence[ir.Value | None], suffix: str, **attributes: int) -> ir.Value:
        return edit.add_node(node, op_type, inputs, edit.fresh(taken, f"{base}/{suffix}"), attributes)

    last = add("Squeeze", [value, stored("axis", np.array([-1], np.int64))], "numbers") if kind == "column" else value
    wide = add("Cast", [last], "int64", to=ir.DataType.INT64.value)
    count = np.array(len(table), np.int64)
    low = add("GreaterOrEqual", [wide, stored("first", np.array(0, np.int64))], "not_below")
    known = add("And", [low, add("Less", [wide, stored("count", count)], "not_above")], "known")
    row = add("Where", [known, wide, stored("none", count)], "row")
    rows = stored("rows", np.concatenate([table, np.zeros((1, table.shape[1]), np.float32)]))
    edit.replace(node.outputs[0], add("Gather", [rows, row], "picked", axis=0))
    node.graph.remove(node, safe=True)
    return True


def _class_numbers(one_hot: ir.Value | None, count: int) -> tuple[ir.Value, str] | None:
    """What a one-hot tensor was made of, and whether the numbers still have a last axis of one ("column")."""
    node = one_hot.producer() if one_hot is not None else None
    if node is not None and node.op_type == "OneHot":
        depth, values = walk.scalar(node.inputs[1]), walk.constant(node.inputs[2])
        last = walk.attribute(node, "axis", -1) == -1
        plain = depth == count and values is not None and values.tolist() == [0, 1] and last
        # OneHot counts negative numbers from the end; what reaches further is a row of zeros
        return (node.inputs[0], "numbers") if plain and _never_negative(node.inputs[0]) else None  # type: ignore[return-value]
    if node is None or node.op_type != "Cast" or node.inputs[0] is None:
        return None
    equal = node.inputs[0].producer()
    found = walk.operands(equal) if equal is not None and equal.op_type == "Equal" else None
    steps = walk.constant(found[1]) if found is not None else None
    if found is None or steps is None or steps.size != count or steps.shape[-1] != count:
        return None
    if not np.array_equal(steps.reshape(-1), np.arange(count)):
        return None
    return _column(found[0])


def _never_negative(value: ir.Value | None) -> bool:
    return value is not None and value.dtype in (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32)


def _column(value: ir.Value) -> tuple[ir.Value, str] | None:
    """The numbers [..., 1] behind a value that was spread along its last axis, in front of an Expand or as it is."""
    before = value.producer()
    source = before.inputs[0] if before is not None and before.op_type == "Expand" else value
    if source is None or source.shape is None or len(source.shape) < 2 or source.shape[-1] != 1:
        return None
    if source is not value and (walk.rank(value) != len(source.shape) or any(d == 1 for d in list(source.shape)[:-1])):
        return None  # the Expand may spread other axes too
    return source, "column"


def _compute_rows(model: ir.Model, gather: ir.Node, taken: set[str]) -> int:
    """Move everything that is computed from the picked rows alone into the table; returns how many nodes went."""
    table = walk.constant(gather.inputs[0])
    if table is None or table.ndim != 2 or table.dtype != np.float32 or walk.attribute(gather, "axis", 0) != 0:
        return 0
    numbers = walk.rank(gather.inputs[1])
    if numbers is None:
        return 0
    inside = _row_functions(gather, numbers + 1)
    ends = [v for node in inside for v in node.outputs if _leaves(v, inside)]
    if not inside or len(ends) != 1:
        return 0
    rows = _evaluate(model, gather, inside, ends[0], table)
    if rows is None or rows.ndim != 2 or rows.nbytes > table.nbytes + GROWTH or rows.dtype != np.float32:
        return 0
    stored = edit.add_constant(model.graph, edit.fresh(taken, f"{ends[0].name}/rows"), rows)
    picked = edit.add_node(gather, "Gather", [stored, gather.inputs[1]], edit.fresh(taken, f"{ends[0].name}/picked"))
    edit.replace(ends[0], picked)
    return len(inside)


def _row_functions(gather: ir.Node, rank: int) -> list[ir.Node]:
    """The nodes behind ``gather`` whose rows depend on the picked rows alone, in order."""
    known: set[ir.Value] = {gather.outputs[0]}
    inside: list[ir.Node] = []
    for node in gather.graph or ():
        computed = [v for v in node.inputs if v is not None and walk.constant(v) is None]
        if computed and all(v in known for v in computed) and _works_on_rows(node, known, rank):
            inside.append(node)
            known.update(node.outputs)
    return inside


def _works_on_rows(node: ir.Node, known: set[ir.Value], rank: int) -> bool:
    if node.domain != "":
        return False
    if node.op_type == "MatMul":
        weight = walk.constant(node.inputs[1])
        return node.inputs[0] in known and weight is not None and weight.ndim == 2
    if node.op_type in ALONG_ROWS:
        return node.inputs[0] in known and walk.attribute(node, "axis", -1) in (-1, rank - 1)
    constants = [c for v in node.inputs if v is not None and v not in known and (c := walk.constant(v)) is not None]
    # a constant may differ along the row, not between positions
    return node.op_type in ELEMENTWISE and all(c.size == 1 or c.size == c.shape[-1] for c in constants)


def _leaves(value: ir.Value, inside: Sequence[ir.Node]) -> bool:
    return value.is_graph_output() or any(reader not in inside for reader, _ in walk.consumers(value))


def _evaluate(
    model: ir.Model, gather: ir.Node, inside: Sequence[ir.Node], end: ir.Value, table: walk.Array
) -> walk.Array | None:
    """``end`` for every row of the table at once; None where the runtime cannot."""
    copies: dict[ir.Value, ir.Value] = {gather.outputs[0]: ir.Value(name="rows", type=gather.outputs[0].type)}
    copies[gather.outputs[0]].shape = ir.Shape(table.shape)
    copies[gather.outputs[0]].type = ir.TensorType(ir.DataType.FLOAT)
    constants: list[ir.Value] = []

    def copied(value: ir.Value | None) -> ir.Value | None:
        array = walk.constant(value)
        if value is None or value in copies or array is None:
            return None if value is None else copies[value]
        # [1, 1, m] means the same as [m] beside rows, and must not add axes to them
        tensor = ir.tensor(array.reshape(array.shape[-2:] if array.ndim > 2 else array.shape), name=value.name)
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.numpy().shape)
        copies[value] = ir.Value(name=value.name, type=kind, shape=shape, const_value=tensor)
        constants.append(copies[value])
        return copies[value]

    body = []
    for node in inside:
        outputs = [ir.Value(name=v.name, type=v.type) for v in node.outputs]
        inputs = [copied(v) for v in node.inputs]
        body.append(ir.Node("", node.op_type, inputs, list(node.attributes.values()), outputs=outputs, name=node.name))
        copies.update(zip(node.outputs, outputs, strict=True))
    graph = ir.Graph(
        [copies[gather.outputs[0]]], [copies[end]], nodes=body, initializers=constants,
        opset_imports=dict(model.opset_imports), name="rows",
    )  # fmt: skip
    try:
        [found] = evaluate.run(ir.Model(graph, ir_version=model.ir_version), [{"rows": table}])
    except Exception:  # whatever the runtime raises: this chain stays as it is
        return None
    return found[end.name or ""]
