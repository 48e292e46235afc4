"""Transpose nodes: put in, joined, and taken out where they cancel or only rename axes of size 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.movable import REDUCTIONS


def is_transpose(node: ir.Node | None) -> bool:
    """True for Transpose of the default domain with its order written out."""
    return node is not None and node.op_type == "Transpose" and node.domain == "" and "perm" in node.attributes


def order(node: ir.Node) -> list[int]:
    """The ``perm`` of a Transpose: output axis i is input axis ``perm[i]``."""
    return list(walk.attribute(node, "perm", []))


def before(node: ir.Node, value: ir.Value, perm: Sequence[int], taken: set[str]) -> ir.Value:
    """``value`` transposed, for ``node`` to read; a transpose of it that exists is used again."""
    for reader, _ in walk.consumers(value):
        if is_transpose(reader) and order(reader) == list(perm) and reader.graph is node.graph:
            return reader.outputs[0]
    turned = ir.Value(name=edit.fresh(taken, f"{value.name}/turned"), type=value.type, shape=_shape(value, perm))
    new = ir.node("Transpose", [value], {"perm": list(perm)}, outputs=[turned], name=turned.name)
    producer = value.producer()
    graph = node.graph
    assert graph is not None
    if producer is not None:
        graph.insert_after(producer, new)
    else:
        graph.insert_before(graph[0], new)
    return turned


def behind(node: ir.Node, value: ir.Value, perm: Sequence[int], stored: Sequence[int], taken: set[str]) -> None:
    """Everyone who read ``value`` reads it through a transpose; the value itself is held in the order ``stored``."""
    turned = ir.Value(name=edit.fresh(taken, f"{value.name}/turned"), type=value.type, shape=value.shape)
    if value.is_graph_output():
        turned.name, value.name = value.name, turned.name
    value.replace_all_uses_with(turned, replace_graph_outputs=True)
    new = ir.node(
        "Transpose", [value], {"perm": list(perm)}, outputs=[turned], name=edit.fresh(taken, f"{turned.name}/transpose")
    )
    assert node.graph is not None
    node.graph.insert_after(node, new)
    value.shape = _shape(value, stored)


def _shape(value: ir.Value, perm: Sequence[int]) -> ir.Shape | None:
    return None if value.shape is None else ir.Shape([value.shape[i] for i in perm])


def cancel(model: ir.Model) -> None:
    """Apply the rules until none fits."""
    taken = edit.names(model)
    for rules in (RULES, LAST_RULES):
        while sum(rule(node, taken) for node in list(model.graph) for rule in rules if node.graph is not None):
            edit.prune(model)


def _drop(node: ir.Node, value: ir.Value) -> bool:
    """``value`` takes the place of the node's output; one that leaves the graph keeps its name."""
    own = node.outputs[0]
    graph = node.graph
    assert graph is not None
    if own.is_graph_output():
        movable = value.producer() is not None and not value.is_graph_output()
        if not movable:
            if node.op_type == "Identity":
                return False
            new = ir.node("Identity", [value], outputs=[ir.Value(name=f"{own.name}/same")])
            graph.insert_before(node, new)
            value = new.outputs[0]
        shape, kind = own.shape, own.type
        edit.replace(own, value)
        value.shape, value.type = shape, kind
    else:
        own.replace_all_uses_with(value)
    graph.remove(node, safe=True)
    return True


def join(node: ir.Node, taken: set[str]) -> bool:
    """T -> T becomes one transpose, or none."""
    if not is_transpose(node):
        return False
    value, perm = node.inputs[0], order(node)
    assert value is not None
    if perm == sorted(perm):
        return _drop(node, value)
    inner = value.producer()
    if inner is None or not is_transpose(inner) or inner.inputs[0] is None:
        return False
    node.replace_input_with(0, inner.inputs[0])
    node.attributes["perm"] = ir.AttrInt64s("perm", [order(inner)[i] for i in perm])
    return True


def share(node: ir.Node, taken: set[str]) -> bool:
    """Two equal transposes of one tensor become one."""
    if not is_transpose(node) or node.outputs[0].is_graph_output():
        return False
    value = node.inputs[0]
    assert value is not None
    for other, _ in walk.consumers(value):
        twin = other is not node and is_transpose(other) and order(other) == order(node)
        if twin and other.graph is node.graph and _comes_before(other, node):
            node.outputs[0].replace_all_uses_with(other.outputs[0])
            assert node.graph is not None
            node.graph.remove(node, safe=True)
            return True
    return False


def _comes_before(one: ir.Node, other: ir.Node) -> bool:
    assert one.graph is not None
    return next(n for n in one.graph if n is one or n is other) is one


def passes(node: ir.Node, perm: Sequence[int]) -> bool:
    """Does a reader of a tensor take it as well in the order ``perm``, because what it leaves of it is the same?"""
    value = node.inputs[0]
    if value is None or walk.rank(value) != len(perm):
        return False
    if node.op_type == "Reshape":
        return _renames(value, perm) and _explicit(node)
    gone = _gone(node)
    return gone is not None and [a for a in perm if a not in gone] == [a for a in sorted(perm) if a not in gone]


def comes(node: ir.Node, perm: Sequence[int]) -> bool:
    """Can a writer hand its output out as well in the order ``perm``, because only axes of size 1 move?"""
    value = node.outputs[0]
    if walk.rank(value) != len(perm):
        return False
    if node.op_type == "Reshape":
        return _renames(value, perm) and _explicit(node)
    if node.op_type != "Unsqueeze":
        return False
    new = _axes(node, len(perm))
    return new is not None and [a for a in perm if a not in new] == [a for a in sorted(perm) if a not in new]


def _gone(node: ir.Node) -> list[int] | None:
    """The axes that a Squeeze or a reduction takes away."""
    dropped = node.op_type == "Squeeze" or (node.op_type in REDUCTIONS and not walk.attribute(node, "keepdims", 1))
    return _axes(node, walk.rank(node.inputs[0]) or 0) if dropped and node.domain == "" else None


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    axes = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if axes is None or axes.size == 0 else [int(a) % rank for a in axes.reshape(-1)]


def _renames(value: ir.Value, perm: Sequence[int]) -> bool:
    """Does the order ``perm`` only move axes of size 1?"""
    if value.shape is None:
        return False
    solid = [a for a in perm if value.shape[a] != 1]
    return solid == sorted(solid)


def _explicit(node: ir.Node) -> bool:
    """A Reshape to a constant shape without zeros, which would copy axes by their place."""
    shape = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return shape is not None and 0 not in shape


def skip(node: ir.Node, taken: set[str]) -> bool:
    """T -> Reshape, Squeeze or reduction that does not care for the order: the transpose goes."""
    inner = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if inner is None or not is_transpose(inner) or inner.inputs[0] is None:
        return False
    source, perm = inner.inputs[0], order(inner)
    if walk.rank(source) != len(perm) or not isinstance(node.graph, ir.Graph):
        return False
    if node.op_type == "Reshape":
        if not (_renames(source, perm) and _explicit(node)):
            return False
    else:
        gone = _gone(node)
        kept = [] if gone is None else [perm[i] for i in range(len(perm)) if i not in gone]
        if gone is None or kept != sorted(kept):
            return False
        axes = np.array(sorted(perm[i] for i in gone))
        node.replace_input_with(1, edit.add_constant(node.graph, edit.fresh(taken, f"{node.name}/axes"), axes))
    node.replace_input_with(0, source)
    return True


def absorb(node: ir.Node, taken: set[str]) -> bool:
    """Reshape or Unsqueeze -> T that only moves axes of size 1: the shape is made in the new order at once."""
    inner = node.inputs[0].producer() if is_transpose(node) and node.inputs[0] is not None else None
    if (
        inner is None
        or not comes(inner, order(node))
        or not isinstance(node.graph, ir.Graph)
        or inner.inputs[1] is None
    ):
        return False
    perm = order(node)
    if inner.op_type == "Reshape":
        shape = walk.constant(inner.inputs[1])
        assert shape is not None
        new = shape[perm]
    else:
        made = _axes(inner, len(perm)) or []
        new = np.array(sorted(perm.index(a) for a in made))
    stored = edit.add_constant(node.graph, edit.fresh(taken, f"{inner.inputs[1].name}/turned"), new)
    value = ir.Value(name=edit.fresh(taken, f"{node.outputs[0].name}/made"), shape=node.outputs[0].shape)
    value.type = node.outputs[0].type
    made_node = ir.node(inner.op_type, [inner.inputs[0], stored], outputs=[value], name=value.name)
    node.graph.insert_before(node, made_node)
    return _drop(node, value)


def rename(node: ir.Node, taken: set[str]) -> bool:
    """T that only moves axes of size 1 is a Reshape, which moves no bytes."""
    source, own = (node.inputs[0], node.outputs[0]) if is_transpose(node) else (None, None)
    return (
        source is not None and own is not None and _renames(source, order(node)) and _reshape(node, source, own, taken)
    )


def merge(node: ir.Node, taken: set[str]) -> bool:
    """Reshape, Squeeze or Unsqueeze behind another one becomes one Reshape."""
    source = node.inputs[0] if node.op_type in SHAPES and node.domain == "" else None
    inner = source.producer() if source is not None and walk.only_consumer(source) is node else None
    if inner is None or inner.op_type not in SHAPES or inner.inputs[0] is None or inner.graph is not node.graph:
        return False
    return _reshape(node, inner.inputs[0], node.outputs[0], taken)


def _reshape(node: ir.Node, source: ir.Value, own: ir.Value, taken: set[str]) -> bool:
    """A Reshape of ``source`` in place of ``node``, where at most one size is unknown."""
    if own.shape is None or not isinstance(node.graph, ir.Graph):
        return False
    sizes = [d if isinstance(d, int) else -1 for d in own.shape]
    if sizes.count(-1) > 1 or 0 in sizes:
        return False
    shape = edit.add_constant(node.graph, edit.fresh(taken, f"{own.name}/shape"), np.array(sizes, np.int64))
    value = ir.Value(name=edit.fresh(taken, f"{own.name}/reshaped"), shape=own.shape, type=own.type)
    node.graph.insert_before(node, ir.node("Reshape", [source, shape], outputs=[value], name=value.name))
    return _drop(node, value)


SHAPES = ("Reshape", "Squeeze", "Unsqueeze")
RULES: tuple[Callable[[ir.Node, set[str]], bool], ...] = (join, share, skip, absorb)
LAST_RULES = (rename, merge)
