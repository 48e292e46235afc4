"""Weights of matrix products in four or eight bits, activations in float: for networks that wait for their weights.

    x -> MatMul(W)              =>    x -> MatMulNBits(codes, scales, zero points)
    x -> Gemm(W, b)             =>    x -> MatMulNBits(codes, scales, zero points) -> Add(b)

ONNX Runtime has kernels for it; OpenVINO reads it as u4 or u8 weights with their own decompression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.graph.grams import grams
from hasten.graph.linear import Linear, linears
from hasten.graph.spill import Spill, release
from hasten.graph.walk import Array
from hasten.machine import cores
from hasten.model import Model
from hasten.passes import patterns
from hasten.protocols import Context, NotApplicable
from hasten.quant import blocks
from hasten.quant.blocks import GRIDS, Blocks
from hasten.quant.gptq import descend, gptq
from hasten.quant.gram import Gram
from hasten.quant.grid import Grid
from hasten.quant.kquant import kquant, scale_estimation

METHODS = ("nearest", "kquant", "scale_estimation", "gptq")
WITH_DATA = ("scale_estimation", "gptq")
BITS, BLOCKS = (4, 8), (32, 64, 128)
CONTRIB = "com.microsoft"
PIECE = 1 << 19  # weights that one thread works on at a time: they fit its cache
INT8_ACTIVATIONS = 4  # accuracy_level: multiply in int8, which is what VNNI is for


@dataclass(frozen=True)
class QuantizeWeights:
    """Constant weights of MatMul and Gemm to ``bits`` 4 or 8 in blocks of ``block`` 32, 64 or 128 inputs.

    ``method``: ``nearest``; ``kquant``, scales of least weighted error; ``scale_estimation`` and ``gptq``, which run
    the float network over the calibrate split for the Gram matrix of each input. ``symmetric`` blocks use all of
    [-8, 7] or [-128, 127]; others have a zero point. ``accuracy_level`` is MatMulNBits' own (0 float, 4 int8
    arithmetic); None takes 4 where the machine has VNNI or its kin. ``exclude`` holds node names, ``*`` allowed.

    Weights are read one matrix at a time and go to a file: memory does not grow with the network (the Gram matrices
    of the methods with data come on top).

    Raises:
        NotApplicable: the network is quantized already, or has no such product.
        UsageError: an option is none of those above.
    """

    bits: int = 4
    block: int = 32
    method: str = "kquant"
    symmetric: bool = True
    accuracy_level: int | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(self.exclude))  # a recipe read from JSON brings lists
        if self.method not in METHODS:
            help_text = did_you_mean(self.method, METHODS)
            raise UsageError(f"quantize_weights has no method {self.method!r}", help=help_text)
        levels = (None, 0, 1, 4)
        for option, known in (("bits", BITS), ("block", BLOCKS), ("accuracy_level", levels)):
            if getattr(self, option) not in known:
                written = " or ".join(str(k) for k in known if k is not None)
                raise UsageError(f"quantize_weights has no {option} {getattr(self, option)}", help=f"write {written}")

    def __call__(self, model: Model, context: Context) -> Model:
        found = patterns.quantized_already(model.graph)
        if found:
            raise NotApplicable(f"the network is quantized already: {found}")
        graph = model.clone_graph()
        shared: dict[ir.Value, list[Linear]] = {}
        for layer in linears(graph):
            if self._takes(layer):
                shared.setdefault(layer.weight.value, []).append(layer)
        if not shared:
            raise NotApplicable(
                f"there is no MatMul or Gemm with constant float32 weights of {self.block} inputs or more"
            )
        level = self._level(context)
        graph.opset_imports.setdefault(CONTRIB, 1)
        taken, spill = edit.names(graph), Spill()
        for first, gram in self._judged(model, [same[0] for same in shared.values()], context):
            rounded = self._round(first, gram)
            operands = _store(graph, spill, rounded, first.weight.value.name or "w", taken)
            for layer in shared[first.weight.value]:
                self._replace(layer, operands, level, taken)
            release(first.weight.value)
        edit.prune(graph)  # the float weights
        return model.with_graph(graph, repr(self))

    def _takes(self, layer: Linear) -> bool:
        node = layer.node
        plain = walk.attribute(node, "alpha", 1.0) == walk.attribute(node, "beta", 1.0) == 1.0
        excluded = any(fnmatchcase(walk.label(node), pattern) for pattern in self.exclude)
        return not layer.kernel and plain and not excluded and layer.k >= self.block

    def _level(self, context: Context) -> int:
        if self.accuracy_level is not None:
            return self.accuracy_level
        quick = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & set(context.instruction_sets)
        return INT8_ACTIVATIONS if quick else 0

    def _judged(self, model: Model, layers: Sequence[Linear], context: Context) -> Iterator[tuple[Linear, Gram | None]]:
        """Each layer, with the Gram matrix of its input where the method needs one and the samples reach it."""
        if self.method not in WITH_DATA:
            yield from ((layer, None) for layer in layers)
            return
        left = dict.fromkeys(layers)
        for alike, gram in grams(model, layers, context.feeds):
            for layer in alike:
                left.pop(layer)
                yield layer, gram
        yield from ((layer, None) for layer in left)

    def _round(self, layer: Linear, gram: Gram | None) -> Blocks:
        w = walk.constant(layer.weight.value)
        assert w is not None
        rows = w.T if layer.transposed else w
        if gram is None:
            data_free = kquant if self.method in ("kquant", *WITH_DATA) else blocks.nearest
            return _by_rows(rows, lambda part: data_free(part, self.bits, self.block, symmetric=self.symmetric))
        if self.method == "gptq":
            return self._gptq(rows, gram)
        total, sizes = gram.total[0], gram.sizes[0] / gram.count
        return _by_rows(
            rows, lambda part: scale_estimation(part, self.bits, self.block, total, sizes, symmetric=self.symmetric)
        )

    def _gptq(self, w: Array, gram: Gram) -> Blocks:
        """GPTQ, then a sweep of coordinate descent at its scales."""
        grid, middle, total = GRIDS[self.bits], np.float32(1 << (self.bits - 1)), gram.total[0]

        def find(part: Array) -> tuple[Array, Array]:
            if self.symmetric:
                return blocks.signed_scale(part, self.bits), np.full(len(part), middle)
            return blocks.affine_scale(part, self.bits)

        found = gptq(w, total, grid, find, group=self.block)
        if self.symmetric:
            signed = Grid(grid.qmin - int(middle), grid.qmax - int(middle), "int8")
            step = np.repeat(found.scales, self.block, axis=1)[:, : w.shape[1]]
            codes = descend(found.codes - middle, w, step, total, signed, sweeps=1) + middle
        else:
            codes = found.codes
        padded = np.pad(codes, ((0, 0), (0, -w.shape[1] % self.block)), constant_values=middle)
        shaped = padded.reshape(len(w), -1, self.block)
        return blocks.pack(shaped, found.scales, None if self.symmetric else found.zeros, self.bits, w.shape[1])

    def _replace(self, layer: Linear, operands: Sequence[ir.Value | None], level: int, taken: set[str]) -> None:
        node = layer.node
        name = node.outputs[0].name or node.name or "y"
        attributes: dict[str, Any] = {"K": layer.k, "N": layer.rows, "bits": self.bits, "block_size": self.block}
        attributes |= {"accuracy_level": level} if level else {}
        output = ir.Value(
            name=edit.fresh(taken, f"{name}/nbits"), shape=node.outputs[0].shape, type=node.outputs[0].type
        )
        attrs = [ir.AttrInt64(key, value) for key, value in attributes.items()]
        new = ir.Node(CONTRIB, "MatMulNBits", [layer.input, *operands], attrs, outputs=[output], name=node.name)
        assert node.graph is not None
        node.graph.insert_before(node, new)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            output = edit.add_node(node, "Add", [output, bias], edit.fresh(taken, f"{name}/biased"))
        edit.replace(node.outputs[0], output)
        node.graph.remove(node, safe=True)


def _by_rows(w: Array, quantize: Callable[[Array], Blocks]) -> Blocks:
    """Pieces of some outputs each, on all cores."""
    step = max(1, PIECE // w.shape[1])
    parts = [slice(i, i + step) for i in range(0, len(w), step)]
    with ThreadPoolExecutor(cores()) as pool:
        done = list(pool.map(lambda part: quantize(np.ascontiguousarray(w[part])), parts))
    zeros = None if done[0].zeros is None else np.concatenate([d.zeros for d in done if d.zeros is not None])
    codes = np.concatenate([d.codes for d in done])
    return Blocks(codes, np.concatenate([d.scales for d in done]), zeros, done[0].bits, done[0].k)


def _store(graph: ir.Model, spill: Spill, found: Blocks, name: str, taken: set[str]) -> list[ir.Value | None]:
    """The operands behind the input, as initialisers in a file."""

    def stored(suffix: str, array: Array) -> ir.Value:
        return spill.constant(graph.graph, edit.fresh(taken, f"{name}/{suffix}"), array)

    zeros = found.packed_zeros()
    operands: list[ir.Value | None] = [stored(f"u{found.bits}", found.packed()), stored("scales", found.scales)]
    return operands + ([stored("zeros", zeros)] if zeros is not None else [])
