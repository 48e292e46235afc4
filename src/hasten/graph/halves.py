"""Cut a graph in two at a point of its order, so that what lies before need not run again.

inputs -> [ before ] -> frontier -> [ behind ] -> outputs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from hasten.graph import edit
from hasten.graph.walk import Array


def behind(model: ir.Model, position: int) -> ir.Model:
    """A copy that starts at node number ``position``; its inputs are the tensors that cross the cut.

    Outputs that are complete before the cut are left out. Weights are shared with ``model``.
    """
    copy = model.clone()
    nodes = list(copy.graph)
    first, rest = nodes[:position], set(nodes[position:])
    crossing = _crossing(copy, first, rest)
    fresh = {v: ir.Value(name=v.name, shape=v.shape, type=v.type) for v in crossing}
    copy.graph.outputs[:] = [v for v in copy.graph.outputs if v.producer() in rest]
    for old, new in fresh.items():
        old.replace_all_uses_with(new)
    copy.graph.inputs[:] = list(fresh.values())
    copy.graph.remove(first, safe=False)
    for node in first:
        edit.let_go(node)
    edit.prune(copy)
    return copy


def between(model: ir.Model, start: int, end: int) -> ir.Model:
    """A copy of the nodes from ``start`` to ``end``: from what crosses the first cut to what crosses the second.

    Its outputs are only those that it computes; the rest is carried on by ``advance``.
    """
    wanted, copy = set(crossing(model, end)), behind(model, start)
    copy.graph.outputs[:] = [v for node in copy.graph for v in node.outputs if v.name in wanted]
    edit.prune(copy)
    return copy


def possible(model: ir.Model, position: int) -> bool:
    """False where a tensor that crosses has no known type: a runtime takes no input without one."""
    nodes = list(model.graph)
    return all(v.type is not None for v in _crossing(model, nodes[:position], set(nodes[position:])))


def crossing(model: ir.Model, position: int) -> list[str]:
    """Names of the tensors that the nodes from ``position`` on read from before it, inputs of the network included."""
    nodes = list(model.graph)
    return [v.name or "" for v in _crossing(model, nodes[:position], set(nodes[position:]))]


def _crossing(model: ir.Model, first: Sequence[ir.Node], rest: set[ir.Node]) -> list[ir.Value]:
    top = {inner: node for node in rest for graph in _bodies(node) for inner in graph.all_nodes()}
    known = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    known += [v for node in first for v in node.outputs]
    return [v for v in known if any(use.node in rest or use.node in top for use in v.uses())]


def _bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs of an If, Loop or Scan."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.value)
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.value)
    return found


def advance(held: Mapping[str, Array], fresh: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
    """The tensors that cross the next cut: computed just now, or carried on."""
    return {name: fresh[name] if name in fresh else held[name] for name in wanted}
