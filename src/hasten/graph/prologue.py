"""The prologue: what stands between a network's inputs and its first linear layers, as a standardisation does.

A column of the prologue has a unit of its own (years, dollars), and the layer behind it sees them through one scale in
eight bits. Behind the first layer every column is a sum of all of them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import walk

MIXING = frozenset({*walk.LINEAR, "LSTM", "GRU", "RNN", "Einsum", "Attention", "If", "Loop", "Scan"})
AFFINE = frozenset({"Mul", "Div", "Add", "Sub"})


def in_prologue(value: ir.Value | None) -> bool:
    """Is ``value`` an input, or computed from inputs without a linear layer?"""
    todo, seen = [value], set[ir.Value]()
    while todo:
        one = todo.pop()
        if one is None or one in seen or walk.constant(one) is not None:
            continue
        seen.add(one)
        node = one.producer()
        if node is not None and node.op_type in MIXING:
            return False
        todo += node.inputs if node is not None else ()
    return bool(seen)


def scales_columns(node: ir.Node) -> bool:
    """Does the node scale or shift what is in the prologue, by numbers that differ from column to column?"""
    found = walk.operands(node) if node.op_type in AFFINE and node.domain == "" else None
    array = walk.constant(found[1]) if found is not None else None
    if found is None or array is None or array.size < 2 or bool((array == array.flat[0]).all()):
        return False
    return in_prologue(found[0])


def last_values(graph: ir.Graph) -> list[ir.Value]:
    """What linear layers with constant weights read of the prologue, in the order of execution."""
    read = [node.inputs[0] for node in graph if walk.weight(node) is not None]
    return [v for v in dict.fromkeys(read) if v is not None and walk.is_float(v) and in_prologue(v)]


def unlike(size: np.ndarray, spread: np.ndarray) -> float:
    """How many times the least range of a column the largest magnitude is; columns that never vary do not count."""
    varying = spread[spread > 0]
    return float(size.max() / varying.min()) if varying.size else 0.0
