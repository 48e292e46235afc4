"""Exact rewrites of how elements lie: transposes meet and cancel, chains of reshapes become one.

x -> Transpose p -> Transpose q                       =>  x -> Transpose p[q]
x -> Transpose p -> Relu -> Add c -> Transpose q      =>  x -> Relu -> Add c' -> Transpose p[q]
Transpose p (a) + Transpose p (b)                     =>  Transpose p (a + b)         (Concat too)
x[b, 1, 9, 4] -> Transpose [0, 2, 1, 3]               =>  x -> Reshape [0, 9, 1, 4]   (only ones move: no copy)
x -> Reshape -> Unsqueeze -> Reshape -> Squeeze       =>  x -> Reshape
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.couplings import BINARY, UNARY
from hasten.passes.rewrite import named

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
THROUGH = frozenset({*UNARY, *BINARY} - {"Dropout", "PRelu", "Where"})
FURTHEST = 24  # nodes between two transposes


def _perm(node: ir.Node) -> list[int] | None:
    found = walk.attribute(node, "perm", None)
    rank = walk.rank(node.inputs[0])
    if found is not None:
        return [int(p) for p in found]
    return list(range(rank))[::-1] if rank is not None else None


def transpose_twice(node: ir.Node, taken: set[str]) -> bool:
    before = walk.produced_by(node.inputs[0], "Transpose") if _is(node, "Transpose") else None
    p, q = (_perm(before), _perm(node)) if before is not None else (None, None)
    if before is None or p is None or q is None:
        return False
    return edit.swap(node, "Transpose", [before.inputs[0]], taken, perm=[p[i] for i in q])


def _is(node: ir.Node, *op_types: str) -> bool:
    return node.op_type in op_types and node.domain == "" and bool(node.inputs) and node.inputs[0] is not None


def transposes_around(node: ir.Node, taken: set[str]) -> bool:
    """Walk up from a Transpose through what works on each element, to another: then the first can go."""
    if not _is(node, "Transpose"):
        return False
    chain: list[tuple[ir.Node, int]] = []
    value = node.inputs[0]
    while len(chain) < FURTHEST:
        before = value.producer() if value is not None else None
        if before is None or value is None or walk.only_consumer(value) is None:
            return False
        if _is(before, "Transpose"):
            break
        index = _through(before)
        if index is None:
            return False
        chain.append((before, index))
        value = before.inputs[index]
    else:
        return False
    p, q = _perm(before), _perm(node)
    if not chain or p is None or q is None or not all(_relaid(n, i, p, taken, write=False) for n, i in chain):
        return False
    for inner, index in chain:
        _relaid(inner, index, p, taken, write=True)
        inner.outputs[0].shape = None
    first, index = chain[-1]
    first.replace_input_with(index, before.inputs[0])
    return edit.swap(node, "Transpose", [chain[0][0].outputs[0]], taken, perm=[p[i] for i in q])


def _through(node: ir.Node) -> int | None:
    """The input that passes through element by element, the others being constants; None where it is not so."""
    if node.op_type not in THROUGH or node.domain != "" or len(node.outputs) != 1:
        return None
    computed = [i for i, v in enumerate(node.inputs) if v is not None and walk.constant(v) is None]
    return computed[0] if len(computed) == 1 else None


def _relaid(node: ir.Node, index: int, perm: Sequence[int], taken: set[str], *, write: bool) -> bool:
    """Can the node's constants be laid out as they were before the transpose ``perm``? With ``write``, do it."""
    for i, value in enumerate(node.inputs):
        array = walk.constant(value) if i != index else None
        if value is None or array is None or array.size == 1:
            continue
        if array.ndim > len(perm):
            return False
        if write:
            full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
            back = np.argsort(perm)
            name = edit.fresh(taken, f"{value.name}/turned")
            node.replace_input_with(i, edit.add_constant(walk.main_graph(node), name, full.transpose(back)))
    return True


def transposes_of_operands(node: ir.Node, taken: set[str]) -> bool:
    """All operands turned in the same way, each for this node alone: turn the result."""
    joins = _is(node, "Concat", "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean") and len(node.inputs) > 1
    before = [walk.produced_by(v, "Transpose") for v in node.inputs] if joins else []
    if not joins or any(b is None or walk.only_consumer(b.outputs[0]) is not node for b in before):
        return False
    perms = [_perm(b) for b in before if b is not None]
    if perms[0] is None or any(p != perms[0] for p in perms):
        return False
    perm, attributes = perms[0], {}
    if node.op_type == "Concat":
        attributes["axis"] = perm[walk.attribute(node, "axis", 0) % len(perm)]
    name = edit.fresh(taken, f"{node.outputs[0].name}/before")
    inner = edit.add_node(node, node.op_type, [b.inputs[0] for b in before if b is not None], name, attributes)
    inner.type = node.outputs[0].type
    return edit.swap(node, "Transpose", [inner], taken, perm=perm)


def target(source: ir.Value | None, result: ir.Value) -> list[int] | None:
    """The constant that makes Reshape turn ``source`` into the shape of ``result``; None where none is known to."""
    own, wanted = walk.dims(source), walk.dims(result)
    if own is None or wanted is None or 0 in wanted:
        return None
    told = [
        size if isinstance(size, int) else 0 if size is not None and i < len(own) and own[i] == size else -1
        for i, size in enumerate(wanted)
    ]
    # beside an axis of size 0 no other can be worked out
    return told if told.count(-1) <= 1 and not (-1 in told and 0 in told) else None


def _reshaped(node: ir.Node, source: ir.Value | None, taken: set[str]) -> bool:
    told = target(source, node.outputs[0])
    if told is None:
        return False
    name = edit.fresh(taken, f"{node.outputs[0].name}/shape")
    shape = edit.add_constant(walk.main_graph(node), name, np.array(told, np.int64))
    return edit.swap(node, "Reshape", [source, shape], taken)


def reshape_twice(node: ir.Node, taken: set[str]) -> bool:
    before = walk.produced_by(node.inputs[0], *RESHAPES) if _is(node, *RESHAPES) else None
    return before is not None and _reshaped(node, before.inputs[0], taken)


def transpose_of_ones(node: ir.Node, taken: set[str]) -> bool:
    """Axes of size one change places, the others keep their order."""
    perm, sizes = (_perm(node), walk.dims(node.inputs[0])) if _is(node, "Transpose") else (None, None)
    if perm is None or sizes is None or perm == sorted(perm):
        return False
    moving = [i for i in perm if sizes[i] != 1]
    return moving == sorted(moving) and _reshaped(node, node.inputs[0], taken)


REWRITES = named(transpose_twice, transposes_around, transposes_of_operands, transpose_of_ones, reshape_twice)
