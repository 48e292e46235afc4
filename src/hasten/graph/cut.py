"""Take units out of a graph: weights lose rows and columns, and what is written about sizes is set right.

W[64, 32, 3, 3], b[64] -> Conv    =>    W[48, 32, 3, 3], b[48] -> Conv
Reshape [0, 0, 12, 32]            =>    Reshape [0, 0, 9, 32]         (Split, Slice, Expand and Resize alike)
Conv, group 64                    =>    Conv, group 48
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.channels import Channels
from hasten.graph.layouts import slice_bounds
from hasten.graph.positions import Ids


def cut(model: ir.Model, channels: Channels, removed: Collection[int]) -> ir.Model:
    """A copy of ``model`` without the units ``removed``; inputs and outputs keep their shapes.

    What remains computes what ``model`` does when every reader's weights for those units are zero.
    """
    copy = model.clone()
    graph = copy.graph
    saw = _Saw(channels, np.array(sorted(removed), np.int64), graph, edit.names(copy))
    shrunk = [(node, EDITS[node.op_type]) for node in graph if node.domain == "" and node.op_type in EDITS]
    for node, shrink in shrunk:
        shrink(node, saw)
    for value in [*graph.initializers.values(), *(n.outputs[0] for n in graph if n.op_type == "Constant")]:
        saw.shorten(value)
    for value in (o for node in graph for o in node.outputs if not o.is_graph_output()):
        if value.shape is not None and any(saw.kept(value, i) is not None for i in range(len(value.shape))):
            value.shape = None
    edit.prune(copy)
    edit.infer(copy)
    return copy


@dataclass(frozen=True)
class _Saw:
    channels: Channels
    removed: Ids
    graph: ir.Graph
    taken: set[str]

    def kept(self, value: ir.Value | None, axis: int) -> Ids | None:
        if value is None or not value.name or axis >= len(self.channels.units.get(value.name, ())):
            return None
        return self.channels.kept(value.name, axis, self.removed)

    def shorten(self, value: ir.Value) -> None:
        array = walk.constant(value)
        if array is None:
            return
        shorter = array
        for axis in range(array.ndim):
            positions = self.kept(value, axis)
            if positions is not None:
                shorter = shorter.take(positions, axis)
        if shorter is not array:
            value.replace_all_uses_with(self.constant(f"{value.name}/cut", shorter))

    def constant(self, name: str, array: walk.Array) -> ir.Value:
        return edit.add_constant(self.graph, edit.fresh(self.taken, name), array)

    def numbers(self, node: ir.Node, index: int, values: list[int]) -> None:
        """Give ``node`` other integers at an input."""
        old = node.inputs[index] if len(node.inputs) > index else None
        name = f"{(old.name if old is not None else None) or node.outputs[0].name}/cut"
        new = self.constant(name, np.array(values, np.int64))
        if len(node.inputs) <= index:
            node.resize_inputs(index + 1)
        node.replace_input_with(index, new)


def _conv(node: ir.Node, saw: _Saw) -> None:
    groups, kept = walk.attribute(node, "group", 1), saw.kept(node.inputs[0], 1)
    if groups > 1 and kept is not None and node.inputs[0] is not None and node.inputs[0].name is not None:
        channels = saw.channels.units[node.inputs[0].name][1]
        assert channels is not None
        node.attributes.add(ir.AttrInt64("group", len(kept) // (len(channels) // groups)))


def _sized(index: int) -> Callable[[ir.Node, _Saw], None]:
    """Reshape, Expand and Resize: an input that spells out sizes of the output."""

    def shrink(node: ir.Node, saw: _Saw) -> None:
        array = walk.constant(node.inputs[index]) if len(node.inputs) > index else None
        if array is None:
            return
        sizes, output = [int(v) for v in array.reshape(-1)], node.outputs[0]
        kept = [saw.kept(output, i) for i in range(len(sizes))]
        if any(k is not None and sizes[i] > 0 for i, k in enumerate(kept)):
            new = [size if k is None or size <= 0 else len(k) for size, k in zip(sizes, kept, strict=True)]
            saw.numbers(node, index, new)

    return shrink


def _split(node: ir.Node, saw: _Saw) -> None:
    x = node.inputs[0]
    if x is None or x.name is None or x.name not in saw.channels.units:
        return
    axis = walk.attribute(node, "axis", 0) % len(saw.channels.units[x.name])
    if saw.kept(x, axis) is None:
        return
    sizes = []
    for output in node.outputs:
        ids, kept = saw.channels.units[output.name or ""][axis], saw.kept(output, axis)
        assert ids is not None
        sizes.append(len(ids if kept is None else kept))
    node.attributes.pop("num_outputs", None)
    if "split" in node.attributes:
        node.attributes.add(ir.AttrInt64s("split", sizes))
    else:
        saw.numbers(node, 1, sizes)


def _slice(node: ir.Node, saw: _Saw) -> None:
    bounds, x = slice_bounds(node), node.inputs[0]
    if bounds is None or x is None or x.name is None or x.name not in saw.channels.units:
        return
    axes = saw.channels.units[x.name]
    new, changed = {}, False
    for axis, (start, end, _) in bounds.items():
        ids, kept = axes[axis], saw.kept(x, axis % len(axes))
        if kept is None or ids is None:
            new[axis] = (start, end)
            continue
        low, high, _ = slice(start, end).indices(len(ids))
        new[axis] = (int((kept < low).sum()), int((kept < high).sum()))
        changed = True
    if not changed:
        return
    starts, ends = (list(side) for side in zip(*new.values(), strict=True))
    if len(node.inputs) < 2:
        node.attributes.add(ir.AttrInt64s("starts", starts))
        node.attributes.add(ir.AttrInt64s("ends", ends))
    else:
        saw.numbers(node, 1, starts)
        saw.numbers(node, 2, ends)


EDITS: dict[str, Callable[[ir.Node, _Saw], None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Reshape": _sized(1),
    "Expand": _sized(1),
    "Resize": _sized(3),
    "Split": _split,
    "Slice": _slice,
}
