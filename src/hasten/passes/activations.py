"""Exact rewrites of activations that exporters spell out, so that runtimes meet the operator they have a kernel for.

x + 3 -> Clip(0, 6) -> / 6             =>  HardSigmoid(1/6, 1/2)
x * HardSigmoid(1/6, 1/2)(x)           =>  HardSwish             (operator set 14 and later)
x + 3 -> Clip(0, 6) -> * x -> / 6      =>  HardSwish
x * a -> + b, before a convolution     =>  x + b/a -> * a        (numbers; the Mul then folds into the weights)
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.passes.rewrite import named

THIRD = 1 / 6
HARDSWISH_SINCE = 14


def _close(value: ir.Value | None, number: float) -> bool:
    found = walk.scalar(value)
    return found is not None and math.isclose(found, number, rel_tol=1e-6)


def _divides_by_six(node: ir.Node) -> ir.Value | None:
    """x of x / 6 or x * (1/6)."""
    found = walk.operands(node) if node.op_type in ("Div", "Mul") else None
    if found is None or (node.op_type == "Div" and found[0] is not node.inputs[0]):
        return None
    return found[0] if _close(found[1], 6 if node.op_type == "Div" else THIRD) else None


def _clipped(value: ir.Value | None) -> ir.Value | None:
    """x of Clip(x + 3, 0, 6)."""
    clip = None if value is None else value.producer()
    if clip is None or clip.op_type != "Clip" or len(clip.inputs) != 3:
        return None
    if walk.scalar(clip.inputs[1]) != 0 or not _close(clip.inputs[2], 6):
        return None
    add = clip.inputs[0].producer() if clip.inputs[0] is not None else None
    found = walk.operands(add) if add is not None and add.op_type == "Add" else None
    return found[0] if found is not None and _close(found[1], 3) else None


def _swap(node: ir.Node, new: ir.Value) -> bool:
    edit.replace(node.outputs[0], new)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def hard_sigmoid(node: ir.Node, taken: set[str]) -> bool:
    inner = _divides_by_six(node)
    x = _clipped(inner)
    if x is None or inner is None or walk.only_consumer(inner) is not node or not walk.is_float(x):
        return False
    name = edit.fresh(taken, f"{node.outputs[0].name}/hardsigmoid")
    return _swap(node, edit.add_node(node, "HardSigmoid", [x], name, {"alpha": THIRD, "beta": 0.5}))


def _gated(node: ir.Node) -> ir.Value | None:
    """x of x * HardSigmoid(1/6, 1/2)(x)."""
    if node.op_type != "Mul":
        return None
    for x, gate in (node.inputs, tuple(reversed(node.inputs))):
        sigmoid = gate.producer() if gate is not None else None
        if sigmoid is None or sigmoid.op_type != "HardSigmoid" or sigmoid.inputs[0] is not x:
            continue
        alpha, beta = walk.attribute(sigmoid, "alpha", 0.2), walk.attribute(sigmoid, "beta", 0.5)
        if math.isclose(alpha, THIRD, rel_tol=1e-6) and beta == 0.5:
            return x
    return None


def _chained(node: ir.Node) -> ir.Value | None:
    """x of (x * Clip(x + 3, 0, 6)) / 6."""
    product = _divides_by_six(node)
    inner = product.producer() if product is not None and walk.only_consumer(product) is node else None
    if inner is None or inner.op_type != "Mul":
        return None
    for x, gate in (inner.inputs, tuple(reversed(inner.inputs))):
        if x is not None and _clipped(gate) is x:
            return x
    return None


def hard_swish(node: ir.Node, taken: set[str]) -> bool:
    x = _gated(node) or _chained(node)
    if x is None or not walk.is_float(x):
        return False
    return _swap(node, edit.add_node(node, "HardSwish", [x], edit.fresh(taken, f"{node.outputs[0].name}/hardswish")))


def scale_last(node: ir.Node, taken: set[str]) -> bool:
    """x * a + b before one convolution that pads: move the Mul next to the convolution."""
    after = walk.only_consumer(node.outputs[0]) if node.op_type == "Add" else None
    found = walk.operands(node) if after is not None and after.op_type == "Conv" else None
    mul = found[0].producer() if found is not None and walk.only_consumer(found[0]) is node else None
    inner = walk.operands(mul) if mul is not None and mul.op_type == "Mul" else None
    if found is None or inner is None or mul is None or not walk.is_float(inner[0]):
        return False
    a, b = walk.scalar(inner[1]), walk.scalar(found[1])
    small = all(v.shape is not None and len(v.shape) <= 1 for v in (inner[1], found[1]))
    if a is None or b is None or not small or abs(a) < 1e-3:
        return False
    shift = edit.add_constant(
        walk.main_graph(node), edit.fresh(taken, f"{found[1].name}/shift"), np.array(b / a, np.float32)
    )
    added = edit.add_node(node, "Add", [inner[0], shift], edit.fresh(taken, f"{node.outputs[0].name}/shifted"))
    scaled = edit.add_node(node, "Mul", [added, inner[1]], edit.fresh(taken, f"{node.outputs[0].name}/scaled"))
    return _swap(node, scaled)


REWRITES = (*named(hard_sigmoid, scale_last), *named(hard_swish, since=HARDSWISH_SINCE))
