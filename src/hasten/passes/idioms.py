"""Exact rewrites of what exporters spell out, so that runtimes meet the operator they have a kernel for.

x * (1 + Erf(x / sqrt 2)) / 2                           =>  Gelu(x)
x * (1 + Tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2       =>  Gelu(x, tanh)                   (operator set 20)
(x - mean(x)) / Sqrt(mean((x - mean(x))^2) + e) * g + b =>  LayerNormalization(x, g, b)     (operator set 17)
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.passes.rewrite import Rewrite, named

GELU_SINCE, NORM_SINCE = 20, 17
CUBIC = 0.044715


def _close(found: float | None, wanted: float) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=1e-4)


def _factors(value: ir.Value | None, x: ir.Value) -> tuple[int, float] | None:
    """(power, scale) of a product of x and numbers: x * 3 * x is (2, 3.0). None where anything else is in it."""
    if value is x:
        return 1, 1.0
    number = walk.scalar(value)
    if number is not None:
        return 0, number
    node = walk.produced_by(value, "Mul", "Div", "Pow")
    if node is None:
        return None
    a = _factors(node.inputs[0], x)
    if node.op_type == "Mul":
        b = _factors(node.inputs[1], x)
        return None if a is None or b is None else (a[0] + b[0], a[1] * b[1])
    number = walk.scalar(node.inputs[1])
    if a is None or number is None or number == 0:
        return None
    if node.op_type == "Div":
        return a[0], a[1] / number
    return (int(a[0] * number), a[1] ** number) if number in (2, 3) else None


def _halved_times(start: ir.Value, x: ir.Value) -> ir.Node | None:
    """The node that completes 0.5 * x * ``start``, in whatever order; None where the product is another."""
    power, scale, value = 0, 1.0, start
    for _ in range(4):
        node = walk.only_consumer(value)
        if node is None or node.op_type not in ("Mul", "Div") or node.domain != "":
            return None
        other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
        if node.op_type == "Div" and node.inputs[0] is not value:
            return None
        found = _factors(other, x)
        if found is None:
            return None
        power += found[0]
        scale = scale / found[1] if node.op_type == "Div" else scale * found[1]
        if power == 1 and _close(scale, 0.5):
            return node
        value = node.outputs[0]
    return None


def _plus_one(value: ir.Value) -> ir.Value | None:
    node = walk.only_consumer(value)
    found = walk.operands(node) if node is not None and node.op_type == "Add" else None
    return node.outputs[0] if node is not None and found is not None and walk.scalar(found[1]) == 1 else None


def _gelu(end: ir.Node | None, x: ir.Value, taken: set[str], how: str) -> bool:
    if not walk.is_float(x):
        return False
    return end is not None and walk.same_rank(x, end.outputs[0]) and edit.swap(end, "Gelu", [x], taken, approximate=how)


def gelu_of_erf(node: ir.Node, taken: set[str]) -> bool:
    if node.op_type != "Erf" or node.domain != "":
        return False
    inner = walk.produced_by(node.inputs[0], "Div", "Mul")
    found = walk.operands(inner) if inner is not None else None
    x = found[0] if found is not None else None
    opened = _plus_one(node.outputs[0])
    if x is None or opened is None:
        return False
    scaled = _factors(node.inputs[0], x)
    if scaled is None or scaled[0] != 1 or not _close(scaled[1], math.sqrt(0.5)):
        return False
    return _gelu(_halved_times(opened, x), x, taken, "none")


def gelu_of_tanh(node: ir.Node, taken: set[str]) -> bool:
    if node.op_type != "Tanh" or node.domain != "":
        return False
    outer = walk.produced_by(node.inputs[0], "Mul")
    found = walk.operands(outer) if outer is not None else None
    added = walk.produced_by(found[0], "Add") if found is not None else None
    opened = _plus_one(node.outputs[0])
    if found is None or added is None or opened is None or not _close(walk.scalar(found[1]), math.sqrt(2 / math.pi)):
        return False
    for x, cube in (tuple(added.inputs), tuple(added.inputs)[::-1]):
        cubed = _factors(cube, x) if x is not None else None
        if x is not None and cubed is not None and cubed[0] == 3 and _close(cubed[1], CUBIC):
            return _gelu(_halved_times(opened, x), x, taken, "tanh")
    return False


def _mean_of_last(value: ir.Value | None) -> ir.Value | None:
    """x of ReduceMean(x) over the last axis, which stays as one."""
    node = walk.produced_by(value, "ReduceMean")
    rank = walk.rank(node.inputs[0]) if node is not None else None
    if node is None or rank is None or not walk.attribute(node, "keepdims", 1):
        return None
    axes = walk.integers(node.inputs[1]) if len(node.inputs) > 1 else walk.attribute(node, "axes", None)
    return node.inputs[0] if axes is not None and [a % rank for a in axes] == [rank - 1] else None


def _centred(value: ir.Value | None) -> ir.Value | None:
    """x of x - mean(x)."""
    node = walk.produced_by(value, "Sub")
    return node.inputs[0] if node is not None and _mean_of_last(node.inputs[1]) is node.inputs[0] else None


def _variance_root(value: ir.Value | None, x: ir.Value) -> float | None:
    """e of Sqrt(mean((x - mean(x))^2) + e)."""
    root = walk.produced_by(value, "Sqrt")
    added = walk.produced_by(root.inputs[0], "Add") if root is not None else None
    found = walk.operands(added) if added is not None else None
    square = walk.produced_by(_mean_of_last(found[0]), "Mul", "Pow") if found is not None else None
    if square is None or found is None or _centred(square.inputs[0]) is not x:
        return None
    twice = walk.scalar(square.inputs[1]) == 2 if square.op_type == "Pow" else _centred(square.inputs[1]) is x
    return walk.scalar(found[1]) if twice else None


def layer_normalization(node: ir.Node, taken: set[str]) -> bool:
    if node.op_type not in ("Div", "Mul") or node.domain != "":
        return False
    x = _centred(node.inputs[0])
    root = node.inputs[1]
    if node.op_type == "Mul":
        inverse = walk.produced_by(root, "Reciprocal")
        root = inverse.inputs[0] if inverse is not None else None
    width = (walk.dims(x) or [None])[-1]
    epsilon = _variance_root(root, x) if x is not None else None
    if x is None or epsilon is None or not isinstance(width, int) or not walk.is_float(x):
        return False
    end, scale, shift = node, np.ones(width, np.float32), None
    for kind in ("Mul", "Add"):
        after = walk.only_consumer(end.outputs[0])
        found = walk.operands(after) if after is not None and after.op_type == kind else None
        array = walk.constant(found[1]) if found is not None else None
        if after is None or array is None or array.ndim > (walk.rank(x) or 0):
            continue
        if array.size != 1 and (array.size != width or array.shape[-1] != width):
            continue
        spread = np.broadcast_to(array.reshape(-1), (width,)).astype(np.float32)
        scale, shift = (spread, None) if kind == "Mul" else (scale, spread)
        end = after
    graph, base = walk.main_graph(node), end.outputs[0].name
    parts = [edit.add_constant(graph, edit.fresh(taken, f"{base}/scale"), scale)]
    parts += [edit.add_constant(graph, edit.fresh(taken, f"{base}/shift"), shift)] if shift is not None else []
    return edit.swap(end, "LayerNormalization", [x, *parts], taken, axis=-1, epsilon=epsilon)


GELUS = named(gelu_of_erf, gelu_of_tanh, since=GELU_SINCE)
REWRITES: tuple[Rewrite, ...] = (
    *GELUS,
    *named(layer_normalization, since=NORM_SINCE),
)
