"""SmoothQuant (Xiao et al. 2023): channels far wider than the rest hand a part of their range to the weights.

    LayerNormalization(g, b) -> MatMul(W)       =>   LayerNormalization(g / s, b / s) -> MatMul(W * s)
    x -> MatMul(W), and x -> Add                =>   x -> Mul(1 / s) -> MatMul(W * s), and x -> Add

The function stays; one scale for the whole activation loses less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError
from hasten.graph import edit, walk
from hasten.graph.extremes import Reach, reaches
from hasten.graph.grams import grams
from hasten.graph.linear import Linear
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.passes import channels, patterns
from hasten.protocols import Context, NotApplicable
from hasten.quant.equalise import EXPONENTS, output_error, smoothing
from hasten.quant.gram import Gram

AUTO = 0.0


@dataclass(frozen=True)
class Smooth:
    """Divide the input of linear layers by a factor per channel, and multiply their weights with it.

    ``exponent`` is how much of a channel's range goes over to the weights; 0 chooses for each input the exponent of
    least output error among six, and leaves the input alone where none lowers the error by the share ``worth``. The
    error is computed from the channels' extremes and the Gram matrix of the input, without running anything again.
    The factor goes into constants of the nodes before where that is exact; else a Mul is put in front of matrix
    products (``insert``), never of convolutions.

    Raises:
        NotApplicable: the network is quantized already, or nothing is worth smoothing.
        UsageError: an exponent outside 0 to 1.
    """

    exponent: float = AUTO
    worth: float = 0.1
    insert: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise UsageError(f"smooth has no exponent {self.exponent:g}", help="write a number from 0 (automatic) to 1")

    def __call__(self, model: Model, context: Context) -> Model:
        found = patterns.quantized_already(model.graph)
        if found:
            raise NotApplicable(f"the network is quantized already: {found}")
        graph = model.clone_graph()
        edit.infer(graph)
        places = [p for p in places_of(graph) if p.source is not None or (self.insert and p.products)]
        if not places:
            raise NotApplicable("no linear layer's input can be divided: other operators make it or read it")
        taken, smoothed = edit.names(graph), 0
        for place, factor in self._factors(model, places, context):
            _apply(graph, place, factor, taken)
            smoothed += 1
        if not smoothed:
            raise NotApplicable(
                f"no input of a linear layer is so uneven that smoothing lowers its error by {self.worth:.0%}"
            )
        return model.with_graph(graph, repr(self))

    def _factors(self, model: Model, places: list[Place], context: Context) -> list[tuple[Place, Array]]:
        """The places worth smoothing with their factors, in the order of execution."""
        seen = reaches(model, {p.value.name or "": p.axis for p in places}, context.feeds)
        places = [p for p in places if p.value.name in seen]
        exponents = (self.exponent,) if self.exponent else EXPONENTS
        tried = {id(p): [np.ones(p.channels), *_tries(p, seen[p.value.name or ""], exponents)] for p in places}
        errors = {id(p): np.zeros(len(exponents) + 1) for p in places}
        owner = {layer.node: p for p in places for layer in p.layers}
        for alike, gram in grams(model, [layer for p in places for layer in p.layers], context.feeds):
            for layer in alike:
                place = owner[layer.node]
                reach = seen[place.value.name or ""]
                errors[id(place)] += [_error(layer, s, reach, gram) for s in tried[id(place)]]
        found = []
        for place in places:
            error = errors[id(place)]
            best = 1 if self.exponent else int(np.argmin(error))
            if self.exponent or error[best] < (1 - self.worth) * error[0]:
                found.append((place, tried[id(place)][best]))
        return found


@dataclass(eq=False)
class Place:
    """A tensor and the linear layers that read it; ``source`` holds constants to fold into, None for a Mul."""

    value: ir.Value
    layers: list[Linear]
    source: channels.Source | None

    @property
    def axis(self) -> int:
        """Of the channels, from the end."""
        return channels.channel_axis(self.layers[0])

    @property
    def channels(self) -> int:
        """How many there are."""
        return channels.channels(self.layers[0])

    @property
    def products(self) -> bool:
        """Do only matrix products read it?"""
        return not any(layer.kernel for layer in self.layers)


def places_of(graph: ir.Model) -> list[Place]:
    """Every tensor that linear layers read, in the order of execution."""
    found: list[Place] = []
    for value in dict.fromkeys(n.inputs[0] for n in graph.graph if walk.weight(n)):
        layers, alone = channels.readers(value) if value is not None else ([], False)
        if value is None or not layers or len({channels.channel_axis(layer) for layer in layers}) > 1:
            continue
        source = channels.source(value, channels.channel_axis(layers[0])) if alone else None
        found.append(Place(value, layers, None if source is None or source.clips else source))
    return found


def _tries(place: Place, reach: Reach, exponents: tuple[float, ...]) -> list[Array]:
    """The factor of each exponent; readers share one, for the largest of their weights."""
    each = [channels.per_channel(layer, np.abs(_matrix(layer)).max(axis=1)) for layer in place.layers]
    widest = np.max(each, axis=0)
    return [smoothing(reach.size, widest, exponent) for exponent in exponents]


def _matrix(layer: Linear) -> Array:
    w = walk.constant(layer.node.inputs[1])
    assert w is not None
    return layer.matrix(w)


def _error(layer: Linear, factor: Array, reach: Reach, gram: Gram) -> float:
    s, low, high = (channels.per_column(layer, v) for v in (factor, reach.low, reach.high))
    return output_error(_matrix(layer), s, low, high, gram)


def _apply(graph: ir.Model, place: Place, factor: Array, taken: set[str]) -> None:
    for layer in place.layers:
        stretched = _matrix(layer) * channels.per_column(layer, factor)
        channels.write(graph, layer.node, 1, layer.restored(stretched), taken, "smoothed")
    if place.source is not None:
        for holder in place.source.holders:
            old = walk.constant(holder.node.inputs[holder.index])
            assert old is not None
            channels.write(graph, holder.node, holder.index, channels.scaled(old, holder, factor), taken, "smoothed")
        return
    name = place.value.name or "x"
    inverse = edit.add_constant(graph.graph, edit.fresh(taken, f"{name}/factor"), (1 / factor).astype(np.float32))
    divided = edit.add_node(place.layers[0].node, "Mul", [place.value, inverse], edit.fresh(taken, f"{name}/smoothed"))
    divided.shape, divided.type = place.value.shape, place.value.type
    for layer in place.layers:
        layer.node.replace_input_with(0, divided)
