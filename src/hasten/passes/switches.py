"""A quantized network whose roundings can be changed from outside: what every question about ranges is asked of.

x -> Q(s, z) -> DQ(s, z) -> ...    =>    Where(on, DQ(Q(x)), x) -> ...    with s, z and on as inputs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, evaluate, walk
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.protocols import Feeds
from hasten.quant import grid
from hasten.quant.grid import activation_grid, hardswish_grid

Range = tuple[float, float]
Divergence = Callable[[Array, Array], float]  # how far an output (second) is from the float network's (first)

KINDS = {"scale": ir.DataType.FLOAT, "zero": ir.DataType.UINT8, "on": ir.DataType.BOOL}


@dataclass(frozen=True)
class Place:
    """Tensors that share a scale, and the range that it covers. ``gated`` ones are the input of a HardSwish."""

    names: tuple[str, ...]
    chosen: Range
    gated: bool = False


class Switches:
    """The network with a switch at each place; called with changed ranges it tells how far the output then lies off."""

    def __init__(
        self, model: Model, quantized: Model, places: Sequence[Place], feeds: Sequence[Feeds],
        divergence: Divergence, output: str = "",
    ) -> None:  # fmt: skip
        self.places, self.feeds, self.divergence = places, feeds, divergence
        self.output = output or model.outputs[0].name
        self.wanted = [answer[self.output] for answer in evaluate.run(model.graph, feeds)]
        self.session = evaluate.session(switched(quantized.clone_graph(), places), optimise=True)
        self.names = {i.name for i in self.session.get_inputs()}

    def __call__(self, changed: Mapping[int, Range | None], samples: int | None = None) -> float:
        """The mean divergence; ``changed`` gives places another range, or None to leave their rounding out."""
        switches: dict[str, Any] = {}
        for k, place in enumerate(self.places):
            chosen = changed.get(k, place.chosen)
            low, high = chosen or place.chosen
            scale, zero = hardswish_grid(high) if place.gated else activation_grid(low, high)
            values = {"scale": np.asarray(scale), "zero": np.asarray(zero), "on": np.asarray(chosen is not None)}
            switches.update({f"{part}.{k}": value for part, value in values.items() if f"{part}.{k}" in self.names})
        errors = []
        for feed, wanted in list(zip(self.feeds, self.wanted, strict=True))[:samples]:
            [found] = self.session.run([self.output], {**feed, **switches})
            errors.append(self.divergence(wanted, found))
        return float(np.mean(errors)) if np.isfinite(errors).all() else float("inf")


def switched(graph: ir.Model, places: Sequence[Place]) -> ir.Model:
    """``graph`` itself, changed: scales and zero points as inputs, a switch behind each rounding, float weights."""
    taken = edit.names(graph)
    rounding = {n.inputs[0].name: n for n in graph.graph if n.op_type == "QuantizeLinear" and n.inputs[0] is not None}
    for k, place in enumerate(places):
        given = {p: ir.Value(name=f"{p}.{k}", type=ir.TensorType(t), shape=ir.Shape([])) for p, t in KINDS.items()}
        nodes = [rounding[name] for name in place.names if name in rounding]
        if nodes:
            graph.graph.inputs.extend(given.values())
        for node in nodes:
            _switch(graph, node, given, taken)
    _float_weights(graph, taken)
    edit.prune(graph)
    return graph


def _switch(graph: ir.Model, quantize: ir.Node, given: Mapping[str, ir.Value], taken: set[str]) -> None:
    """Let the inputs ``given`` decide over one QuantizeLinear and those who read its codes."""
    x, codes = quantize.inputs[0], quantize.outputs[0]
    [dequantize] = [n for n, _ in walk.consumers(codes) if n.op_type == "DequantizeLinear"]
    for node in (quantize, dequantize):
        node.replace_input_with(1, given["scale"])
        node.replace_input_with(2, given["zero"])
    readers = walk.consumers(dequantize.outputs[0])
    name = edit.fresh(taken, f"{dequantize.outputs[0].name}/switched")
    choice = ir.node("Where", [given["on"], dequantize.outputs[0], x], name=name)
    choice.outputs[0].name = name
    graph.graph.insert_after(dequantize, choice)
    for reader, index in readers:
        reader.replace_input_with(index, choice.outputs[0])
    for clip in [n for n, _ in walk.consumers(codes) if n.op_type == "Clip"]:  # an integer HardSwish: write it out
        opened = walk.only_consumer(clip.outputs[0])
        product = walk.only_consumer(opened.outputs[0]) if opened is not None else None
        assert product is not None
        plain = edit.add_node(product, "HardSwish", [choice.outputs[0]], edit.fresh(taken, f"{name}/hardswish"))
        edit.replace(product.outputs[0], plain)


def _float_weights(graph: ir.Model, taken: set[str]) -> None:
    """Constants behind a DequantizeLinear as the floats that they stand for, so that a runtime is quick with them."""
    for node in list(graph.graph):
        parts = [walk.constant(v) for v in node.inputs[:3]] if node.op_type == "DequantizeLinear" else []
        if len(parts) != 3 or any(p is None for p in parts):
            continue
        codes, scale, zero = parts
        assert codes is not None
        assert scale is not None
        assert zero is not None
        axis = None if scale.ndim == 0 else int(walk.attribute(node, "axis", 1))
        value = grid.dequantize(codes, scale, zero, axis)
        constant = edit.add_constant(graph.graph, edit.fresh(taken, f"{node.outputs[0].name}/float"), value)
        node.outputs[0].replace_all_uses_with(constant)
