"""The integer layers of a Q/DQ network beside the float layers that they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.passes import channels
from hasten.protocols import Context, NotApplicable
from hasten.quant import grid


@dataclass(frozen=True)
class Rounded:
    """A linear node whose weight comes out of a DequantizeLinear, and the float node of the same output."""

    node: ir.Node
    dequantize: ir.Node
    origin: ir.Node

    @property
    def axis(self) -> int | None:
        """The axis of the weight that scales run over; None for one scale in all."""
        return None if self.scale.ndim == 0 else int(walk.attribute(self.dequantize, "axis", 1))

    @property
    def scale(self) -> Array:
        """One of the weight, or one a channel."""
        return self._constant(1)

    @property
    def weight(self) -> Array:
        """What the codes stand for, in the node's own layout."""
        return grid.dequantize(self._constant(0), self.scale, self._constant(2), self.axis)

    def _constant(self, index: int) -> Array:
        found = walk.constant(self.dequantize.inputs[index])
        assert found is not None
        return found

    @property
    def channel_axis(self) -> int:
        """The axis of the output that runs over its channels, from the end."""
        return 1 - self.weight.ndim if self.node.op_type in ("Conv", "ConvTranspose") else -1

    @property
    def input_scale(self) -> float | None:
        """The scale of the input, where that comes out of a DequantizeLinear too."""
        value = self.node.inputs[0]
        before = value.producer() if value is not None else None
        return walk.scalar(before.inputs[1]) if before is not None and before.op_type == "DequantizeLinear" else None


def rounded(graph: ir.Model, context: Context) -> list[Rounded]:
    """The integer layers of the main graph in the order of execution.

    Raises:
        NotApplicable: there is no float network to compare with, or no integer layer.
    """
    if context.reference is None:
        raise NotApplicable("the network has not been quantized by an earlier step of this recipe")
    floats = {n.outputs[0].name: n for n in context.reference.graph.graph if walk.weight(n) is not None}
    found = []
    for node in graph.graph:
        before = node.inputs[1].producer() if node.op_type in walk.LINEAR and node.inputs[1] is not None else None
        origin = floats.get(node.outputs[0].name)
        if before is None or before.op_type != "DequantizeLinear" or origin is None:
            continue
        plain = walk.attribute(node, "alpha", 1.0) == walk.attribute(node, "beta", 1.0) == 1.0
        if plain and walk.constant(before.inputs[0]) is not None:
            found.append(Rounded(node, before, origin))
    if not found:
        raise NotApplicable("no linear layer has integer weights")
    return found


def reference(context: Context) -> Model:
    """The float network; ``rounded`` has made sure that there is one."""
    assert context.reference is not None
    return context.reference


@dataclass(frozen=True)
class Bias:
    """Where a layer's bias lies: ``index`` of ``node``, as floats or as int32 codes behind a DequantizeLinear.

    ``place`` says whether the layer itself adds it, or an Add behind it, which may not exist yet.
    """

    layer: Rounded
    place: Literal["inside", "behind"]
    node: ir.Node | None
    index: int = 2

    @property
    def value(self) -> Array | None:
        """The bias as float; None where there is none yet."""
        operand = self.node.inputs[self.index] if self.node is not None and len(self.node.inputs) > self.index else None
        before = operand.producer() if operand is not None else None
        if before is None or before.op_type != "DequantizeLinear":
            return walk.constant(operand)
        codes, scale = (walk.constant(v) for v in before.inputs[:2])
        if codes is None or scale is None:
            return None
        return np.asarray(codes.astype(np.float64) * scale)


def bias_of(layer: Rounded) -> Bias:
    """The bias of a layer: its own third input, or the constant of an Add that is its only reader.

    A product of two axes without either can take one inside: as a Gemm, which ONNX Runtime keeps in integers where it
    makes a float Gemm of a product and an Add.
    """
    if layer.node.op_type != "MatMul":
        return Bias(layer, "inside", layer.node)
    after = walk.only_consumer(layer.node.outputs[0])
    found = walk.operands(after) if after is not None and after.op_type == "Add" else None
    if after is not None and found is not None and walk.is_float(found[1]):
        return Bias(layer, "behind", after, 0 if after.inputs[0] is found[1] else 1)
    flat = walk.rank(layer.node.inputs[0]) == 2
    return Bias(layer, "inside", layer.node) if flat else Bias(layer, "behind", None)


def set_bias(graph: ir.Model, bias: Bias, value: Array, taken: set[str]) -> Array:
    """Write a bias, int32 where the layer's neighbours have it so; returns what the layer really adds, float64."""
    layer, node = bias.layer, bias.node
    if node is None:
        name = layer.node.outputs[0].name or "y"
        return _append(graph, layer.node, value, taken, name)
    if node.op_type == "MatMul":
        node.op_type = "Gemm"
    operand = node.inputs[bias.index] if len(node.inputs) > bias.index else None
    before = operand.producer() if operand is not None else None
    integer = before is not None if operand is not None else _integers(graph)
    source = layer.input_scale
    if not integer or source is None or bias.place == "behind":
        node.resize_inputs(max(len(node.inputs), bias.index + 1))
        channels.write(graph, node, bias.index, value, taken, "corrected")
        return np.asarray(value, np.float32).astype(np.float64)
    codes, scale = grid.quantize_bias(value, source, np.broadcast_to(layer.scale, value.shape))
    zero = np.zeros(scale.shape, np.int32)
    base = f"{layer.node.outputs[0].name}/bias"
    parts = [
        edit.add_constant(graph.graph, edit.fresh(taken, f"{base}/{suffix}"), array)
        for suffix, array in (("int32", codes), ("scale", scale), ("zero", zero))
    ]
    stored = edit.add_node(graph.graph[0], "DequantizeLinear", parts, edit.fresh(taken, f"{base}/rounded"), {"axis": 0})
    node.resize_inputs(max(len(node.inputs), bias.index + 1))
    node.replace_input_with(bias.index, stored)
    return codes * scale.astype(np.float64)


def _append(graph: ir.Model, node: ir.Node, value: Array, taken: set[str], name: str) -> Array:
    """MatMul -> y    =>    MatMul -> Add(value) -> y"""
    old = node.outputs[0]
    constant = edit.add_constant(graph.graph, edit.fresh(taken, f"{name}/correction"), value.astype(np.float32))
    output = ir.Value(name=edit.fresh(taken, f"{name}/corrected"), shape=old.shape, type=old.type)
    edit.replace(old, output)
    graph.graph.insert_after(node, ir.node("Add", [old, constant], outputs=[output], name=output.name))
    return value.astype(np.float32).astype(np.float64)


def _integers(graph: ir.Model) -> bool:
    """Are biases of integer layers int32 here? They are unless one is seen to be float."""
    with_bias = [n for n in graph.graph if n.op_type in walk.LINEAR and len(n.inputs) > 2 and walk.weight(n) is None]
    return not any(walk.is_float(n.inputs[2]) and walk.constant(n.inputs[2]) is not None for n in with_bias)
