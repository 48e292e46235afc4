"""Exact rewrites that make one linear layer of two.

x -> MatMul(A) -> Add a -> MatMul(B) -> Add b     =>  x -> MatMul(A B) -> Add a B + b          (where that is less work)
x -> MatMul(Q) -> Add q                           =>  x -> MatMul([Q K V]) -> Add [q k v] -> Split -> three
x -> MatMul(K) -> Add k
x -> MatMul(V) -> Add v
x -> Conv(A), x -> Conv(B), alike but for weights =>  x -> Conv([A B]) -> Split -> two
x[b, T, n] -> Gather t -> MatMul(W), for every t  =>  x -> MatMul(W) -> Gather t
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.affine import add_shift, affine, bias_row, fits
from hasten.graph.bounded import never_infinite
from hasten.passes.rewrite import Rewrite, named

STEPS = 3  # fewer slices are not worth a change


def _added(node: ir.Node) -> tuple[ir.Node, walk.Array] | None:
    """The Add of a constant vector that follows ``node`` alone, with its constant."""
    after = walk.only_consumer(node.outputs[0])
    found = walk.operands(after) if after is not None and after.op_type == "Add" and after.domain == "" else None
    array = walk.constant(found[1]) if found is not None else None
    if after is None or array is None or array.ndim != 1 or array.dtype != np.float32:
        return None
    return after, array


def consecutive_products(node: ir.Node, taken: set[str]) -> bool:
    """MatMul or Gemm, perhaps an Add, then a MatMul or Gemm: one, where its matrix is smaller than both.

    Only of what is never infinite: two products make NaN of it where one makes infinity.
    """
    before = walk.produced_by(node.inputs[0], "MatMul", "Gemm", "Add") if node.op_type in ("MatMul", "Gemm") else None
    if before is None or not fits(node) or walk.only_consumer(before.outputs[0]) is not node:
        return False
    shift: walk.Array | None = None
    if before.op_type == "Add":
        found = walk.operands(before)
        inner = walk.produced_by(found[0], "MatMul") if found is not None else None
        told = _added(inner) if inner is not None else None
        if inner is None or told is None:
            return False
        before, shift = inner, told[1]
    first, second = affine(before), affine(node)
    if first is None or second is None or before.domain != "" or walk.attribute(before, "beta", 1.0) != 1:
        return False
    spread = bias_row(before, len(first.w)) if shift is None else shift.astype(np.float64)
    if spread is None or len(spread) != len(first.w) or bias_row(node, len(second.w)) is None:
        return False
    inner_width, outer = first.w.shape[1], len(second.w)
    if inner_width * outer > first.w.size + second.w.size or len(first.w) != second.w.shape[1]:
        return False
    if not never_infinite(before.inputs[0]):
        return False
    product = second.w @ first.w
    return _replace_product(node, before.inputs[0], product, second.w @ spread, taken)


def _replace_product(node: ir.Node, x: ir.Value | None, w: np.ndarray, shift: np.ndarray, taken: set[str]) -> bool:
    """Let ``node`` multiply ``x`` with another matrix of its own, and add ``shift``."""
    turned = node.op_type == "Gemm" and walk.attribute(node, "transB", 0)
    array = (w if turned else w.T) / (walk.attribute(node, "alpha", 1.0) if node.op_type == "Gemm" else 1.0)
    source = node.inputs[1]
    name = edit.fresh(taken, f"{source.name if source is not None else node.name}/product")
    node.replace_input_with(0, x)
    node.replace_input_with(1, edit.add_constant(walk.main_graph(node), name, array.astype(np.float32)))
    add_shift(walk.main_graph(node), node, shift, taken)
    return True


@dataclass(frozen=True)
class _Twin:
    """A linear node, the Add behind it, and its bias."""

    node: ir.Node
    end: ir.Node
    bias: walk.Array | None


def _key(node: ir.Node) -> tuple[object, ...] | None:
    """What linear nodes must share to become one beside their input; None where the node is none of them."""
    w = walk.constant(node.inputs[1]) if node.op_type in ("MatMul", "Gemm", "Conv") and fits(node) else None
    if w is None:
        return None
    told = sorted((a.name, str(a.value)) for a in node.attributes.values())
    kernel = w.shape[2:] if node.op_type == "Conv" else ()
    return node.op_type, tuple(told), kernel


def _twins(node: ir.Node) -> list[_Twin]:
    key, x = _key(node), node.inputs[0]
    if key is None or x is None:
        return []
    found = []
    for reader, index in walk.consumers(x):
        if index != 0 or reader.graph is not node.graph or _key(reader) != key:
            continue
        own = walk.constant(reader.inputs[2]) if len(reader.inputs) > 2 else None
        if len(reader.inputs) > 2 and reader.inputs[2] is not None and (own is None or own.ndim != 1):
            continue
        told = _added(reader) if node.op_type == "MatMul" else None
        found.append(_Twin(reader, told[0] if told else reader, told[1] if told else own))
    has = {t.bias is not None for t in found}
    return found if len(found) > 1 and len(has) == 1 else []


def parallel_layers(node: ir.Node, taken: set[str]) -> bool:
    """All linear nodes that read the same in the same way, at the first of them."""
    twins = _twins(node)
    if not twins or twins[0].node is not _first([t.node for t in twins]) or node is not twins[0].node:
        return False
    graph, base = walk.main_graph(node), node.outputs[0].name
    arrays = [walk.constant(t.node.inputs[1]) for t in twins]
    turned = node.op_type == "Conv" or (node.op_type == "Gemm" and walk.attribute(node, "transB", 0))
    axis, out_axis = (0 if turned else 1), (1 if node.op_type == "Conv" else -1)
    joined = np.concatenate([a for a in arrays if a is not None], axis)
    sizes = [a.shape[axis] for a in arrays if a is not None]

    def stored(name: str, array: walk.Array) -> ir.Value:
        return edit.add_constant(graph, edit.fresh(taken, f"{base}/{name}"), array)

    inputs: list[ir.Value | None] = [node.inputs[0], stored("joined", joined)]
    biases = [np.broadcast_to(t.bias, (size,)) for t, size in zip(twins, sizes, strict=True) if t.bias is not None]
    bias = stored("biases", np.concatenate(biases)) if biases else None
    if bias is not None and node.op_type != "MatMul":
        inputs.append(bias)
    attributes = {a.name: a.value for a in node.attributes.values()}
    whole = edit.add_node(node, node.op_type, inputs, edit.fresh(taken, f"{base}/together"), attributes)
    if bias is not None and node.op_type == "MatMul":
        whole = edit.add_node(node, "Add", [whole, bias], edit.fresh(taken, f"{base}/shifted"))
    parts = [ir.Value(name=edit.fresh(taken, f"{t.end.outputs[0].name}/part")) for t in twins]
    split = ir.node("Split", [whole, stored("sizes", np.array(sizes, np.int64))], {"axis": out_axis}, outputs=parts)
    graph.insert_before(node, split)
    for twin, part in zip(twins, parts, strict=True):
        edit.replace(twin.end.outputs[0], part)
        for old in dict.fromkeys((twin.end, twin.node)):
            graph.remove(old, safe=True)
    return True


def _first(nodes: Sequence[ir.Node]) -> ir.Node:
    wanted = set(nodes)
    return next(n for n in walk.main_graph(nodes[0]) if n in wanted)


def steps_together(node: ir.Node, taken: set[str]) -> bool:
    """The same matrix for rows that are picked one by one out of one tensor: multiply first, pick then."""
    picked = walk.produced_by(node.inputs[0], "Gather") if node.op_type in ("MatMul", "Gemm") else None
    view = affine(node) if picked is not None and node.domain == "" else None
    whole = picked.inputs[0] if picked is not None else None
    rank = walk.rank(whole)
    if view is None or picked is None or whole is None or rank is None or rank < 3:
        return False
    axis = walk.attribute(picked, "axis", 0) % rank
    if axis == rank - 1 or walk.scalar(picked.inputs[1]) is None or walk.rank(picked.inputs[1]) != 0:
        return False
    alike = [n for n in _readers_of_rows(whole, axis) if _same_product(n, node)]
    length = (walk.dims(whole) or [None])[axis]
    if len(alike) < STEPS or not isinstance(length, int) or 2 * len(alike) < length:
        return False
    graph, base = walk.main_graph(node), node.outputs[0].name
    matrix = edit.add_constant(graph, edit.fresh(taken, f"{base}/matrix"), view.w.T.astype(np.float32))
    anchor = _first([*(n for n in alike), *(_maker(n) for n in alike)])
    product = edit.add_node(anchor, "MatMul", [whole, matrix], edit.fresh(taken, f"{base}/all"))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        scaled = walk.constant(bias)
        assert scaled is not None
        shift = (scaled * walk.attribute(node, "beta", 1.0)).astype(np.float32)
        told = edit.add_constant(graph, edit.fresh(taken, f"{base}/bias"), shift)
        product = edit.add_node(anchor, "Add", [product, told], edit.fresh(taken, f"{base}/shifted"))
    for old in alike:
        edit.swap(old, "Gather", [product, _maker(old).inputs[1]], taken, axis=axis)
    return True


def _maker(node: ir.Node) -> ir.Node:
    found = walk.produced_by(node.inputs[0], "Gather")
    assert found is not None
    return found


def _readers_of_rows(whole: ir.Value, axis: int) -> list[ir.Node]:
    rank = walk.rank(whole) or 1
    rows = [n for n, i in walk.consumers(whole) if i == 0 and n.op_type == "Gather" and n.graph is not None]
    rows = [n for n in rows if walk.attribute(n, "axis", 0) % rank == axis and walk.rank(n.inputs[1]) == 0]
    return [r for n in rows for r, i in walk.consumers(n.outputs[0]) if i == 0 and r.graph is n.graph]


def _same_product(a: ir.Node, b: ir.Node) -> bool:
    """The same operator with the same weights and bias, which is a vector."""
    if a.op_type != b.op_type or len(a.inputs) != len(b.inputs) or not fits(a):
        return False
    bias = walk.constant(a.inputs[2]) if len(a.inputs) > 2 and a.inputs[2] is not None else np.zeros(1)
    return _key(a) == _key(b) and list(a.inputs[1:]) == list(b.inputs[1:]) and bias is not None and bias.ndim == 1


CONSECUTIVE: tuple[Rewrite, ...] = named(consecutive_products)
PARALLEL: tuple[Rewrite, ...] = named(parallel_layers, since=13)  # the sizes of a Split are an input
STEPWISE: tuple[Rewrite, ...] = named(steps_together)
