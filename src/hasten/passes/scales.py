"""Exact rewrites that take scales into the weights of linear layers, wherever they stand behind or before them.

MatMul(W) -> Add b -> Mul c                              =>  MatMul(W c) -> Add b c
MatMul(W) -> Add b -> Reshape -> Transpose -> Div 5.6    =>  MatMul(W / 5.6) -> Add b / 5.6 -> Reshape -> Transpose
Conv(W, b) -> Relu -> Mul 2                              =>  Conv(2 W, 2 b) -> Relu
Conv(W, b) -> Neg                                        =>  Conv(-W, -b)
Mul c -> MatMul(W)                                       =>  MatMul(c W)
Gemm(W, b) -> BatchNormalization                         =>  Gemm(W', b')

The 1 / sqrt(d) of attention stays where it is, and so does the half of a GELU: runtimes have kernels for both as they
are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.graph import edit, walk
from hasten.graph.affine import affine, bias_row, fits, representable, rewrite
from hasten.graph.prologue import scales_columns
from hasten.passes.rewrite import named

F64 = NDArray[np.float64]
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Expand", "Identity"})
POSITIVE = frozenset({"Relu", "LeakyRelu"})  # f(c x) = c f(x) for c > 0; a maximum may turn NaN into a number
ADDITIVE = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"})  # ... for every c
FURTHEST = 16
DEEP = 4  # from the half of a GELU to its Erf


@dataclass(frozen=True)
class _Found:
    """The linear node that a factor can go into, and the constants that are added on the way."""

    node: ir.Node
    added: tuple[ir.Node, ...]


def _factor(node: ir.Node) -> tuple[ir.Value, F64] | None:
    """(x, c) of a node that computes c x, c float64 of the constant's shape."""
    if node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Neg":
        return node.inputs[0], np.array(-1.0)
    found = walk.operands(node) if node.op_type in ("Mul", "Div") else None
    if found is None or (node.op_type == "Div" and found[0] is not node.inputs[0]) or not walk.is_float(found[0]):
        return None
    array = walk.constant(found[1])
    if array is None or array.dtype != np.float32 or not np.isfinite(array).all() or not array.all():
        return None
    c = array.astype(np.float64)
    return found[0], (1 / c if node.op_type == "Div" else c)


def _source(value: ir.Value, reader: ir.Node, number: float) -> _Found | None:
    """Walk up from ``value`` to a linear node that computes it, through what a number passes through."""
    added: list[ir.Node] = []
    for _ in range(FURTHEST):
        node = value.producer()
        if node is None or walk.only_consumer(value) is not reader or node.domain != "":
            return None
        if node.op_type in walk.LINEAR and fits(node):
            return _Found(node, tuple(added)) if _bias_known(node) else None
        kind = node.op_type
        found = walk.operands(node) if kind == "Add" else None
        if kind == "Add" and found is not None:
            added.append(node)
            after = found[0]
        elif kind in MOVES | ADDITIVE or (kind in POSITIVE and number > 0):
            first = node.inputs[0]
            if first is None:
                return None
            after = first
        else:
            return None
        value, reader = after, node
    return None


def scale_into_linear(node: ir.Node, taken: set[str]) -> bool:
    """A number goes up to the linear node that it comes from; a vector only where nothing but an Add is between."""
    found = _factor(node)
    if found is None:
        return False
    x, c = found
    if c.size == 1:
        source = _source(x, node, float(c.reshape(-1)[0]))
        if source is None or not walk.same_rank(x, node.outputs[0]) or not _fits_in(source, c):
            return False
        _scale(source, float(c.reshape(-1)[0]), taken)
        return edit.bypass(node, x)
    source = _behind(x, node)
    view = affine(source.node) if source is not None else None
    if source is None or view is None or c.shape[-1:] != (len(view.w),) or c.size != len(view.w):
        return False
    if not walk.same_rank(x, node.outputs[0]) or not _fits_in(source, c):
        return False
    _scale(source, c.reshape(-1), taken)
    return edit.bypass(node, x)


def _fits_in(found: _Found, c: F64) -> bool:
    view = affine(found.node)
    return view is not None and representable(view.w, view.w * c.reshape(-1)[:, None])


def _behind(value: ir.Value, reader: ir.Node) -> _Found | None:
    """MatMul or Gemm, or one with an Add behind it."""
    node = value.producer()
    if node is None or walk.only_consumer(value) is not reader:
        return None
    if node.op_type in ("MatMul", "Gemm"):
        return _Found(node, ()) if _bias_known(node) else None
    found = walk.operands(node) if node.op_type == "Add" and node.domain == "" else None
    before = found[0].producer() if found is not None else None
    if found is None or before is None or walk.only_consumer(found[0]) is not node or before.op_type != "MatMul":
        return None
    return _Found(before, (node,)) if fits(before) else None


def _bias_known(node: ir.Node) -> bool:
    return len(node.inputs) < 3 or node.inputs[2] is None or walk.constant(node.inputs[2]) is not None


def _scale(found: _Found, c: F64 | float, taken: set[str]) -> None:
    """Multiply what the linear node gives out, and all that is added to it."""
    view, graph = affine(found.node), walk.main_graph(found.node)
    assert view is not None
    rows = np.broadcast_to(np.asarray(c, np.float64), (len(view.w),)) if np.ndim(c) else np.full(len(view.w), float(c))
    bias = walk.constant(found.node.inputs[2]) if len(found.node.inputs) > 2 else None
    zero = np.zeros(len(view.w))
    rewrite(graph, found.node, view.w * rows[:, None], zero, taken)
    if bias is not None:
        spread = np.asarray(c if np.ndim(c) else float(c))
        _replace(found.node, 2, bias * spread, taken)
    for node in found.added:
        operands = walk.operands(node)
        array = walk.constant(operands[1]) if operands is not None else None
        assert operands is not None
        assert array is not None
        _replace(node, 0 if node.inputs[0] is operands[1] else 1, array * np.asarray(c), taken)


def _replace(node: ir.Node, index: int, array: walk.Array, taken: set[str]) -> None:
    old = node.inputs[index]
    name = edit.fresh(taken, f"{old.name if old is not None else node.name}/scaled")
    node.replace_input_with(index, edit.add_constant(walk.main_graph(node), name, np.asarray(array, np.float32)))


def scale_before_linear(node: ir.Node, taken: set[str]) -> bool:
    """A factor along the last axis whose only reader is a MatMul or Gemm with constant weights."""
    found = _factor(node)
    after = walk.only_consumer(node.outputs[0]) if found is not None else None
    if found is None or after is None or after.op_type not in ("MatMul", "Gemm") or after.domain != "":
        return False
    x, c = found
    if _curved(x):
        return False
    view = affine(after)
    if view is None or after.inputs[0] is not node.outputs[0] or not walk.same_rank(x, node.outputs[0]):
        return False
    k = view.w.shape[1]
    if c.size != 1 and (c.size != k or c.shape[-1] != k or not _width_is(x, k)):
        return False
    if not representable(view.w, view.w * c.reshape(-1)):
        return False
    rewrite(walk.main_graph(after), after, view.w * c.reshape(-1), np.zeros(len(view.w)), taken)
    return edit.bypass(node, x)


def _curved(value: ir.Value) -> bool:
    """Is it a product with an Erf or a Tanh in it, as in a GELU that is spelt out?"""
    todo = [value]
    for _ in range(DEEP):
        makers = [walk.produced_by(v, "Mul", "Add", "Div", "Erf", "Tanh") for v in todo]
        if any(m is not None and m.op_type in ("Erf", "Tanh") for m in makers):
            return True
        todo = [v for m in makers if m is not None for v in m.inputs if v is not None]
    return False


def _width_is(x: ir.Value, k: int) -> bool:
    return (walk.dims(x) or [None])[-1] == k


def gemm_batchnorm(node: ir.Node, taken: set[str]) -> bool:
    """A BatchNormalization of a matrix, behind a Gemm."""
    if node.op_type != "BatchNormalization" or walk.attribute(node, "training_mode", 0) or node.inputs[0] is None:
        return False
    before = walk.produced_by(node.inputs[0], "Gemm")
    constants = [walk.constant(v) for v in node.inputs[1:5]]
    view = affine(before) if before is not None and walk.only_consumer(node.inputs[0]) is node else None
    if before is None or view is None or any(c is None for c in constants):
        return False
    bias = bias_row(before, len(view.w))
    if bias is None or walk.attribute(before, "beta", 1.0) != 1:
        return False
    gamma, beta, mean, variance = (np.asarray(c, np.float64) for c in constants)
    a = gamma / np.sqrt(variance + walk.attribute(node, "epsilon", 1e-5))
    if not representable(view.w, view.w * a[:, None]):
        return False
    rewrite(walk.main_graph(before), before, view.w * a[:, None], np.zeros(len(a)), taken)
    if len(before.inputs) < 3:
        before.resize_inputs(3)
    _replace(before, 2, (bias - mean) * a + beta, taken)
    return edit.bypass(node, node.inputs[0])


REWRITES = (
    *named(scale_into_linear),
    *named(scale_before_linear, float_only=scales_columns),
    *named(gemm_batchnorm),
)
