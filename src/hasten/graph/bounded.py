"""Values that are never infinite, whatever the inputs are: what a Tanh gives out, and sums and products of that.

NaN counts as well: it stays NaN in every order of computing. Infinity does not: inf - inf is NaN.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import walk

ALWAYS = frozenset({"Tanh", "Sigmoid", "HardSigmoid", "Softmax", "Hardmax", "Erf", "Sin", "Cos", "Softsign", "OneHot"})
KEEPS = frozenset(
    {
        "Relu", "LeakyRelu", "Neg", "Abs", "Identity", "Dropout", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
        "Flatten", "Slice", "Gather", "Expand", "Split", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool",
        "GlobalMaxPool", "ReduceMean", "ReduceMax", "Add", "Sub", "Mul", "MatMul", "Gemm", "Conv", "ConvTranspose",
        "HardSwish", "Gelu", "Elu", "Max", "Min", "Floor", "Ceil", "Round", "Tile", "DepthToSpace", "SpaceToDepth",
        "BatchNormalization", "LayerNormalization", "Softplus", "Where",
    }
)  # fmt: skip
MOST, DEEP = 1e6, 24  # of a constant; nodes upwards


def never_infinite(value: ir.Value | None, depth: int = 0) -> bool:
    """True when no input makes it infinite; constants far from the ends of float32 among them."""
    if value is None:
        return True
    array = walk.constant(value)
    if array is not None:
        return array.dtype.kind not in "f" or bool((np.abs(array) < MOST).all())
    if value.dtype is not None and not value.dtype.is_floating_point():
        return True
    node = value.producer()
    if node is None or node.domain != "" or depth > DEEP:
        return False
    if node.op_type in ALWAYS:
        return True
    if node.op_type == "Clip":
        ends = [walk.scalar(node.inputs[k]) if len(node.inputs) > k else None for k in (1, 2)]
        return None not in ends and all(abs(end) < MOST for end in ends if end is not None)
    if node.op_type == "Cast":
        source = node.inputs[0]
        kind = source.dtype if source is not None else None
        return kind is not None and not kind.is_floating_point()
    return node.op_type in KEEPS and all(never_infinite(v, depth + 1) for v in node.inputs)
