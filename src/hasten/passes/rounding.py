"""Write a placement into a graph: QuantizeLinear and DequantizeLinear pairs, integer weights and biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.graph import edit, walk
from hasten.passes import patterns
from hasten.passes.bias import mean_shift, take_off
from hasten.passes.hardswish import integer_hardswish
from hasten.passes.placement import Placement
from hasten.quant import grid, ranges

if TYPE_CHECKING:
    from hasten.quant.histogram import TensorStats


def write(
    graph: ir.Model, plan: Placement, method: Callable[[str], str], stats: Mapping[str, TensorStats],
    *, bias32: bool, per_channel: bool = True, correct: bool = False,
) -> None:  # fmt: skip
    """Insert the Q/DQ pairs of ``plan`` and replace the weights, in place.

    ``method`` tells the range method of a tensor by its name. Biases become int32 with ``bias32``; weights take one
    scale in all instead of one a channel without ``per_channel``. With ``correct`` biases first lose what rounding the
    weights adds to an output on average.
    """
    taken = edit.names(graph)
    means = {id(n): _mean(n, stats) for n in plan.linear} if correct else {}
    scales: dict[ir.Value, float] = {}
    for group in plan.groups():
        if any(v.name not in stats for v in group):  # never computed on the samples: stays float
            continue
        if len(group) == 1 and _in_channels(graph, group[0], plan, stats, taken):
            continue
        chosen = [ranges.choose_range(stats[v.name or ""], method(v.name or "")) for v in group]
        scale, zero = _grid(plan, group, min(low for low, _ in chosen), max(high for _, high in chosen))
        scales.update((v, float(scale)) for v in group)
        for value in group:
            _round_activation(graph, value, plan.reads[value], scale, zero, taken)
    for node, index in plan.constants:
        _round_operand(graph, node, index, taken)
    for node in plan.hardswish:
        integer_hardswish(graph, node, taken)
    written: dict[tuple[ir.Value, int], tuple[ir.Value, walk.Array]] = {}
    sources = {id(node): _source_scale(node, scales) for node in plan.linear}
    for node in plan.linear:
        if id(node) in means:
            _correct(graph, node, means[id(node)], per_channel, taken)
        _round_weights(graph, node, sources[id(node)], written, (bias32, per_channel), taken)


def _grid(plan: Placement, group: list[ir.Value], low: float, high: float) -> tuple[np.float32, walk.Array]:
    """Scale and zero point of tensors that share them, for values between ``low`` and ``high``."""
    first, alone = group[0], len(group) == 1
    if first in plan.fixed and alone:
        scale, zero = plan.fixed[first]
        return np.float32(scale), np.asarray(zero, np.uint8)
    if any(node.inputs[0] is first for node in plan.hardswish):
        return grid.hardswish_grid(high)
    return grid.product_grid(low, high) if first in plan.symmetric and alone else grid.activation_grid(low, high)


def _mean(node: ir.Node, stats: Mapping[str, TensorStats]) -> NDArray[np.float64] | None:
    """The mean of each channel that a linear node reads, while it still reads the float tensor."""
    value = node.inputs[0]
    known = stats.get(value.name or "") if value is not None else None
    return known.channel_mean if known is not None else None


def _in_channels(
    graph: ir.Model, value: ir.Value, plan: Placement, stats: Mapping[str, TensorStats], taken: set[str]
) -> bool:
    """Round ``value`` with a scale for each channel, from the channel's extremes, where the plan says so."""
    known = stats[value.name or ""]
    if value not in plan.by_channel or known.channel_low is None or known.channel_high is None:
        return False
    scale, zero = grid.affine(known.channel_low, known.channel_high, grid.U8)
    _round_activation(graph, value, plan.reads[value], scale, zero, taken)
    return True


def _round_operand(model: ir.Model, node: ir.Node, index: int, taken: set[str]) -> None:
    value = node.inputs[index]
    array = walk.constant(value)
    assert value is not None
    assert array is not None
    scale, zero = grid.affine(array.min(), array.max(), grid.U8)
    codes = grid.quantize(array, scale, zero, grid.U8)
    node.replace_input_with(index, _stored(model, node, value.name or "c", codes, scale, zero, None, taken))


def _source_scale(node: ir.Node, scales: Mapping[ir.Value, float]) -> float | None:
    """The scale of a linear node's input, through the DequantizeLinear and QuantizeLinear just put before it."""
    value = node.inputs[0]
    dq = value.producer() if value is not None else None
    q = (
        dq.inputs[0].producer()
        if dq is not None and dq.op_type == "DequantizeLinear" and dq.inputs[0] is not None
        else None
    )
    return scales.get(q.inputs[0]) if q is not None and q.inputs[0] is not None else None


def _round_activation(
    model: ir.Model,
    value: ir.Value,
    uses: list[tuple[ir.Node, int]],
    scale: np.float32 | walk.Array,
    zero: walk.Array,
    taken: set[str],
) -> None:
    graph, base = model.graph, value.name or "x"
    axis = {"axis": 1} if np.ndim(scale) else {}
    parts = [
        edit.add_constant(graph, edit.fresh(taken, f"{base}/scale"), np.asarray(scale, np.float32)),
        edit.add_constant(graph, edit.fresh(taken, f"{base}/zero"), np.asarray(zero)),
    ]
    dtype = ir.DataType.from_numpy(np.asarray(zero).dtype)
    kind = "u8" if dtype == ir.DataType.UINT8 else "s8"
    codes = ir.Value(name=edit.fresh(taken, f"{base}/{kind}"), shape=value.shape, type=ir.TensorType(dtype))
    rounded = ir.Value(name=edit.fresh(taken, f"{base}/rounded"), shape=value.shape, type=value.type)
    pair = [
        ir.node("QuantizeLinear", [value, *parts], axis, outputs=[codes], name=codes.name),
        ir.node("DequantizeLinear", [codes, *parts], axis, outputs=[rounded], name=rounded.name),
    ]
    for node, index in uses:
        node.replace_input_with(index, rounded)
    for place, output in enumerate(graph.outputs):
        if output is value:  # it leaves the graph rounded, under its own name
            graph.outputs[place] = rounded
            rounded.name, value.name = value.name, rounded.name
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
    how: tuple[bool, bool],
    taken: set[str],
) -> None:
    bias32, per_channel = how
    found = walk.weight(node)
    assert found is not None
    bias = walk.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    as_int32 = bias32 and bias is not None and bias.ndim == 1 and walk.attribute(node, "beta", 1.0) == 1.0
    w = walk.constant(found.value)
    assert w is not None
    as_int32 = as_int32 and bias is not None and bias.size == w.shape[found.axis]
    if (found.value, found.axis) not in written or (as_int32 and source is not None):
        over = tuple(i for i in range(w.ndim) if i != found.axis) if per_channel else None
        scale, _ = grid.symmetric(np.abs(w).max(axis=over), grid.S8)
        if as_int32 and bias is not None and source is not None:
            scale = grid.fit_weight_scale(scale, bias if per_channel else np.abs(bias).max(), source)
        zero, axis = np.zeros(scale.shape, np.int8), found.axis if per_channel else None
        codes = grid.quantize(w, scale, zero, grid.S8, axis)
        written[found.value, found.axis] = (
            _stored(model, node, found.value.name or "w", codes, scale, zero, axis, taken),
            scale,
        )
    rounded, scale = written[found.value, found.axis]
    node.replace_input_with(found.index, rounded)
    if as_int32 and bias is not None and source is not None:
        codes32, bias_scale = grid.quantize_bias(bias, source, scale)
        zero32, axis = np.zeros(bias_scale.shape, np.int32), 0 if per_channel else None
        source_name = node.inputs[2].name if node.inputs[2] is not None else "b"
        node.replace_input_with(2, _stored(model, node, source_name or "b", codes32, bias_scale, zero32, axis, taken))


def _correct(
    model: ir.Model, node: ir.Node, mean: NDArray[np.float64] | None, per_channel: bool, taken: set[str]
) -> None:
    """Take off the bias what rounding the weights will add on average."""
    found = walk.weight(node)
    w = walk.constant(found.value) if found is not None else None
    if found is None or w is None or mean is None:
        return
    over = tuple(i for i in range(w.ndim) if i != found.axis) if per_channel else None
    scale, zero = grid.symmetric(np.abs(w).max(axis=over), grid.S8)
    error = grid.fake_quantize(w, scale, zero, grid.S8, found.axis if per_channel else None) - w
    shift = mean_shift(node, error, mean)
    if shift is not None:
        take_off(model, node, shift, taken)


def _stored(
    model: ir.Model,
    node: ir.Node,
    base: str,
    codes: walk.Array,
    scale: walk.Array,
    zero: walk.Array,
    axis: int | None,
    taken: set[str],
) -> ir.Value:
    """Integers as initialisers behind a DequantizeLinear at the start of the graph."""
    graph = model.graph
    inputs = [
        edit.add_constant(graph, edit.fresh(taken, f"{base}/{suffix}"), array)
        for suffix, array in ((codes.dtype.name, codes), ("scale", scale), ("zero", zero))
    ]
    return edit.add_node(
        graph[0],
        "DequantizeLinear",
        inputs,
        edit.fresh(taken, f"{base}/rounded"),
        {} if axis is None else {"axis": axis},
    )


def keep_float(model: ir.Model) -> None:
    """Stop ONNX Runtime from quantizing what was left in float on purpose.

    It rounds the float weights of a Conv or Gemm between a DQ and a Q by itself, with one scale for the whole tensor,
    which ruins depthwise convolutions. A Sum of one operand in between hides the DQ at the price of a copy.
    """
    taken = edit.names(model)
    for node in list(model.graph):
        value = node.inputs[0] if walk.weight(node) else None
        before = value.producer() if value is not None else None
        if value is None or before is None or before.op_type != "DequantizeLinear":
            continue
        readers = [reader for reader, _ in walk.consumers(node.outputs[0])]
        readers += [n for r in readers if r.op_type in patterns.CLAMPS for n, _ in walk.consumers(r.outputs[0])]
        if any(reader.op_type == "QuantizeLinear" for reader in readers):
            copy = edit.add_node(node, "Sum", [value], edit.fresh(taken, f"{value.name}/copy"))
            copy.shape, copy.type = value.shape, value.type
            node.replace_input_with(0, copy)
