"""A difference in as few nodes as still show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from benchmarks.differential_child import Difference, examine
from benchmarks.random_graphs.graphs import Case
from hasten.graph import evaluate


def shrunk(case: Case, found: Difference) -> Case:
    """The case with one output, and every node gone whose value can be fed in its place."""
    name = found.feed or "sample"
    best = Case(case.seed, case.proto, {name: case.feeds[name]})
    for output in case.proto.graph.output:
        one = _of_outputs(best, [output])
        if _still(one, found):
            best = one
            break
    again = True
    while again:
        again = False
        for node in list(best.proto.graph.node):
            smaller = _without(best, node, name)
            if smaller is not None and _still(smaller, found):
                best, again = smaller, True
                break
    return best


def _still(case: Case, found: Difference) -> bool:
    return any(d.change == found.change for d in examine(case, only=found.change).differences)


def _of_outputs(case: Case, outputs: Sequence[onnx.ValueInfoProto]) -> Case:
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    return _swept(Case(case.seed, proto, case.feeds))


def _without(case: Case, node: onnx.NodeProto, feed: str) -> Case | None:
    """The node's outputs become inputs, or vanish with those that only it needs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    values = _values(case, list(node.output), feed)
    if values is None or any(o.name in node.output for o in proto.graph.output):
        return None
    at = next(i for i, n in enumerate(proto.graph.node) if list(n.output) == list(node.output))
    del proto.graph.node[at]
    feeds = dict(case.feeds[feed])
    for name, value in values.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        if node.op_type == "Constant":
            proto.graph.initializer.append(numpy_helper.from_array(value, name))
            continue
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
        feeds[name] = value
    return _swept(Case(case.seed, proto, {feed: feeds}))


def _values(case: Case, names: list[str], feed: str) -> dict[str, np.ndarray] | None:
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n)
    try:
        session = evaluate.session(ir.from_proto(proto), threads=1)
        found = session.run([n for n in names if n], {i.name: case.feeds[feed][i.name] for i in session.get_inputs()})
    except Exception:
        return None
    return dict(zip([n for n in names if n], found, strict=True))


def _swept(case: Case) -> Case:
    """Without nodes, weights and inputs that nothing reads."""
    graph = case.proto.graph
    kept, nodes = {o.name for o in graph.output}, []
    for node in reversed(graph.node):
        if kept.intersection(node.output):
            nodes.append(node)
            kept.update(_read(node))
    nodes = nodes[::-1]
    stored = [w for w in graph.initializer if w.name in kept]
    inputs = [i for i in graph.input if i.name in kept]
    made = {n for node in nodes for n in node.output}
    hints = [v for v in graph.value_info if v.name in made]
    new = helper.make_graph(nodes, graph.name, inputs, list(graph.output), stored, value_info=hints)
    proto = helper.make_model(new, opset_imports=list(case.proto.opset_import), ir_version=case.proto.ir_version)
    names = {i.name for i in inputs}
    return Case(case.seed, proto, {k: {n: a for n, a in f.items() if n in names} for k, f in case.feeds.items()})


def _read(node: onnx.NodeProto) -> list[str]:
    inner = [name for a in node.attribute if a.type == onnx.AttributeProto.GRAPH for n in a.g.node for name in _read(n)]
    return [*node.input, *inner]


def told(proto: onnx.ModelProto) -> str:
    """The graph as text, small weights included."""
    stored = {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}
    lines = [f"operator set {proto.opset_import[0].version}"]
    lines += [
        f"  {i.name}: {[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]}" for i in proto.graph.input
    ]
    lines += [f"  {n} = {a.dtype}{list(a.shape)} {a.tolist() if a.size < 20 else ''}" for n, a in stored.items()]
    for node in proto.graph.node:
        attributes = {a.name: str(helper.get_attribute_value(a))[:300] for a in node.attribute}
        lines.append(f"  {', '.join(node.output)} = {node.op_type}({', '.join(node.input)}) {attributes or ''}")
    return "\n".join([*lines, f"  -> {', '.join(o.name for o in proto.graph.output)}"])
