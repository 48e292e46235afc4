"""Static eight-bit quantization: round weights and activations, and say so with QuantizeLinear / DequantizeLinear.

    x -> Conv(W, b) -> Relu -> y      =>      x -> Q -> DQ -> Conv(DQ(W8), DQ(b32)) -> Relu -> Q -> DQ -> y
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import walk
from hasten.model import Model
from hasten.passes import patterns
from hasten.passes.placement import Placement, place
from hasten.protocols import Context, NotApplicable
from hasten.quant import grid, ranges

if TYPE_CHECKING:
    from hasten.quant.histogram import TensorStats

SCHEMES = ("onnxruntime", "openvino")
OPERATORS = ("all", "linear", "conv", "matmul")
SINCE = 13  # per-channel DequantizeLinear


@dataclass(frozen=True)
class Quantize:
    """Activations to uint8 with a zero point, weights to int8 per output channel, biases to int32.

    ``scheme`` places the rounding as that engine fuses it. ``ranges`` is a method of ``quant.ranges``.
    ``operators``: ``all`` also keeps the operators between two linear ones in eight bits; ``linear`` only Conv,
    ConvTranspose, MatMul and Gemm; ``conv`` and ``matmul`` only those of them. ``depthwise="float"`` leaves depthwise
    convolutions out, ``ends="float"`` the first and the last linear operator. ``exclude`` and ``include`` hold node
    names, output names or operator types, ``*`` allowed; an empty ``include`` means all.

    Raises:
        NotApplicable: the network is quantized already, older than operator set 13, or has nothing to quantize.
        UsageError: an option is none of those above.
    """

    scheme: str = "onnxruntime"
    ranges: str = "minmax"
    operators: str = "all"
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    depthwise: str = "int8"
    ends: str = "int8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(self.exclude))  # a recipe read from JSON brings lists
        object.__setattr__(self, "include", tuple(self.include))
        for option, known in (("scheme", SCHEMES), ("operators", OPERATORS), ("ranges", ranges.METHODS)):
            if getattr(self, option) not in known:
                raise UsageError(f"quantize has no {option} {getattr(self, option)!r}", help=did_you_mean(getattr(self, option), known))
        for option in ("depthwise", "ends"):
            if getattr(self, option) not in ("int8", "float"):
                raise UsageError(f"quantize has no {option} {getattr(self, option)!r}", help="write int8 or float")

    def __call__(self, model: Model, context: Context) -> Model:
        _check(model.graph)
        graph = model.clone_graph()
        walk.infer(graph)
        plan = place(graph, self.scheme, self._choice(graph), chain=self.operators != "linear")
        if not plan.linear:
            raise NotApplicable(_why_nothing(graph))
        values = {v.name: v for v in plan.reads if v.name}
        stats = context.stats(model, sorted(values))
        write(graph, plan, self.ranges, stats, bias32=self.scheme == "onnxruntime")
        return model.with_graph(graph, repr(self))

    def _choice(self, graph: ir.Model) -> Wanted:
        linear = [n for n in graph.graph if walk.weight(n)]
        kinds = {"conv": ("Conv", "ConvTranspose"), "matmul": ("MatMul", "Gemm")}.get(self.operators, walk.LINEAR)
        ends = {linear[0], linear[-1]} if linear and self.ends == "float" else set()
        return Wanted(self.include, self.exclude, kinds, self.depthwise == "float", frozenset(ends))


@dataclass(frozen=True)
class Wanted:
    """Does the caller want this linear node in eight bits?"""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    kinds: tuple[str, ...]
    skip_depthwise: bool
    ends: frozenset[ir.Node]

    def __call__(self, node: ir.Node) -> bool:
        if node.op_type not in self.kinds or node in self.ends or (self.skip_depthwise and walk.depthwise(node)):
            return False
        if self.include and not _matches(node, self.include):
            return False
        return not _matches(node, self.exclude)


def _matches(node: ir.Node, names: tuple[str, ...]) -> bool:
    own = (patterns.label(node), node.outputs[0].name or "", node.op_type)
    return any(fnmatchcase(name, pattern) for name in own for pattern in names)


def _check(graph: ir.Model) -> None:
    found = patterns.quantized_already(graph)
    if found:
        raise NotApplicable(f"the network is quantized already: {found}")
    if walk.opset(graph) < SINCE:
        raise NotApplicable(f"operator set {walk.opset(graph)} has no per-channel DequantizeLinear; {SINCE} has")


def _why_nothing(graph: ir.Model) -> str:
    inside = patterns.in_bodies(graph)
    if inside:
        return f"all {inside} linear operators lie inside If or Loop bodies"
    return "there is no Conv, MatMul or Gemm with constant float32 weights to quantize"


def write(
    graph: ir.Model, plan: Placement, method: str, stats: Mapping[str, TensorStats], *, bias32: bool
) -> None:
    """Insert the Q/DQ pairs of ``plan`` and replace the weights, in place. Biases become int32 with ``bias32``."""
    taken = walk.names(graph)
    scales: dict[ir.Value, float] = {}
    for group in plan.groups():
        chosen = [ranges.choose_range(stats[v.name or ""], method) for v in group]
        scale, zero = grid.affine(min(low for low, _ in chosen), max(high for _, high in chosen), grid.U8)
        inside = np.float32(np.nextafter(scale, np.float32(0)))  # a Clip at the range's end must contain every code
        scales.update((v, float(inside)) for v in group)
        for value in group:
            _round_activation(graph, value, plan.reads[value], inside, zero, taken)
    written: dict[tuple[ir.Value, int], tuple[ir.Value, walk.Array]] = {}
    sources = {id(node): _source_scale(node, scales) for node in plan.linear}
    for node in plan.linear:
        _round_weights(graph, node, sources[id(node)], written, bias32, taken)


def _source_scale(node: ir.Node, scales: Mapping[ir.Value, float]) -> float | None:
    """The scale of a linear node's input, through the DequantizeLinear and QuantizeLinear just put before it."""
    value = node.inputs[0]
    dq = value.producer() if value is not None else None
    q = dq.inputs[0].producer() if dq is not None and dq.op_type == "DequantizeLinear" and dq.inputs[0] is not None else None
    return scales.get(q.inputs[0]) if q is not None and q.inputs[0] is not None else None


def _round_activation(
    model: ir.Model, value: ir.Value, uses: list[tuple[ir.Node, int]], scale: np.float32, zero: walk.Array, taken: set[str]
) -> None:
    graph, base = model.graph, value.name or "x"
    parts = [
        walk.add_constant(graph, walk.fresh(taken, f"{base}/scale"), np.asarray(scale, np.float32)),
        walk.add_constant(graph, walk.fresh(taken, f"{base}/zero"), np.asarray(zero, np.uint8)),
    ]
    codes = ir.Value(name=walk.fresh(taken, f"{base}/u8"), shape=value.shape, type=ir.TensorType(ir.DataType.UINT8))
    rounded = ir.Value(name=walk.fresh(taken, f"{base}/rounded"), shape=value.shape, type=value.type)
    pair = [
        ir.node("QuantizeLinear", [value, *parts], outputs=[codes], name=codes.name),
        ir.node("DequantizeLinear", [codes, *parts], outputs=[rounded], name=rounded.name),
    ]
    for node, index in uses:
        node.replace_input_with(index, rounded)
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, pair)
    else:
        graph.insert_before(graph[0], pair)


def _round_weights(
    model: ir.Model,
    node: ir.Node,
    source: float | None,
    written: dict[tuple[ir.Value, int], tuple[ir.Value, walk.Array]],
    bias32: bool,
    taken: set[str],
) -> None:
    found = walk.weight(node)
    assert found is not None
    bias = walk.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    as_int32 = bias32 and source is not None and bias is not None and bias.ndim == 1 and walk.attribute(node, "beta", 1.0) == 1.0
    w = walk.constant(found.value)
    assert w is not None
    if (found.value, found.axis) not in written or as_int32:
        scale, _ = grid.symmetric(np.abs(w).max(axis=tuple(i for i in range(w.ndim) if i != found.axis)), grid.S8)
        if as_int32 and bias is not None and source is not None and bias.size == scale.size:
            scale = grid.fit_weight_scale(scale, bias, source)
        zero = np.zeros(scale.shape, np.int8)
        codes = grid.quantize(w, scale, zero, grid.S8, found.axis)
        written[found.value, found.axis] = _stored(model, node, found.value.name or "w", codes, scale, zero, found.axis, taken), scale
    rounded, scale = written[found.value, found.axis]
    node.replace_input_with(found.index, rounded)
    if as_int32 and bias is not None and source is not None and bias.size == scale.size:
        codes32, bias_scale = grid.quantize_bias(bias, source, scale)
        zero32 = np.zeros(bias_scale.shape, np.int32)
        source_name = node.inputs[2].name if node.inputs[2] is not None else "b"
        node.replace_input_with(2, _stored(model, node, source_name or "b", codes32, bias_scale, zero32, 0, taken))


def _stored(
    model: ir.Model, node: ir.Node, base: str, codes: walk.Array, scale: walk.Array, zero: walk.Array, axis: int, taken: set[str]
) -> ir.Value:
    """Integers as initialisers behind a DequantizeLinear at the start of the graph."""
    graph = model.graph
    inputs = [
        walk.add_constant(graph, walk.fresh(taken, f"{base}/{suffix}"), array)
        for suffix, array in ((codes.dtype.name, codes), ("scale", scale), ("zero", zero))
    ]
    return walk.add_node(graph[0], "DequantizeLinear", inputs, walk.fresh(taken, f"{base}/rounded"), {"axis": axis})


def variants(scheme: str) -> tuple[Quantize, ...]:
    """What a search should try for an engine, in this order."""
    return (Quantize(scheme=scheme),)
