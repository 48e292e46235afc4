"""Bias correction: what rounding adds to the mean of a channel, the bias takes off again (Nagel et al. 2019).

DQ(W8) -> Conv(b) -> y                 =>   DQ(W8) -> Conv(b + E[y_float - y]) -> y
DQ(W8) -> MatMul -> y                  =>   DQ(W8) -> MatMul -> Add(E[y_float - y]) -> y
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, pieces, taps, walk
from hasten.graph.extremes import reaches
from hasten.graph.grams import means
from hasten.graph.linear import linear
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.passes.rounded import Bias, Rounded, bias_of, reference, rounded, set_bias
from hasten.protocols import Context, NotApplicable

METHODS = ("fast", "sequential")
LEAST = 4  # samples that sequential correction uses even where they do not fit its memory


@dataclass(frozen=True)
class Correct:
    """Shift the biases of the integer layers so that each channel's mean is the float network's.

    ``fast``: from the float network's own inputs, ``(W - W8) E[x]``: one run of it, and upstream rounding is not seen.
    ``sequential``: layer after layer, each on what the corrected integer layers before it really hand on, over at
    most ``samples`` samples and as many as fit ``memory_mb``. Each node runs once a sample, whatever the depth.
    A layer without a bias gets one.

    Raises:
        NotApplicable: no quantize step came before, or no layer is in integers.
        UsageError: the method is neither.
    """

    method: str = "sequential"
    samples: int = 100
    memory_mb: int = 512

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"correct has no method {self.method!r}", help=did_you_mean(self.method, METHODS))

    def __call__(self, model: Model, context: Context) -> Model:
        graph = model.clone_graph()
        layers = rounded(graph, context)
        fast = self.method == "fast"
        if not (_fast(graph, layers, context) if fast else self._sequential(model, graph, layers, context)):
            raise NotApplicable("no integer layer was reached by the samples")
        edit.prune(graph)  # the old biases
        return model.with_graph(graph, repr(self))

    def _sequential(self, model: Model, graph: ir.Model, layers: list[Rounded], context: Context) -> int:
        plan = pieces.pieces(graph, [layer.node.outputs[0] for layer in layers])
        names = sorted({name for piece in plan for name in (*piece.inputs, *piece.outputs)})
        inner = [n for n in names if n not in {s.name for s in model.inputs}]
        most = pieces.peak_bytes(plan, taps.sizes(model, inner, context.feeds))
        count = max(LEAST, min(self.samples, (self.memory_mb << 20) // max(most, 1)))
        samples = list(islice(context.feeds(), count))
        axes = {layer.node.outputs[0].name or "": layer.channel_axis for layer in layers}
        wanted = {n: r.mean for n, r in reaches(reference(context), axes, lambda: iter(samples)).items()}
        taken = edit.names(graph)
        by_name = {layer.node.outputs[0].name: layer for layer in layers}
        for piece, arrays in pieces.run(graph, plan, samples):
            layer = by_name[piece.target]
            found = [_channels(a[piece.target], layer.channel_axis) for a in arrays]
            mean = np.average([f.mean(axis=1) for f in found], axis=0, weights=[f.shape[1] for f in found])
            bias = bias_of(layer)
            before = bias.value
            moved = _shift(graph, bias, wanted[piece.target] - mean, taken)
            if bias.place == "inside":
                step = moved - (before.reshape(-1) if before is not None else 0)
                shaped = step.reshape(-1, *[1] * (-1 - layer.channel_axis)).astype(np.float32)
                for a in arrays:
                    a[piece.target] = a[piece.target] + shaped
        return len(plan)


def _fast(graph: ir.Model, layers: list[Rounded], context: Context) -> int:
    taken, done = edit.names(graph), 0
    origins = {layer.origin: layer for layer in layers}
    known = [found for found in map(linear, origins) if found is not None]
    for origin, mean in means(reference(context), known, context.feeds):
        layer = origins[origin.node]
        w = walk.constant(origin.weight.value)
        assert w is not None
        lost = origin.matrix(w.astype(np.float64) - layer.weight)
        _shift(graph, bias_of(layer), np.einsum("grk,gk->gr", lost, mean).reshape(-1), taken)
        done += 1
    return done


def _shift(graph: ir.Model, bias: Bias, by: Array, taken: set[str]) -> Array:
    """Add to a bias; returns the new one as it is added, [channels]."""
    old = bias.value
    if old is not None and old.size != by.size:  # one number for all channels, or a row for each of several axes
        old = np.broadcast_to(old, (*old.shape[:-1], by.size)) if old.ndim and old.size == old.shape[-1] else old
    return set_bias(graph, bias, by if old is None else old + by, taken)


def _channels(array: Array, axis: int) -> Array:
    return np.moveaxis(np.asarray(array, np.float64), axis, 0).reshape(array.shape[axis], -1)
