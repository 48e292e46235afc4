"""Round the weights of a Q/DQ network again, for the outputs of their layers instead of for themselves.

codes = round(W / s), s = absmax / 127    =>    codes and s of least E|(W8 - W) x|**2 over the calibrate split
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.graph.grams import grams
from hasten.graph.linear import Linear, linear
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.passes.rounded import Rounded, bias_of, reference, rounded, set_bias
from hasten.protocols import Context, NotApplicable
from hasten.quant import grid
from hasten.quant.adaround import adaround
from hasten.quant.gptq import descend, gptq
from hasten.quant.gram import row_errors
from hasten.quant.grid import S8
from hasten.quant.weights import least_error_scale, nearest, spread

METHODS = ("mse", "adaround", "gptq")


@dataclass(frozen=True)
class RoundWeights:
    """New integer codes and scales for the weights of the integer layers, from the float weights and Gram matrices.

    ``mse`` takes for each scale the one of least output error among 20 shrunken ones, and rounds to the nearest.
    ``adaround`` learns at that scale which way to round, in ``iterations`` steps of Adam a layer. ``gptq`` spreads
    each column's error over the columns behind it, then improves one code after another: much faster, about as good.
    A row keeps the nearest codes where its error would rise. int32 biases follow the scales. After ``seconds`` the
    layers that are left keep their weights.

    Raises:
        NotApplicable: no quantize step came before, or no layer is in integers that a Gram matrix can judge.
        UsageError: the method is none of those.
    """

    method: str = "gptq"
    iterations: int = 500
    seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"round_weights has no method {self.method!r}", help=did_you_mean(self.method, METHODS))

    def __call__(self, model: Model, context: Context) -> Model:
        graph, end = model.clone_graph(), time.monotonic() + self.seconds
        shared: dict[ir.Node, list[Rounded]] = {}
        for integer in rounded(graph, context):
            shared.setdefault(integer.dequantize, []).append(integer)
        owners = {found: same for same in shared.values() if (found := linear(same[0].origin)) is not None}
        if not owners:
            raise NotApplicable("no integer layer is one matrix; ConvTranspose and stacks of matrices stay as they are")
        # layers that share one weight are judged on the input of the first
        taken = edit.names(graph)
        for alike, gram in grams(reference(context), list(owners), context.feeds):
            for layer in alike:
                left = end - time.monotonic()
                if left > 0:
                    _rewrite(graph, owners[layer], layer, self._round(layer, owners[layer][0], gram.total, left), taken)
        edit.prune(graph)
        return model.with_graph(graph, repr(self))

    def _round(self, layer: Linear, old: Rounded, total: Array, seconds: float) -> tuple[Array, Array]:
        """(codes float32[groups, rows, k], scale [groups, rows] or one number)."""
        w = walk.constant(layer.weight.value)
        assert w is not None
        matrix = layer.matrix(w)
        scale = least_error_scale(matrix, total, S8, per_row=old.axis is not None)
        scale = _wide_enough(scale, old)
        if self.method == "adaround":
            return adaround(matrix, scale, total, S8, iterations=self.iterations, seconds=seconds), scale
        plain = nearest(matrix, scale, S8)
        if self.method == "mse":
            return plain, scale
        step = np.broadcast_to(spread(scale), (*matrix.shape[:2], 1))
        begun = plain
        if layer.groups == 1:
            each = step[0, :, 0], np.zeros(len(plain[0]))
            begun = gptq(matrix[0], total[0], S8, lambda _: each).codes[None]
        codes = descend(begun, matrix, step, total, S8)
        better = row_errors(codes * step - matrix, total) < row_errors(plain * step - matrix, total)
        return np.where(better[..., None], codes, plain), scale


def _wide_enough(scale: Array, layer: Rounded) -> Array:
    """Scales at which the layer's bias still fits int32."""
    bias, source = bias_of(layer).value, layer.input_scale
    if bias is None or source is None or scale.ndim == 0 or bias.size != scale.size:
        return scale
    return grid.fit_weight_scale(scale.reshape(-1), bias.reshape(-1), source).reshape(scale.shape)


def _rewrite(
    graph: ir.Model, layers: Sequence[Rounded], matrix: Linear, found: tuple[Array, Array], taken: set[str]
) -> None:
    """New codes and scale behind the DequantizeLinear that ``layers`` share, and int32 biases to match."""
    codes, scale = found
    biases = [(bias, bias.value) for bias in map(bias_of, layers)]
    dequantize = layers[0].dequantize
    flat = matrix.restored(codes).astype(np.int8)
    for index, array in ((0, flat), (1, scale.reshape(-1) if scale.ndim else scale)):
        name = edit.fresh(taken, f"{dequantize.inputs[index].name}/rerounded")  # type: ignore[union-attr]
        dequantize.replace_input_with(index, edit.add_constant(graph.graph, name, array))
    for bias, value in biases:
        if bias.place == "inside" and value is not None:
            set_bias(graph, bias, value, taken)
