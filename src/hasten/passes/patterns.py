"""What each engine can keep in eight bits, and the shapes of graph that should stay in float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from hasten.graph import walk

# Values pass through unchanged or are picked from, so input and output share one scale.
SHAPING = frozenset(
    {
        "DepthToSpace", "Expand", "Flatten", "GlobalMaxPool", "MaxPool", "ReduceMax", "Reshape", "Slice", "Split",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# ONNX Runtime has an eight-bit kernel that rescales on the way.
ORT_KERNELS = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"})
# Operators of ONNX Runtime that pick or mix neighbours within the tensor's range; OpenVINO loses the eight bits behind
# Tile and GatherElements. tests/test_coverage.py asks both engines.
ORT_SHAPING = (SHAPING - {"GlobalMaxPool"}) | {"Gather", "GatherElements", "Resize", "Tile"}
# OpenVINO moves the dequantization past these, or has eight-bit kernels for them.
OPENVINO_KERNELS = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul", "ReduceMean", "Resize"})
# Ends up inside the rounding of the tensor behind it: both clamp.
CLAMPS = frozenset({"Relu", "Clip"})
GATES = frozenset({"Sigmoid", "HardSigmoid"})
POOLS = frozenset({"GlobalAveragePool", "ReduceMean"})
MOST_IN_GATE = 13  # nodes, the sigmoid and the pool among them

_INTEGER = ("QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "MatMulNBits", "GatherBlockQuantized")


def quantized_already(model: ir.Model) -> str:
    """The first node that shows that the network is quantized, as ``"DequantizeLinear 'name'"``; empty when none is."""
    for graph in model.graphs():
        for node in graph:
            if node.op_type in _INTEGER or node.op_type.startswith(
                ("QLinear", "DynamicQuantize", "QGemm", "QAttention")
            ):
                return f"{node.op_type} {walk.label(node)!r}"
    return ""


def computed(node: ir.Node) -> list[tuple[int, ir.Value]]:
    """(index, value) of the float inputs that are not constants."""
    return [
        (i, v) for i, v in enumerate(node.inputs) if v is not None and walk.is_float(v) and walk.constant(v) is None
    ]


@dataclass(frozen=True)
class Gates:
    """Squeeze-and-excite blocks: x * sigmoid(linear(act(linear(pool(x))))).

    ``inner`` are the nodes between pool and Mul; they work on one number per channel, so they cost nothing, and
    their rounding would scale whole channels. ``outputs`` are what x is multiplied with, ``pools`` where it starts.
    """

    inner: frozenset[ir.Node]
    outputs: frozenset[ir.Value]
    pools: frozenset[ir.Node]


def gates(model: ir.Model) -> Gates:
    """Every squeeze-and-excite block of the main graph."""
    inner: set[ir.Node] = set()
    outputs: set[ir.Value] = set()
    pools: set[ir.Node] = set()
    for node in model.graph:
        for value in node.inputs if node.op_type == "Mul" and node.domain == "" else ():
            branch = _gate_branch(value)
            if branch and value is not None:
                inner.update(branch[:-1])
                outputs.add(value)
                pools.add(branch[-1])
    return Gates(frozenset(inner), frozenset(outputs), frozenset(pools))


def _gate_branch(value: ir.Value | None) -> list[ir.Node]:
    """The nodes from the gate's sigmoid back to its pool, that included; empty when it is no gate."""
    branch, linears = list[ir.Node](), 0
    for node in straight(value, MOST_IN_GATE):
        if not branch and node.op_type not in GATES:
            return []
        branch.append(node)
        if node.op_type in POOLS:
            return branch if linears else []
        linears += node.op_type in walk.LINEAR
    return []


def straight(value: ir.Value | None, most: int) -> Iterator[ir.Node]:
    """Up to ``most`` nodes that a tensor comes through, last first, as long as each computes from one tensor alone."""
    for _ in range(most):
        node = value.producer() if value is not None else None
        if node is None:
            return
        yield node
        inputs = computed(node)
        if len(inputs) != 1:
            return
        value = inputs[0][1]


def in_bodies(model: ir.Model) -> int:
    """How many linear nodes lie inside If and Loop bodies, out of reach of the passes."""
    inside = [g for g in model.graphs() if g is not model.graph]
    return sum(node.op_type in walk.LINEAR for g in inside for node in g)
