"""Channels first or last: which operators to run in which order of axes, so that the fewest bytes are transposed.

A graph between two worlds has a transpose before and behind every convolution. Most nodes between them (Relu, Add,
Concat, Pad, QuantizeLinear ...) run as well in either order. Choosing for each one is a minimum cut: a tensor whose
writer and readers disagree is transposed once, at the price of its size.

    x -> T -> Conv -> T' -> Relu -> T -> Conv -> T' -> y      =>      x -> T -> Conv -> Relu -> Conv -> T' -> y

The moved nodes are wrapped in transposes (``T -> node -> T'``, which is the same function), and what meets cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, transposes, walk
from hasten.graph.movable import Move, moved

SOURCE, SINK = 0, 1  # as written, moved
INFINITE = 1 << 29


def to_first(rank: int) -> list[int]:
    """The order of axes that brings the last one to place 1: ``[0, 3, 1, 2]`` for rank 4."""
    return [0, rank - 1, *range(1, rank - 1)]


def to_last(rank: int) -> list[int]:
    """The order of axes that brings axis 1 to the end: ``[0, 2, 3, 1]`` for rank 4."""
    return [0, *range(2, rank), 1]


def settle(model: ir.Model, move: Move) -> int:
    """Cancel transposes in place; returns how many are left.

    Args:
        move: ``to_first`` where the convolutions inside want channels first and the rest is written channels last,
            ``to_last`` for the other way round.
    """
    back = to_last if move is to_first else to_first
    bound = [n for n in model.graph if transposes.is_transpose(n)]
    if any(transposes.order(n) in (move(len(transposes.order(n))), back(len(transposes.order(n)))) for n in bound):
        taken = edit.names(model)
        for node in _chosen(model, move, back):
            _wrap(node, move, back, taken)
    transposes.cancel(model)
    edit.prune(model)
    return sum(transposes.is_transpose(n) for n in model.graph)


def _rank(value: ir.Value) -> int:
    return walk.rank(value) or 0


def _wrap(node: ir.Node, move: Move, back: Move, taken: set[str]) -> None:
    """``node`` between transposes, its attributes and constants for the moved order."""
    change = moved(node, move)
    assert change is not None
    assert isinstance(node.graph, ir.Graph)
    for name, attribute in change.attributes.items():
        node.attributes[name] = ir.AttrInt64(name, attribute)
    for index, array in change.constants.items():
        _store(node, index, array, taken)
    for index in change.inputs:
        value = node.inputs[index]
        assert value is not None
        node.replace_input_with(index, transposes.before(node, value, move(_rank(value)), taken))
    for value in node.outputs:
        transposes.behind(node, value, back(_rank(value)), move(_rank(value)), taken)


def _store(node: ir.Node, index: int, array: walk.Array, taken: set[str]) -> None:
    """A constant in place of input ``index``; where that was dequantized, the new one is too."""
    assert isinstance(node.graph, ir.Graph)
    old = node.inputs[index]
    base = old.name if old is not None else "constant"
    new = edit.add_constant(node.graph, edit.fresh(taken, f"{base}/moved"), array)
    rounded = None if walk.constant(old) is not None or old is None else old.producer()
    if rounded is not None:
        new = edit.add_node(node, "DequantizeLinear", [new, *rounded.inputs[1:]], edit.fresh(taken, f"{base}/moved"))
    node.replace_input_with(index, new)


def _chosen(model: ir.Model, move: Move, back: Move) -> list[ir.Node]:
    """The nodes that the minimum cut puts on the moved side."""
    changes = {n: moved(n, move) for n in model.graph if not transposes.is_transpose(n)}
    free = {n: i + 2 for i, n in enumerate(n for n, change in changes.items() if change is not None)}
    edges: list[tuple[int, int, int]] = []
    aux = len(free) + 2
    values = [*model.graph.inputs, *(v for n in model.graph for v in n.outputs)]
    unit = max(1, sum(_size(v) for v in values) // (1 << 26))
    for value in values:
        if _rank(value) < 3:
            continue
        writer = _side(value.producer(), free, move, back, wrote=value)
        readers = {_side(n, free, move, back, read=value) for n, _ in walk.consumers(value)} - {None, writer}
        if value.is_graph_output() and writer != SOURCE:
            readers.add(SOURCE)
        if writer is None or not readers:
            continue
        price = max(1, _size(value) // unit)
        edges += [(writer, aux, price), (aux + 1, writer, price)]
        edges += [e for r in readers if r is not None for e in ((aux, r, INFINITE), (r, aux + 1, INFINITE))]
        aux += 2
    on_sink = _cut(aux, edges)
    return [n for n, i in free.items() if on_sink[i]]


def _side(
    node: ir.Node | None,
    free: Mapping[ir.Node, int],
    move: Move,
    back: Move,
    *,
    wrote: ir.Value | None = None,
    read: ir.Value | None = None,
) -> int | None:
    """In which order a node writes or reads a value: fixed, its own choice, or None where it does not matter."""
    if node is None:
        return SOURCE
    if node in free:
        return free[node]
    if transposes.is_transpose(node):
        order = transposes.order(node)
        if wrote is not None:
            return SINK if order == back(len(order)) else SOURCE
        return SINK if order == move(len(order)) else SOURCE if order == back(len(order)) else None
    if read is not None and transposes.passes(node, move(_rank(read))):
        return None
    if wrote is not None and transposes.comes(node, move(_rank(wrote))):
        return None
    return SOURCE


def _size(value: ir.Value) -> int:
    """Bytes that a transpose would move; 1 where it only renames axes of size 1."""
    if value.shape is None:
        return 1
    dims, width = (
        [d if isinstance(d, int) else 1 for d in value.shape],
        4 if value.dtype is None else value.dtype.itemsize,
    )
    return 1 if sum(d != 1 for d in dims[1:]) < 2 else max(1, math.ceil(math.prod(dims) * width))


def _cut(size: int, edges: Sequence[tuple[int, int, int]]) -> list[bool]:
    """For each vertex: does it lie on the sink's side? Those that could go either way do."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

    if not edges:
        return [False] * size
    rows, columns, prices = (np.array(c) for c in zip(*edges, strict=True))
    capacity = csr_array((np.minimum(prices, INFINITE).astype(np.int32), (rows, columns)), shape=(size, size))
    capacity.sum_duplicates()
    flow = maximum_flow(capacity, SOURCE, SINK).flow
    residual = csr_array(capacity - flow)
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    kept = breadth_first_order(residual, SOURCE, return_predecessors=False)
    parts = connected_components(capacity, directed=False)[1]
    side = parts == parts[SINK]
    side[kept] = False
    return [bool(s) for s in side]
