"""Eight-bit weights alone: activations stay in float, or are rounded as they come by engines that can.

x -> Conv(W, b) -> y      =>      x -> Conv(DQ(W8), b) -> y

LiteRT reads this as its dynamic (hybrid) int8: it finds the range of each activation at run time and multiplies
integers. No calibration data is needed. Other engines compute in float and save only the space.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.model import Model
from hasten.passes import patterns
from hasten.protocols import Context, NotApplicable
from hasten.quant import grid

OPERATORS = ("Conv", "MatMul", "Gemm")
SINCE = 13  # per-channel DequantizeLinear


@dataclass(frozen=True)
class QuantizeHybrid:
    """Weights of Conv, MatMul and Gemm to int8, one scale an output channel, symmetric.

    ``least`` is the number of elements from which a weight is worth it. ``depthwise="float"`` leaves depthwise
    convolutions out; ``exclude`` holds node names or operator types, ``*`` allowed.

    Raises:
        NotApplicable: the network is quantized already, older than operator set 13, or has no such weight.
        UsageError: an operator type is none of those above.
    """

    operators: tuple[str, ...] = OPERATORS
    exclude: tuple[str, ...] = ()
    least: int = 1024
    depthwise: str = "float"

    def __post_init__(self) -> None:
        object.__setattr__(self, "operators", tuple(self.operators))  # a recipe read from JSON brings lists
        object.__setattr__(self, "exclude", tuple(self.exclude))
        for name in self.operators:
            if name not in OPERATORS:
                raise UsageError(f"quantize_hybrid has no operator {name!r}", help=did_you_mean(name, OPERATORS))
        if self.depthwise not in ("int8", "float"):
            raise UsageError(f"quantize_hybrid has no depthwise {self.depthwise!r}", help="write int8 or float")

    def __call__(self, model: Model, context: Context) -> Model:
        found = patterns.quantized_already(model.graph)
        if found:
            raise NotApplicable(f"the network is quantized already: {found}")
        if walk.opset(model.graph) < SINCE:
            raise NotApplicable(
                f"operator set {walk.opset(model.graph)} has no per-channel DequantizeLinear; {SINCE} has"
            )
        graph = model.clone_graph()
        chosen = [n for n in graph.graph if self._takes(n)]
        if not chosen:
            raise NotApplicable(f"no {' or '.join(self.operators)} has {self.least} constant float32 weights or more")
        taken, written = edit.names(graph), dict[tuple[ir.Value, int], ir.Value]()
        for node in chosen:
            weight = walk.weight(node)
            assert weight is not None
            key = weight.value, weight.axis
            if key not in written:
                written[key] = _stored(graph, *key, taken)
            node.replace_input_with(weight.index, written[key])
        edit.prune(graph)  # the float weights
        return model.with_graph(graph, repr(self))

    def _takes(self, node: ir.Node) -> bool:
        weight = walk.weight(node) if node.op_type in self.operators else None
        array = walk.constant(weight.value) if weight is not None else None
        if array is None or array.size < self.least or (self.depthwise == "float" and walk.depthwise(node)):
            return False
        return not any(fnmatchcase(name, p) for name in (walk.label(node), node.op_type) for p in self.exclude)


def _stored(graph: ir.Model, value: ir.Value, axis: int, taken: set[str]) -> ir.Value:
    """int8 codes behind a DequantizeLinear at the start of the graph."""
    array = walk.constant(value)
    assert array is not None
    others = tuple(i for i in range(array.ndim) if i != axis)
    scale, zero = grid.symmetric(np.abs(array).max(axis=others), grid.S8)
    codes = grid.quantize(array, scale, zero, grid.S8, axis)
    parts = (("int8", codes), ("scale", scale), ("zero", zero))
    stored = [edit.add_constant(graph.graph, edit.fresh(taken, f"{value.name}/{n}"), a) for n, a in parts]
    name = edit.fresh(taken, f"{value.name}/rounded")
    made = edit.add_node(graph.graph[0], "DequantizeLinear", stored, name, {"axis": axis})
    made.shape, made.type = value.shape, value.type
    return made
