"""One range for the columns that the first layers read: for eight bits, which see all of them through one scale.

    x -> MatMul(W) -> + b         =>   x -> Sub c -> Div s -> MatMul(s W) -> + b + c W
    x -> Conv(W, b), padded       =>   x -> Div s -> Conv(s W, b)

Here ``c`` is the middle of each column on the calibrate split, and ``s`` the geometric mean of half its range and its
standard deviation: the first alone leaves the bulk of a column with a long tail few steps, the second gives that tail
the range of all columns. The function stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError
from hasten.graph import edit, walk
from hasten.graph.affine import add_shift, affine, bias_row, representable
from hasten.graph.extremes import Reach, reaches
from hasten.graph.linear import Linear
from hasten.graph.prologue import last_values, unlike
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.passes import channels, patterns
from hasten.protocols import Context, NotApplicable

UNLIKE = 100.0  # chosen: of 255 steps over the whole, two are left for such a column


@dataclass(frozen=True)
class ScaleInputs:
    """Scale and shift the columns of inputs, in float, where one scale for all of them would lose some.

    Taken are inputs of the network, and what is computed of them without a linear layer, where layers with constant
    weights read them and the largest magnitude is ``unlike`` times the least range of a column. The weights and biases
    make up for it. A Conv that pads with zeros takes no shift.

    Raises:
        NotApplicable: the network is quantized already, or the columns are alike.
        UsageError: ``unlike`` is below 1.
    """

    unlike: float = UNLIKE

    def __post_init__(self) -> None:
        if self.unlike < 1:
            raise UsageError(f"scale_inputs has no unlike {self.unlike:g}", help="write a number from 1 on")

    def __call__(self, model: Model, context: Context) -> Model:
        found = patterns.quantized_already(model.graph)
        if found:
            raise NotApplicable(f"the network is quantized already: {found}")
        graph = model.clone_graph()
        edit.infer(graph)
        places = {v.name or "": (v, layers) for v in last_values(graph.graph) if (layers := _layers(v))}
        axes = {name: channels.channel_axis(layers[0]) for name, (_, layers) in places.items()}
        seen = reaches(model, axes, context.feeds) if places else {}
        taken, scaled = edit.names(graph), 0
        for name, reach in seen.items():
            value, layers = places[name]
            scaled += self._scaled(graph, value, layers, reach, taken)
        if not scaled:
            raise NotApplicable(f"no column of an input reaches {self.unlike:g} times as far as another")
        edit.prune(graph)
        return model.with_graph(graph, repr(self))

    def _scaled(self, graph: ir.Model, value: ir.Value, layers: list[Linear], reach: Reach, taken: set[str]) -> bool:
        """Scale what ``layers`` read of ``value``; False where its columns are alike."""
        shifts = all(_shifts(layer) for layer in layers)
        if not np.isfinite([reach.low, reach.high]).all():
            return False
        spread = reach.high - reach.low if shifts else reach.size
        if unlike(reach.size, spread) < self.unlike:
            return False
        middle = (reach.low + reach.high) / 2 if shifts else np.zeros_like(spread)
        scale = np.sqrt(spread / 2 * reach.deviation if shifts else spread * np.sqrt(reach.square))
        scale = np.where(scale > 0, scale, np.where(reach.size > 0, reach.size, 1.0))  # a column that never varied
        scale, middle = (np.asarray(a, np.float32).astype(np.float64) for a in (scale, middle))
        arrays = [_weights(layer) for layer in layers]
        widened = [w * channels.per_column(layer, scale) for layer, w in zip(layers, arrays, strict=True)]
        if not scale.all() or not all(map(representable, arrays, widened)):
            return False
        at = {node: place for place, node in enumerate(graph.graph)}
        alike = _before(graph, min(layers, key=lambda layer: at[layer.node]), value, middle, scale, taken)
        for layer, w in zip(layers, widened, strict=True):
            shift = _shift(layer, middle)
            layer.node.replace_input_with(0, alike)
            channels.write(graph, layer.node, 1, layer.restored(w), taken, "scaled")
            add_shift(graph.graph, layer.node, shift, taken)
        return True


def _layers(value: ir.Value) -> list[Linear]:
    """The linear layers that read ``value`` along one axis; none where they do not agree on it."""
    layers, _ = channels.readers(value)
    return layers if len({channels.channel_axis(layer) for layer in layers}) == 1 else []


def _weights(layer: Linear) -> Array:
    w = walk.constant(layer.node.inputs[1])
    assert w is not None
    return layer.matrix(w.astype(np.float64))


def _shifts(layer: Linear) -> bool:
    """Can a number added to a column go into the layer's bias?"""
    view = affine(layer.node)
    padded = walk.attribute(layer.node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(
        walk.attribute(layer.node, "pads", [0])
    )
    return view is not None and bias_row(layer.node, len(view.w)) is not None and not (layer.kernel and padded)


def _shift(layer: Linear, middle: Array) -> Array:
    """What the layer gives for the middles of its columns."""
    if not middle.any():
        return np.zeros(layer.rows)
    view = affine(layer.node)
    assert view is not None
    return np.asarray(view.w @ np.repeat(middle, view.spread))


def _before(graph: ir.Model, layer: Linear, value: ir.Value, middle: Array, scale: Array, taken: set[str]) -> ir.Value:
    """x -> Sub -> Div, in front of a layer."""
    name = value.name or "x"
    for op_type, numbers in (("Sub", middle), ("Div", scale)):
        if op_type == "Sub" and not middle.any():
            continue
        shaped = numbers.astype(np.float32).reshape(-1, *[1] * len(layer.kernel))
        constant = edit.add_constant(graph.graph, edit.fresh(taken, f"{name}/{op_type.lower()}"), shaped)
        made = edit.add_node(layer.node, op_type, [value, constant], edit.fresh(taken, f"{name}/alike"))
        made.shape, made.type = value.shape, value.type
        value = made
    return value
