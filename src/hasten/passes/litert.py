"""Where the rounding goes for LiteRT, whose int8 operators read int8 and write int8.

x -Q-DQ-> Conv -> Relu -Q-DQ-> Add -Q-DQ-> AveragePool -Q-DQ-> Gemm -Q-DQ-> y

Every linear operator writes int8, the last one too, so what reads it gets a tensor that is rounded already: whatever
LiteRT has an int8 kernel for follows. Operators that only move or pick numbers share one scale with their input.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.prologue import scales_columns
from hasten.passes import patterns
from hasten.passes.placement import Placement, rounded_uses
from hasten.passes.placement import _clamped as clamped

# Its kernels give the output the input's scale and zero point.
SAME_GRID = patterns.SHAPING | {"AveragePool", "Pad", "Resize"}
KERNELS = frozenset({"Add", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "ReduceMean", "Sub"})
# (scale, zero point of uint8) that the kernel gives its output
FIXED = {"Sigmoid": (1 / 256, 0), "Tanh": (1 / 128, 128)}
SMALLER = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"})


def place(model: ir.Model, usable: Sequence[ir.Node], gates: patterns.Gates, chain: bool) -> Placement:
    """The placement for LiteRT; ``usable`` are the linear nodes that may become integers."""
    linear = [n for n in usable if n.op_type != "ConvTranspose" or walk.attribute(n, "group", 1) == 1]
    anchors, plan = set(linear), Placement(linear=linear)
    possible = {n.inputs[0] for n in linear} | {clamped(n.outputs[0]) for n in linear} | gates.outputs
    candidates: list[ir.Node] = []
    for node in model.graph if chain else ():
        if node not in anchors and node not in gates.inner and _has_kernel(node, possible):
            candidates.append(node)
            possible.update(clamped(o) for o in node.outputs)
    kept: set[ir.Node] = set()
    for node in reversed(candidates):
        readers = [r for o in node.outputs for r, _ in walk.consumers(clamped(o))]
        if node.op_type in SMALLER or node in gates.pools or any(r in anchors or r in kept for r in readers):
            kept.add(node)
    integer = anchors | kept
    for node in model.graph:
        if node in anchors:
            _read(plan, node.inputs[0], integer)
            _read(plan, clamped(node.outputs[0]), integer)
        elif node in kept:
            _keep(plan, node, integer)
    return plan


def _has_kernel(node: ir.Node, possible: set[ir.Value | None]) -> bool:
    inputs = [v for _, v in patterns.computed(node)]
    if node.domain != "" or not inputs or any(v not in possible for v in inputs) or scales_columns(node):
        return False
    kind = node.op_type
    if kind == "AveragePool":  # only padding that does not count, which is how it was exported if there is none
        return not any(walk.attribute(node, "pads", [0])) and not walk.attribute(node, "ceil_mode", 0)
    if kind == "Pad":
        return walk.attribute(node, "mode", "constant") in ("constant", "reflect")
    if kind == "Resize":
        return walk.attribute(node, "mode", "nearest") in ("nearest", "linear")
    return kind in SAME_GRID | KERNELS | FIXED.keys()


def _keep(plan: Placement, node: ir.Node, integer: set[ir.Node]) -> None:
    """Round what the node reads and writes; what the kernel ties together gets one scale."""
    for _, value in patterns.computed(node):
        _read(plan, value, integer)
    for output in node.outputs:
        _read(plan, clamped(output), integer)
        if node.op_type in FIXED:
            plan.fixed[clamped(output)] = FIXED[node.op_type]
    tied = node.op_type in SAME_GRID
    if tied or node.op_type == "Concat":
        plan.ties.extend(
            (v, clamped(o)) for _, v in patterns.computed(node)[: 1 if tied else None] for o in node.outputs
        )
    plan.constants.extend(
        (node, i) for i, v in enumerate(node.inputs) if not tied and walk.is_float(v) and walk.constant(v) is not None
    )


def _read(plan: Placement, value: ir.Value | None, integer: set[ir.Node]) -> None:
    if value is not None and walk.is_float(value):
        plan.read(value, rounded_uses(value, integer))
