"""Exact rewrites around convolutions: each keeps the function up to float rounding and removes a node.

Conv -> BatchNormalization          =>  Conv
Conv -> Mul | Div | Add | Sub const =>  Conv
Mul | Div | Add | Sub const -> Conv =>  Conv      (Add and Sub only where nothing is padded)
Pad(0) -> Conv                      =>  Conv
MatMul -> Add const (two axes)      =>  Gemm

Where a value between the two nodes overflows float32, the one node may answer a number in place of infinity.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.affine import representable
from hasten.graph.prologue import scales_columns
from hasten.graph.walk import Array
from hasten.passes.rewrite import named

AFFINE = ("Mul", "Div", "Add", "Sub")


def _set_weights(node: ir.Node, w: Array, b: Array | None, taken: set[str]) -> None:
    """Give ``node`` new weights of its own; the old initialisers stay for whoever shares them."""
    graph = node.graph
    assert graph is not None
    assert isinstance(graph, ir.Graph)
    source = node.inputs[1]
    assert source is not None
    weight = edit.add_constant(graph, edit.fresh(taken, f"{source.name}/folded"), w.astype(np.float32))
    node.replace_input_with(1, weight)
    if b is None:
        return
    bias = edit.add_constant(graph, edit.fresh(taken, f"{source.name}/bias"), b.astype(np.float32))
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, bias)


def _convolution(node: ir.Node | None) -> tuple[Array, Array, int] | None:
    """(weight, bias or zeros, output axis of the weight) in float64 for a Conv with constant weights.

    A grouped ConvTranspose is left alone: its output channels do not lie on one axis.
    """
    found = walk.weight(node) if node is not None and node.op_type in ("Conv", "ConvTranspose") else None
    if node is None or found is None or (node.op_type == "ConvTranspose" and walk.attribute(node, "group", 1) != 1):
        return None
    w = walk.constant(found.value)
    assert w is not None
    b: Array | None = np.zeros(w.shape[found.axis])
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        b = walk.constant(node.inputs[2])
    return None if b is None else (w.astype(np.float64), b.astype(np.float64), found.axis)


def _on_axis(vector: Array, ndim: int, axis: int) -> Array:
    return vector.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _producer(node: ir.Node) -> ir.Node | None:
    """The node before, when ``node`` is its only reader."""
    value = node.inputs[0]
    return value.producer() if value is not None and walk.only_consumer(value) is node else None


def conv_batchnorm(node: ir.Node, taken: set[str]) -> bool:
    if node.op_type != "BatchNormalization" or walk.attribute(node, "training_mode", 0):
        return False
    if any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return False
    before = _producer(node)
    parts = _convolution(before)
    constants = [walk.constant(v) for v in node.inputs[1:5]]
    if before is None or parts is None or any(c is None for c in constants):
        return False
    gamma, beta, mean, var = (np.asarray(c, np.float64) for c in constants)
    w, b, axis = parts
    scaled = w * _on_axis(factor := gamma / np.sqrt(var + walk.attribute(node, "epsilon", 1e-5)), w.ndim, axis)
    if not representable(w, scaled):
        return False
    _set_weights(before, scaled, (b - mean) * factor + beta, taken)
    return edit.bypass(node, before.outputs[0])


def _channel_vector(array: Array, channels: int, ndim: int) -> Array | None:
    """A constant as one number per channel of an [N, C, ...] tensor, or None where it varies along other axes."""
    if array.dtype != np.float32:
        return None
    if array.size == 1 and array.ndim <= ndim:
        return np.full(channels, array.reshape(-1)[0], np.float64)
    shape = (1,) * (ndim - array.ndim) + array.shape
    if array.ndim > ndim or shape[1] != channels or array.size != channels:
        return None
    return array.reshape(-1).astype(np.float64)


def _affine(node: ir.Node, channels: int, ndim: int) -> tuple[ir.Value, Array, Array] | None:
    """(x, a, b) of a node that computes a * x + b with constants per channel."""
    found = walk.operands(node) if node.op_type in AFFINE and node.domain == "" else None
    if found is None or (node.op_type in ("Div", "Sub") and found[0] is not node.inputs[0]):
        return None
    array = walk.constant(found[1])
    c = None if array is None else _channel_vector(array, channels, ndim)
    if c is None or (node.op_type == "Div" and not c.all()):
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    a, b = {"Mul": (c, zero), "Add": (one, c), "Sub": (one, -c), "Div": (1 / np.where(c == 0, 1, c), zero)}[
        node.op_type
    ]
    return found[0], a, b


def conv_affine(node: ir.Node, taken: set[str]) -> bool:
    found = walk.operands(node) if node.op_type in AFFINE else None
    before = found[0].producer() if found is not None and walk.only_consumer(found[0]) is node else None
    parts = _convolution(before)
    if before is None or parts is None:
        return False
    w, b, axis = parts
    affine = _affine(node, w.shape[axis], w.ndim)
    if affine is None:
        return False
    _, scale, shift = affine
    scaled = w * _on_axis(scale, w.ndim, axis)
    if not representable(w, scaled):
        return False
    _set_weights(before, scaled, b * scale + shift, taken)
    return edit.bypass(node, before.outputs[0])


def _padded(node: ir.Node) -> bool:
    return walk.attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(
        walk.attribute(node, "pads", [0])
    )


def affine_conv(node: ir.Node, taken: set[str]) -> bool:
    after = walk.only_consumer(node.outputs[0]) if node.op_type in AFFINE else None
    parts = _convolution(after)
    if after is None or parts is None or after.op_type != "Conv" or after.inputs[0] is not node.outputs[0]:
        return False
    w, b, _ = parts
    groups = walk.attribute(after, "group", 1)
    affine = _affine(node, w.shape[1] * groups, w.ndim)
    if affine is None or (node.op_type in ("Add", "Sub") and _padded(after)):
        return False
    x, scale, shift = affine
    outputs = w.shape[0] // groups
    by_group = (groups, outputs, *w.shape[1:])
    spread = (groups, 1, w.shape[1], *([1] * (w.ndim - 2)))
    grouped = w.reshape(by_group)
    scaled = grouped * scale.reshape(spread)
    if not representable(grouped, scaled):
        return False
    extra = (grouped * shift.reshape(spread)).reshape(w.shape[0], -1).sum(axis=1)
    _set_weights(after, scaled.reshape(w.shape), b + extra, taken)
    return edit.bypass(node, x)


def pad_conv(node: ir.Node, taken: set[str]) -> bool:
    after = walk.only_consumer(node.outputs[0]) if node.op_type == "Pad" else None
    if after is None or after.op_type != "Conv" or walk.attribute(node, "mode", "constant") != "constant":
        return False
    pads = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    fill = walk.scalar(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else 0.0
    plain = len(node.inputs) < 4 or node.inputs[3] is None
    if pads is None or fill != 0 or not plain or walk.attribute(after, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    half = pads.size // 2
    if pads[[0, 1, half, half + 1]].any() or (pads < 0).any() or after.inputs[0] is not node.outputs[0]:
        return False
    more = [*pads[2:half].tolist(), *pads[half + 2 :].tolist()]
    have = walk.attribute(after, "pads", [0] * len(more))
    after.attributes.pop("auto_pad", None)
    after.attributes.add(ir.AttrInt64s("pads", [int(a + b) for a, b in zip(have, more, strict=True)]))
    kept = node.inputs[0]
    assert kept is not None
    return edit.bypass(node, kept)


def matmul_bias(node: ir.Node, taken: set[str]) -> bool:
    found = walk.operands(node) if node.op_type == "Add" else None
    before = found[0].producer() if found is not None and walk.only_consumer(found[0]) is node else None
    if found is None or before is None or before.op_type != "MatMul" or walk.rank(before.inputs[0]) != 2:
        return False
    weight, bias = walk.weight(before), walk.constant(found[1])
    if weight is None or bias is None or weight.value.shape is None or len(weight.value.shape) != 2:
        return False
    if (
        bias.dtype != np.float32
        or bias.size != weight.value.shape[1]
        or bias.shape[-1:] != (bias.size,)
        or bias.ndim > 2
    ):
        return False
    vector = edit.add_constant(walk.main_graph(node), edit.fresh(taken, f"{found[1].name}/bias"), bias.reshape(-1))
    inputs = [before.inputs[0], before.inputs[1], vector]
    joined = edit.add_node(node, "Gemm", inputs, edit.fresh(taken, f"{node.outputs[0].name}/gemm"))
    return edit.bypass(node, joined)


REWRITES = (
    *named(conv_batchnorm, conv_affine),
    *named(affine_conv, float_only=scales_columns),
    *named(pad_conv, matmul_bias),
)
