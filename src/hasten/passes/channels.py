"""Where a tensor can be divided by a number per channel without a node more: in constants of the nodes before it.

    LayerNormalization(g, b) -> x                 =>   (g / s, b / s) -> x / s
    Conv(W, b) -> Relu -> MaxPool -> x            =>   (W / s, b / s) -> Relu -> MaxPool -> x / s
    y * a + b -> x                                =>   y * (a / s) + b / s -> x / s

The readers of x make up for it: a linear layer whose columns are multiplied by s computes what it did before.
Axes count from the end, so that constants of fewer axes broadcast as they do in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.linear import Linear, linear
from hasten.graph.walk import Array

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
STEPS = 12  # nodes walked back at most


@dataclass(frozen=True)
class Holder:
    """A constant operand that takes a part of the factor: divided by it, or multiplied where ``divided`` is false."""

    node: ir.Node
    index: int
    axis: int
    divided: bool = True


@dataclass(frozen=True)
class Source:
    """What to change so that a tensor comes out divided.

    ``linear`` is the layer whose rows hold the factor, None for a normalisation or a product. ``clips`` are the Clips
    on the way with the axis of their channels: their upper bounds must follow. ``between`` are the operator types
    from there to the tensor.
    """

    holders: tuple[Holder, ...]
    linear: ir.Node | None
    clips: tuple[tuple[ir.Node, int], ...] = ()
    between: tuple[str, ...] = ()


def source(value: ir.Value, axis: int) -> Source | None:
    """Where ``value`` can be divided along ``axis``; None when something on the way does not follow a factor.

    Its readers are not looked at; everything before it must have one reader only.
    """
    holders: list[Holder] = []
    clips: list[tuple[ir.Node, int]] = []
    between: list[str] = []
    for _ in range(STEPS):
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        last = _last(node, axis)
        if last is not None:
            ends_linear = node if walk.weight(node) is not None else None
            return Source((*holders, *last), ends_linear, tuple(clips), tuple(between))
        step = _before(node, axis)
        if step is None or walk.only_consumer(step[0]) is not node:
            return None
        value, axis, held = step
        holders += held
        clips += [(node, axis)] if node.op_type == "Clip" else []
        between.append(node.op_type)
    return None


def _last(node: ir.Node, axis: int) -> list[Holder] | None:
    """The constants of a node that takes the whole factor, or None."""
    found = walk.weight(node)
    if found is not None:
        return _of_linear(node, found, axis)
    if node.op_type == "LayerNormalization":
        scaled = [Holder(node, i, -1) for i in (1, 2) if i < len(node.inputs) and node.inputs[i] is not None]
        known = all(walk.constant(node.inputs[h.index]) is not None for h in scaled)
        rank = walk.rank(node.inputs[0])
        over_last = walk.attribute(node, "axis", -1) in (-1, (rank or 0) - 1)
        return scaled if known and axis == -1 and over_last and len(node.outputs) == 1 else None
    if node.op_type == "BatchNormalization":
        rank = walk.rank(node.outputs[0])
        known = all(walk.constant(node.inputs[i]) is not None for i in (1, 2))
        return [Holder(node, 1, -1), Holder(node, 2, -1)] if known and rank is not None and axis == 1 - rank else None
    if node.op_type in ("Mul", "Div"):
        constant = _constant_operand(node)
        if constant is not None and not (node.op_type == "Div" and constant == 0):
            return [Holder(node, constant, axis, divided=node.op_type == "Mul")]
    return None


def _of_linear(node: ir.Node, found: walk.Weight, axis: int) -> list[Holder] | None:
    """The rows of a layer's weight, and its bias."""
    w = walk.constant(found.value)
    assert w is not None
    convolution = node.op_type in ("Conv", "ConvTranspose")
    if axis != (1 - w.ndim if convolution else -1):
        return None
    if node.op_type == "ConvTranspose" and walk.attribute(node, "group", 1) != 1:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and walk.constant(bias) is None:
        return None
    held = [Holder(node, 1, found.axis - w.ndim)]
    return held + ([Holder(node, 2, -1)] if bias is not None else [])


def _constant_operand(node: ir.Node) -> int | None:
    """Which of two inputs is a float constant."""
    found = walk.operands(node)
    if found is None or walk.constant(found[1]) is None or not walk.is_float(found[1]):
        return None
    return 0 if node.inputs[0] is found[1] else 1


def _before(node: ir.Node, axis: int) -> tuple[ir.Value, int, list[Holder]] | None:
    """(input, its axis, constants that take the factor too) of a node that a positive factor passes through."""
    value = node.inputs[0] if node.inputs else None
    if value is None:
        return None
    if node.op_type in HOMOGENEOUS and len(node.outputs) == 1:
        known = node.op_type != "PRelu" or walk.constant(node.inputs[1]) is not None
        return (value, axis, []) if known else None
    if node.op_type == "Clip" and _clip_from_zero(node):
        return value, axis, []
    if node.op_type == "Add":
        constant = _constant_operand(node)
        other = node.inputs[1 - constant] if constant is not None else None
        return (other, axis, [Holder(node, constant, axis)]) if other is not None and constant is not None else None
    if node.op_type == "Transpose":
        rank = walk.rank(value)
        perm = walk.attribute(node, "perm", None if rank is None else list(reversed(range(rank))))
        return None if perm is None else (value, int(perm[axis + len(perm)]) - len(perm), [])
    pooled = value.producer()
    if node.op_type == "Flatten" and axis == -1 and walk.attribute(node, "axis", 1) == 1:
        rank = walk.rank(value)
        single = pooled is not None and pooled.op_type in ("GlobalAveragePool", "GlobalMaxPool")
        return (value, 1 - rank, []) if single and rank is not None else None
    return None


def _clip_from_zero(node: ir.Node) -> bool:
    """Clip(0, a number): a Relu with an upper bound."""
    low = walk.scalar(node.inputs[1]) if len(node.inputs) > 1 else None
    high = node.inputs[2] if len(node.inputs) > 2 else None
    return low == 0 and (high is None or walk.scalar(high) is not None)


def readers(value: ir.Value) -> tuple[list[Linear], bool]:
    """The linear layers that read ``value`` as their columns, and whether nobody else does."""
    found = [(linear(node) if index == 0 else None) for node, index in walk.consumers(value)]
    return [layer for layer in found if layer is not None], None not in found and not value.is_graph_output()


def channel_axis(layer: Linear) -> int:
    """The axis of a layer's input that runs over channels."""
    return -1 - len(layer.kernel)


def channels(layer: Linear) -> int:
    """How many channels a layer's input has."""
    return layer.groups * layer.k // int(np.prod(layer.kernel or (1,)))


def per_column(layer: Linear, vector: Array) -> Array:
    """A number per channel as one per column of the weight, [groups, 1, k]."""
    spread = np.repeat(vector.reshape(layer.groups, -1), int(np.prod(layer.kernel or (1,))), axis=1)
    return spread[:, None, :]


def per_channel(layer: Linear, columns: Array) -> Array:
    """The largest of a number per column of the weight, [groups, k], for each channel."""
    size = int(np.prod(layer.kernel or (1,)))
    return np.asarray(columns.reshape(layer.groups, -1, size).max(axis=-1).reshape(-1))


def scaled(array: Array, holder: Holder, factor: Array) -> Array:
    """A holder's constant after its part of ``factor``, in float64."""
    shaped = factor.reshape(-1, *[1] * (-1 - holder.axis))
    return array / shaped if holder.divided else array * shaped


def write(model: ir.Model, node: ir.Node, index: int, array: Array, taken: set[str], suffix: str) -> None:
    """Give ``node`` a constant of its own; the old one stays for whoever shares it."""
    old = node.inputs[index]
    name = edit.fresh(taken, f"{old.name if old is not None else node.name}/{suffix}")
    node.replace_input_with(index, edit.add_constant(model.graph, name, array.astype(np.float32)))
