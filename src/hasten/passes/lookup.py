"""Exact rewrites that make a table of what depends on nothing but a class number.

x integer -> Equal(0..n-1) -> Cast -> MatMul(W)         =>   x -> Gather(W and a row of zeros)
OneHot(x) -> MatMul(W)                                  =>   the same
Gather(T, x) -> Add(b) -> Gelu -> LayerNormalization    =>   Gather(LayerNormalization(Gelu(T + b)), x)

A product with a one-hot row only picks a row of W. And whatever is computed from a picked row alone can be computed
once for every row of the table, however often it is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, evaluate, walk
from hasten.graph.sizes import sizes
from hasten.passes.rewrite import apply, named

GROWTH = 4 << 20  # bytes that a table may gain
ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
        "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip
INTEGERS = frozenset({ir.DataType[name] for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32")})
SINCE = 13  # the axis of a Squeeze is an input
ALONG_ROWS = frozenset({"LayerNormalization", "Softmax"})  # on the last axis


def pick_rows(model: ir.Model) -> int:
    """Products with one-hot rows become Gather; returns how many."""
    return len(apply(model, REWRITES))


def tabulate(model: ir.Model) -> int:
    """Move into constant tables what is computed from their rows alone; returns how many nodes went."""
    if walk.opset(model) < SINCE:  # where a Softmax runs along another axis
        return 0
    taken = edit.names(model)
    gathers = [n for n in model.graph if n.op_type == "Gather" and n.domain == ""]
    return sum(_compute_rows(model, node, taken) for node in gathers)


@dataclass(frozen=True)
class _Numbers:
    """The integers that a one-hot tensor was made of.

    ``column``: they still have a last axis of one. ``wraps``: negative ones count from the end.
    """

    value: ir.Value
    column: bool = False
    wraps: bool = False


def one_hot_product(node: ir.Node, taken: set[str]) -> bool:
    """MatMul of one-hot rows with a constant: a Gather, with a row of zeros for numbers that have no place.

    The numbers must be integers: 0.5 equals no class. The table must be finite: zero times infinity is not zero.
    """
    table = walk.constant(node.inputs[1]) if node.op_type == "MatMul" and node.domain == "" else None
    if table is None or table.ndim != 2 or table.dtype != np.float32 or not np.isfinite(table).all():
        return False
    numbers = _class_numbers(node.inputs[0], len(table))
    if numbers is None:
        return False
    graph, base = walk.main_graph(node), node.outputs[0].name or "y"

    def stored(suffix: str, array: walk.Array) -> ir.Value:
        return edit.add_constant(graph, edit.fresh(taken, f"{base}/{suffix}"), array)

    def add(op_type: str, inputs: Sequence[ir.Value | None], suffix: str, **attributes: int) -> ir.Value:
        return edit.add_node(node, op_type, inputs, edit.fresh(taken, f"{base}/{suffix}"), attributes)

    row = numbers.value
    if numbers.column:
        row = add("Squeeze", [row, stored("axis", np.array([-1], np.int64))], "numbers")
    if row.dtype != ir.DataType.INT64:
        row = add("Cast", [row], "int64", to=ir.DataType.INT64.value)
    zero, count = stored("first", np.array(0, np.int64)), stored("count", np.array(len(table), np.int64))
    if numbers.wraps:
        behind = add("Add", [row, count], "behind")
        row = add("Where", [add("Less", [row, zero], "negative"), behind, row], "wrapped")
    known = add(
        "And", [add("GreaterOrEqual", [row, zero], "not_below"), add("Less", [row, count], "not_above")], "known"
    )
    row = add("Where", [known, row, count], "row")
    rows = stored("rows", np.concatenate([table, np.zeros_like(table[:1])]))
    return edit.swap(node, "Gather", [rows, row], taken, axis=0)


def _class_numbers(one_hot: ir.Value | None, count: int) -> _Numbers | None:
    """What a one-hot tensor of ``count`` classes was made of; None where it is another tensor."""
    hot = walk.produced_by(one_hot, "OneHot")
    if hot is not None and hot.inputs[0] is not None:
        values = walk.constant(hot.inputs[2])
        plain = values is not None and values.tolist() == [0, 1] and walk.attribute(hot, "axis", -1) == -1
        known = plain and walk.scalar(hot.inputs[1]) == count and hot.inputs[0].dtype in INTEGERS
        return _Numbers(hot.inputs[0], wraps=True) if known else None
    cast = walk.produced_by(one_hot, "Cast")
    equal = walk.produced_by(cast.inputs[0], "Equal") if cast is not None else None
    found = walk.operands(equal) if equal is not None else None
    steps = walk.constant(found[1]) if found is not None else None
    if found is None or steps is None or steps.size != count or steps.shape[-1:] != (count,):
        return None
    if found[0].dtype not in INTEGERS or not np.array_equal(steps.reshape(-1), np.arange(count)):
        return None
    source = _column(found[0])
    return _Numbers(source, column=True) if source is not None and steps.ndim <= (walk.rank(source) or 0) else None


def _column(value: ir.Value) -> ir.Value | None:
    """The numbers [..., 1] of a value that an Expand may have spread along its last axis, and no other."""
    before = walk.produced_by(value, "Expand")
    source = before.inputs[0] if before is not None else value
    own = walk.dims(source)
    if own is None or len(own) < 2 or own[-1] != 1:
        return None
    if before is not None:
        wanted = sizes(before.inputs[1])
        if wanted is None or len(wanted) != len(own):
            return None
        if any(w != 1 and (w is None or w != o) for w, o in zip(wanted[:-1], own[:-1], strict=True)):
            return None
    return source


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
    # a constant may differ along the row, not between positions, and adds no axis
    along = all(c.ndim <= rank and (c.size == 1 or c.size == c.shape[-1]) for c in constants)
    return node.op_type in ELEMENTWISE and along


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


REWRITES = named(one_hot_product, since=SINCE)
