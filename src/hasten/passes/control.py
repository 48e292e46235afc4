"""Exact rewrites of control flow whose course is known.

If(true) { a } else { b }              =>  a
Loop(3, true) { body }                 =>  body -> body -> body
Scan over x[4, n] { body }             =>  body(x[0]) -> body(x[1]) -> body(x[2]) -> body(x[3])
Loop(n) { f(w) + g(h) }                =>  f(w) once; Loop(n) { that + g(h) }
SplitToSequence -> SequenceAt 0, 1, 2  =>  Split
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.passes.rewrite import named

NEVER_FAIL = frozenset(
    {
        "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "Identity", "LeakyRelu", "Neg", "Not",
        "Relu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh",
    }
)  # fmt: skip
TRIPS, UNROLLED = 256, 4096  # steps, and nodes that unrolling may leave behind


def known_branch(node: ir.Node, taken: set[str]) -> bool:
    condition = walk.constant(node.inputs[0]) if node.op_type == "If" and node.domain == "" else None
    if condition is None:
        return False
    branch = node.attributes["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"].value
    return _finish(node, inline(node, branch, [], taken))


def inline(anchor: ir.Node, body: ir.Graph, inputs: Sequence[ir.Value], taken: set[str]) -> list[ir.Value]:
    """Copy ``body`` in front of ``anchor``, fed with ``inputs``; returns what it gives out. All names are made new."""
    copy, graph = body.clone(allow_outer_scope_values=True), walk.main_graph(anchor)
    for own, given in zip(copy.inputs, inputs, strict=True):
        own.replace_all_uses_with(given, replace_graph_outputs=True)
    outputs = list(copy.outputs)
    copy.outputs.clear()
    for value in list(copy.initializers.values()):
        tensor = value.const_value
        assert tensor is not None
        name = edit.fresh(taken, value.name or "weight")
        lifted = edit.add_constant(graph, name, tensor.numpy())
        value.replace_all_uses_with(lifted)
        outputs = [lifted if o is value else o for o in outputs]
    for inner in list(copy):
        copy.remove(inner)
        for output in inner.outputs:
            if output.name:
                output.name = edit.fresh(taken, output.name)
        inner.name = edit.fresh(taken, inner.name) if inner.name else inner.name
        graph.insert_before(anchor, inner)
    return outputs


def _finish(node: ir.Node, outputs: Sequence[ir.Value]) -> bool:
    """Let readers of ``node`` read ``outputs``; a value that cannot leave the graph itself gets an Identity."""
    leaving: list[ir.Value] = []
    for old, new in zip(node.outputs, outputs, strict=True):
        if old.is_graph_output() and (new.producer() is None or new.is_graph_output() or new in leaving):
            identity = ir.node("Identity", [new])
            walk.main_graph(node).insert_before(node, identity)
            new = identity.outputs[0]
            new.shape, new.type = old.shape, old.type
        leaving.append(new)
        edit.replace(old, new)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def _trips(node: ir.Node) -> int | None:
    """How often a Loop runs, where no condition can end it sooner."""
    count, start = walk.scalar(node.inputs[0]), node.inputs[1]
    body = node.attributes["body"].value
    goes_on = start is None or bool(_number(start))
    ends: ir.Value | None = body.outputs[0]
    while (before := walk.produced_by(ends, "Identity")) is not None:
        ends = before.inputs[0]
    known = walk.constant(ends)
    always = ends is body.inputs[1] or (known is not None and bool(known))
    if count is None or not goes_on or not always:
        return None
    return int(count) if 0 < count <= TRIPS and count * len(body) <= UNROLLED else None


def unroll_loop(node: ir.Node, taken: set[str]) -> bool:
    trips = _trips(node) if node.op_type == "Loop" and node.domain == "" else None
    if trips is None:
        return False
    body, graph = node.attributes["body"].value, walk.main_graph(node)
    carried: list[ir.Value] = [v for v in node.inputs[2:] if v is not None]
    rows: list[list[ir.Value]] = []
    truth = edit.add_constant(graph, edit.fresh(taken, "true"), np.array(True))
    for step in range(trips):
        number = edit.add_constant(graph, edit.fresh(taken, f"step_{step}"), np.array(step, np.int64))
        _, *outputs = inline(node, body, [number, truth, *carried], taken)
        carried, scanned = outputs[: len(carried)], outputs[len(carried) :]
        rows.append(scanned)
    stacked = [_stack(node, list(column), 0, taken) for column in zip(*rows, strict=True)]
    return _finish(node, [*carried, *stacked])


def unroll_scan(node: ir.Node, taken: set[str]) -> bool:
    """Forward scans over axes of known length."""
    if node.op_type != "Scan" or node.domain != "":
        return False
    count = walk.attribute(node, "num_scan_inputs", 0)
    body, values = node.attributes["body"].value, [v for v in node.inputs if v is not None]
    state, scanned = values[: len(values) - count], values[len(values) - count :]
    axes = walk.attribute(node, "scan_input_axes", [0] * count)
    lengths = {(walk.dims(v) or [None] * 99)[a] for v, a in zip(scanned, axes, strict=True)}
    outputs = len(node.outputs) - len(state)
    ahead = not any(
        [*walk.attribute(node, "scan_input_directions", [0]), *walk.attribute(node, "scan_output_directions", [0])]
    )
    length = lengths.pop() if len(lengths) == 1 else None
    if not ahead or not isinstance(length, int) or not 0 < length <= TRIPS or length * len(body) > UNROLLED:
        return False
    rows: list[list[ir.Value]] = []
    for step in range(length):
        slices = [_row(node, v, a, step, taken) for v, a in zip(scanned, axes, strict=True)]
        found = inline(node, body, [*state, *slices], taken)
        state, row = found[: len(state)], found[len(state) :]
        rows.append(row)
    out_axes = walk.attribute(node, "scan_output_axes", [0] * outputs)
    stacked = [_stack(node, list(c), a, taken) for c, a in zip(zip(*rows, strict=True), out_axes, strict=True)]
    return _finish(node, [*state, *stacked])


def _row(anchor: ir.Node, value: ir.Value, axis: int, step: int, taken: set[str]) -> ir.Value:
    index = edit.add_constant(walk.main_graph(anchor), edit.fresh(taken, f"row_{step}"), np.array(step, np.int64))
    found = edit.add_node(anchor, "Gather", [value, index], edit.fresh(taken, f"{value.name}/row"), {"axis": axis})
    found.type = value.type
    return found


def _stack(anchor: ir.Node, values: list[ir.Value], axis: int, taken: set[str]) -> ir.Value:
    place = edit.add_constant(walk.main_graph(anchor), edit.fresh(taken, "axis"), np.array([axis], np.int64))
    rows = [edit.add_node(anchor, "Unsqueeze", [v, place], edit.fresh(taken, f"{v.name}/row")) for v in values]
    for row, value in zip(rows, values, strict=True):
        row.type = value.type
    found = edit.add_node(anchor, "Concat", rows, edit.fresh(taken, f"{values[0].name}/rows"), {"axis": axis})
    found.type = values[0].type
    return found


def hoist(node: ir.Node, taken: set[str]) -> bool:
    """Move what does not change from step to step out of a Loop or Scan.

    A loop that may take no step computes nothing of its body: out of it comes only what cannot fail and costs little.
    """
    if node.op_type not in ("Loop", "Scan") or node.domain != "":
        return False
    body, done, runs = node.attributes["body"].value, False, _takes_a_step(node)
    inside = {v for n in body for v in n.outputs} | set(body.inputs) | set(body.initializers.values())
    for inner in list(body):
        if not _still(inner, body, inside) or not (runs or (inner.op_type in NEVER_FAIL and inner.domain == "")):
            continue
        body.remove(inner)
        for output in inner.outputs:
            output.name = edit.fresh(taken, output.name) if output.name else output.name
        walk.main_graph(node).insert_before(node, inner)
        inside -= set(inner.outputs)
        done = True
    return done


def _still(inner: ir.Node, body: ir.Graph, inside: set[ir.Value]) -> bool:
    """Does a node of the body compute the same in every step, from values outside?"""
    bodies = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in inner.attributes.values())
    random = inner.op_type.startswith(("Random", "Multinomial", "Bernoulli"))
    leaves = any(o in body.outputs for o in inner.outputs)
    return not (bodies or random or leaves or inner.op_type == "Constant" or inside.intersection(inner.inputs))


def _takes_a_step(node: ir.Node) -> bool:
    """Is it certain that the body runs at all?"""
    if node.op_type == "Loop":
        starts = node.inputs[1] is None or bool(_number(node.inputs[1]))
        return starts and (node.inputs[0] is None or (_number(node.inputs[0]) or 0) > 0)
    count = walk.attribute(node, "num_scan_inputs", 0)
    axes = walk.attribute(node, "scan_input_axes", [0] * count)
    sizes = [(walk.dims(v) or [None] * 99)[a] for v, a in zip(node.inputs[-count:], axes, strict=True)]
    return any(isinstance(size, int) and size > 0 for size in sizes)


def _number(value: ir.Value | None) -> float | None:
    """The one element of a constant, a truth value too."""
    array = walk.constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def parts_of_sequence(node: ir.Node, taken: set[str]) -> bool:
    """A tensor cut into a sequence whose parts are then picked by number: scripts write ``chunk`` like that."""
    if (
        node.op_type != "SplitToSequence"
        or node.domain != ""
        or len(node.inputs) < 2
        or node.outputs[0].is_graph_output()
    ):
        return False
    sizes, whole = walk.integers(node.inputs[1]), walk.dims(node.inputs[0])
    axis = walk.attribute(node, "axis", 0)
    length = whole[axis] if whole is not None else None
    if sizes is None or not isinstance(length, int):
        return False
    if walk.rank(node.inputs[1]) == 0:  # the size of every part but the last
        sizes = [min(sizes[0], length - start) for start in range(0, length, sizes[0])]
    readers = [n for n, _ in walk.consumers(node.outputs[0])]
    picks = [walk.scalar(n.inputs[1]) if n.op_type == "SequenceAt" and n.graph is node.graph else None for n in readers]
    if not readers or any(p is None or not -len(sizes) <= p < len(sizes) for p in picks):
        return False
    parts = [ir.Value(name=edit.fresh(taken, f"{node.outputs[0].name}/part")) for _ in sizes]
    told = edit.add_constant(walk.main_graph(node), edit.fresh(taken, f"{node.outputs[0].name}/sizes"), np.array(sizes))
    split = ir.node("Split", [node.inputs[0], told], {"axis": axis}, outputs=parts)
    walk.main_graph(node).insert_before(node, split)
    for reader, pick in zip(readers, picks, strict=True):
        _finish(reader, [parts[int(pick or 0)]])
    walk.main_graph(node).remove(node, safe=True)
    return True


SINCE = 13  # axes of an Unsqueeze and sizes of a Split are inputs
REWRITES = (
    *named(known_branch),
    *named(unroll_loop, unroll_scan, since=SINCE),
    *named(hoist),
    *named(parts_of_sequence, since=SINCE),
)
