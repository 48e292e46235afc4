"""Bias correction for what rounding the weights adds to an output on average.

With W the float weights, V their rounded values and x the input, the mean error of an output is (V - W) E[x]; taking it
off the bias costs nothing at run time (Nagel et al. 2019, section 4.2, with means from the calibrate split).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.graph import edit, walk

F64 = NDArray[np.float64]


def mean_shift(node: ir.Node, error: walk.Array, mean: F64) -> F64 | None:
    """(V - W) E[x] for each output channel of a Conv, MatMul or Gemm; None where channels do not line up.

    ``error`` is V - W in the weight's layout, ``mean`` holds E[x] for each input channel. At the borders of a padded
    convolution the true mean is a little smaller.
    """
    plain = walk.attribute(node, "alpha", 1.0) == 1.0 and not walk.attribute(node, "transA", 0)
    if node.op_type == "Conv":
        groups = walk.attribute(node, "group", 1)
        summed = error.reshape(*error.shape[:2], -1).sum(axis=2, dtype=np.float64)
        if mean.size != groups * summed.shape[1]:
            return None
        by_group = summed.reshape(groups, -1, summed.shape[1])
        return np.asarray(np.einsum("goi,gi->go", by_group, mean.reshape(groups, -1)).reshape(-1))
    if node.op_type not in ("MatMul", "Gemm") or error.ndim != 2 or not plain:
        return None
    rows = error.T if walk.attribute(node, "transB", 0) else error
    return np.asarray(mean @ rows.astype(np.float64)) if mean.size == rows.shape[0] else None


def take_off(model: ir.Model, node: ir.Node, shift: F64, taken: set[str]) -> None:
    """Subtract ``shift`` from a bias, in place: the node's own, a new one, or that of the Add behind a MatMul."""
    if node.op_type in ("Conv", "Gemm"):
        holder, index = node, 2
    else:
        after = walk.only_consumer(node.outputs[0])
        found = walk.operands(after) if after is not None and after.op_type == "Add" else None
        if after is None or found is None:
            return
        holder, index = after, list(after.inputs).index(found[1])
    old = walk.constant(holder.inputs[index]) if len(holder.inputs) > index else None
    present = len(holder.inputs) > index and holder.inputs[index] is not None
    if present and (old is None or old.size != shift.size or walk.attribute(node, "beta", 1.0) != 1.0):
        return
    fresh = (-shift if old is None else old.reshape(-1) - shift).astype(np.float32)
    shape = fresh.shape if old is None else old.shape
    name = edit.fresh(taken, f"{node.outputs[0].name}/bias")
    value = edit.add_constant(model.graph, name, fresh.reshape(shape))
    if len(holder.inputs) <= index:
        holder.resize_inputs(index + 1)
    holder.replace_input_with(index, value)
