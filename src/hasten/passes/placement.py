"""Where the rounding goes: which tensors become eight bits wide for an engine, and who reads them so.

onnxruntime   x -Q-DQ-> Conv -> Relu -Q-DQ-> ...   its fusions want a Q behind every operator that shall run in
                                                   eight bits, and every reader behind a DQ
litert        see litert.py
openvino      x -Q-DQ-> Conv -> Relu -> Q ...      only in front of operators; it fuses what follows by itself. What
                                                   only depthwise convolutions read has a scale for each channel: they
                                                   keep channels apart, so it folds into the scales of their outputs.
                                                   Products of two computed tensors take zero points of 0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.prologue import in_prologue, scales_columns
from hasten.passes import patterns
from hasten.passes.attention import is_product, products

Use = tuple[ir.Node, int]


@dataclass
class Placement:
    """``linear`` get integer weights. ``reads`` says for each rounded tensor which uses see it rounded.

    ``ties`` are pairs of tensors that must share one scale. ``by_channel`` get a scale for each channel (axis 1),
    ``symmetric`` a zero point of 0. ``constants`` are operands of integer additions and products, ``hardswish`` the
    nodes that become a clamp of codes and an integer product. ``fixed`` have a scale and a zero point that the engine's
    kernel gives them.
    """

    linear: list[ir.Node] = field(default_factory=list)
    reads: dict[ir.Value, list[Use]] = field(default_factory=dict)
    ties: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)
    constants: list[Use] = field(default_factory=list)
    hardswish: list[ir.Node] = field(default_factory=list)
    fixed: dict[ir.Value, tuple[float, int]] = field(default_factory=dict)
    by_channel: set[ir.Value] = field(default_factory=set)
    symmetric: set[ir.Value] = field(default_factory=set)

    def read(self, value: ir.Value, uses: Iterable[Use]) -> None:
        have = self.reads.setdefault(value, [])
        have.extend(use for use in uses if use not in have)

    def needs(self) -> tuple[list[str], list[str]]:
        """Names of the tensors whose statistics are needed, and of those whose channels are."""
        channels = {v.name for n in self.linear if (v := n.inputs[0]) is not None and v.name}
        channels |= {v.name for v in self.by_channel if v.name}
        return sorted({v.name for v in self.reads if v.name} | channels), sorted(channels)

    def groups(self) -> list[list[ir.Value]]:
        """The rounded tensors, those that share a scale together."""
        parent = {v: v for v in self.reads}

        def root(v: ir.Value) -> ir.Value:
            while parent[v] is not v:
                v = parent[v]
            return v

        for a, b in self.ties:
            if a in parent and b in parent:
                parent[root(a)] = root(b)
        found: dict[ir.Value, list[ir.Value]] = {}
        for v in self.reads:
            found.setdefault(root(v), []).append(v)
        return list(found.values())


def place(
    model: ir.Model, scheme: str, wanted: Callable[[ir.Node], bool], chain: bool, attention: bool = False
) -> Placement:
    """The placement for an engine.

    ``wanted`` picks the linear nodes; ``chain`` lets the operators between them run in eight bits too, and, on
    OpenVINO, ``attention`` products of two computed tensors.
    """
    gates = patterns.gates(model)
    usable = [
        n for n in model.graph if n not in gates.inner and walk.weight(n) and walk.is_float(n.inputs[0]) and wanted(n)
    ]
    if scheme == "onnxruntime":
        linear = [n for n in usable if n.op_type != "ConvTranspose"]  # it has no eight-bit kernel for that
        return _onnxruntime(model, linear, gates, chain)
    if scheme == "litert":
        from hasten.passes import litert

        return litert.place(model, usable, gates, chain)
    plan = _openvino(model, usable, gates.outputs, chain)
    if attention:
        _multiply(plan, model, chain)
    plan.by_channel = {v for v, uses in plan.reads.items() if all(walk.depthwise(n) and i == 0 for n, i in uses)}
    return plan


def _clamped(value: ir.Value) -> ir.Value:
    """The tensor behind a Relu or Clip when that is the value's only reader: rounding there makes it redundant."""
    after = walk.only_consumer(value)
    if after is None or after.op_type not in patterns.CLAMPS or after.inputs[0] is not value:
        return value
    if after.op_type == "Clip" and any(v is not None and walk.constant(v) is None for v in after.inputs[1:]):
        return value
    return after.outputs[0]


def _onnxruntime(model: ir.Model, linear: list[ir.Node], gates: patterns.Gates, chain: bool) -> Placement:
    anchors, plan = set(linear), Placement(linear=linear)
    possible = {n.inputs[0] for n in linear if n.inputs[0] is not None} | gates.outputs
    possible |= {_clamped(n.outputs[0]) for n in linear if n.op_type == "Conv"}  # a product's output may stay in float
    candidates: list[ir.Node] = []
    for node in model.graph if chain else ():
        if node not in anchors and _has_kernel(node, possible):
            candidates.append(node)
            possible.update(_clamped(o) for o in node.outputs)
    kept: set[ir.Node] = set()
    for node in reversed(candidates):
        if node in gates.pools or any(_reader_wants(_clamped(o), anchors, kept) for o in node.outputs):
            kept.add(node)
    integer = anchors | kept
    for node in model.graph:
        if node in anchors:
            _read_all(plan, node.inputs[0], integer)
            out = _clamped(node.outputs[0])
            if node.op_type == "Conv" or _reader_wants(out, anchors, kept):
                _read_all(plan, out, integer)
        elif node in kept:
            _keep(plan, node, integer)
    return plan


def _has_kernel(node: ir.Node, possible: set[ir.Value]) -> bool:
    """Can ONNX Runtime run the node on bytes, its computed inputs being ``possible`` as bytes?"""
    kind, inputs = node.op_type, [v for _, v in patterns.computed(node)]
    if node.domain != "" or not inputs or not all(v in possible for v in inputs) or scales_columns(node):
        return False
    if kind == "HardSwish":  # its input takes a range of its own, so nothing else may read or share it
        before = inputs[0].producer()
        return before is not None and before.op_type in _OWN_RANGE and walk.only_consumer(inputs[0]) is node
    if kind == "Resize":
        return walk.attribute(node, "mode", "nearest") in ("nearest", "linear")
    return kind in patterns.ORT_SHAPING | patterns.ORT_KERNELS


_OWN_RANGE = frozenset({*walk.LINEAR, "Add", "Mul"})


def _keep(plan: Placement, node: ir.Node, integer: set[ir.Node]) -> None:
    """Round what the node reads and writes."""
    for _, value in patterns.computed(node):
        _read_all(plan, value, integer)
    for output in node.outputs:
        _read_all(plan, _clamped(output), integer)
    if node.op_type in patterns.ORT_SHAPING:
        first = node.inputs[0]
        assert first is not None
        plan.ties.extend((first, _clamped(output)) for output in node.outputs)
    elif node.op_type == "HardSwish":
        plan.hardswish.append(node)
    else:
        plan.constants.extend(
            (node, i) for i, v in enumerate(node.inputs) if walk.is_float(v) and walk.constant(v) is not None
        )


def _reader_wants(value: ir.Value, anchors: set[ir.Node], kept: set[ir.Node]) -> bool:
    return any((node in anchors and index == 0) or node in kept for node, index in walk.consumers(value))


def _read_all(plan: Placement, value: ir.Value | None, integer: set[ir.Node]) -> None:
    if value is not None and walk.is_float(value) and not value.is_graph_output():
        plan.read(value, rounded_uses(value, integer))


def rounded_uses(value: ir.Value, integer: set[ir.Node]) -> list[Use]:
    """Who reads the value rounded: all; of an input, only what runs on integers, as others may standardise it."""
    uses = walk.consumers(value)
    return [use for use in uses if use[0] in integer] if in_prologue(value) else uses


def _openvino(model: ir.Model, linear: list[ir.Node], gated: frozenset[ir.Value], chain: bool) -> Placement:
    anchors, plan = set(linear), Placement(linear=linear)
    for node in linear:
        _read_above(plan, node, 0, chain)
    if not chain:
        return plan
    useful = _leads_to(model, anchors)
    for node in model.graph:
        if node.op_type not in patterns.OPENVINO_KERNELS or node.domain != "" or node not in useful:
            continue
        inputs = patterns.computed(node)
        if node.op_type in ("Add", "Mul") and (len(inputs) < 2 or not _residual(node, plan, anchors, gated)):
            continue
        for index, _ in inputs:
            _read_above(plan, node, index, chain)
    return plan


def _multiply(plan: Placement, model: ir.Model, chain: bool) -> None:
    """Round what products of two computed tensors read."""
    rounded = set(plan.reads)
    for node in products(model, set(plan.linear)):
        both = {_read_above(plan, node, index, chain) for index, _ in patterns.computed(node)}
        plan.symmetric |= both - rounded


def _residual(node: ir.Node, plan: Placement, anchors: set[ir.Node], gated: frozenset[ir.Value]) -> bool:
    """True when an operand is rounded already or comes straight from an integer operator."""
    values = [v for _, v in patterns.computed(node)]
    return any(v in plan.reads or v.producer() in anchors or v in gated for v in values)


def _leads_to(model: ir.Model, anchors: set[ir.Node]) -> set[ir.Node]:
    """Nodes in front of an anchor, through operators that OpenVINO keeps in eight bits."""
    through = patterns.SHAPING | patterns.OPENVINO_KERNELS | patterns.CLAMPS
    found: set[ir.Node] = set()
    for node in reversed(list(model.graph)):
        readers = [reader for o in node.outputs for reader, _ in walk.consumers(o)]
        if any(r in anchors or (r in found and r.op_type in through) for r in readers):
            found.add(node)
    return found


def _read_above(plan: Placement, node: ir.Node, index: int, chain: bool) -> ir.Value:
    """Round the operand; where it only went through shaping operators, round before them, so they move bytes.

    Not what attention gives: OpenVINO makes one kernel of it and the transposition behind it, but not with a rounding
    in between.
    """
    value = node.inputs[index]
    assert value is not None
    above = _above(node, index) if chain else (node, index)
    first = above[0].inputs[above[1]]
    assert first is not None
    if not is_product(first.producer()):
        (node, index), value = above, first
    plan.read(value, [(node, index)])
    return value


def _above(node: ir.Node, index: int) -> Use:
    """Where the operand is read first, ahead of shaping operators that nobody else reads."""
    value = node.inputs[index]
    before = value.producer() if value is not None else None
    if value is None or before is None or before.op_type not in patterns.SHAPING:
        return node, index
    lone = walk.only_consumer(value) is node and walk.is_float(before.inputs[0])
    return _above(before, 0) if lone else (node, index)
