"""Matrix products and look-ups in tables."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import DAMAGED, Call, Translate
from hasten.frontends.tflite_file import number_type


def fully_connected(call: Call) -> ir.Value:
    """x [..., in] times weights [out, in], plus a bias; unless it keeps its axes, x becomes a matrix first."""
    x, (rank, w) = call.real(0), (call.rank(), call.tensor(1).shape)
    if call.option("weightsFormat", 0) != 0:
        raise call.refuse("its weights are shuffled for one kind of processor")
    if len(w) != 2:
        raise call.refuse(f"its weights have the shape {list(w)}", DAMAGED)
    kept = bool(call.option("keepNumDims", False)) and len(call.out().shape) == rank
    if (not kept and rank != 2) or call.tensor(0).shape[-1:] != w[1:]:
        x, rank = call.emit("Reshape", x, call.fixed(np.array([-1, w[1]]))), 2
    if rank == 2:
        y = call.emit("Gemm", x, call.weights(1), *([call.real(2)] if call.given(2) else []), transB=1)
    else:
        y = call.emit("MatMul", x, call.weights(1, (1, 0)))
        y = call.emit("Add", y, call.real(2)) if call.given(2) else y
    return call.activated(y)


def batch_matmul(call: Call) -> ir.Value:
    inputs = []
    for k, name in ((0, "adjX"), (1, "adjY")):
        order = list(range(call.rank(k)))
        order[-2:] = order[:-3:-1]
        inputs.append(call.weights(k, order if call.option(name, False) else None))
    return call.emit("MatMul", *inputs)


def embedding_lookup(call: Call) -> ir.Value:
    """Inputs: which rows, and the table."""
    return call.emit("Gather", call.real(1), call.code(0), axis=0)


def gather(call: Call) -> ir.Value:
    """``batchDims`` leading axes are shared by both; then each index is looked up in its own part of the table."""
    rank, shared = call.rank(), int(call.option("batchDims", 0))
    axis = call.within(int(call.option("axis", 0)), rank)
    shared += call.rank(1) if shared < 0 else 0
    if shared == 0:
        return call.emit("Gather", call.real(0), call.code(1), axis=axis)
    if axis != shared or shared >= call.rank(1) + 1:
        raise call.refuse(f"it shares {shared} axes and gathers along axis {axis}")
    indices = call.emit("Unsqueeze", call.index(1), call.fixed(np.array([-1])))
    return call.emit("GatherND", call.real(0), indices, batch_dims=shared)


def gather_nd(call: Call) -> ir.Value:
    return call.emit("GatherND", call.real(0), call.index(1))


def scatter_nd(call: Call) -> ir.Value:
    """Inputs: where, what, and the shape of the zeros that it is added to."""
    zero = ir.tensor(np.zeros(1, number_type(call.out().dtype)))
    zeros = call.emit("ConstantOfShape", call.index(2), value=zero)
    return call.emit("ScatterND", zeros, call.index(0), call.real(1), reduction="add")


def one_hot(call: Call) -> ir.Value:
    """Inputs: places, how many, the number there and the number elsewhere. A negative place is none."""
    depth, axis = call.shaped(1, [1], index=True), int(call.option("axis", -1))
    if all(call.tensor(k).data is not None for k in (2, 3)):
        ends = call.fixed(np.concatenate([call.known(k).reshape(1) for k in (3, 2)]))
    else:
        ends = call.emit("Concat", call.shaped(3, [1]), call.shaped(2, [1]), axis=0)
    below = call.emit("Less", call.index(0), call.fixed(np.int64(0)))
    places = call.emit("Where", below, call.shaped(1, [], index=True), call.index(0))
    return call.emit("OneHot", places, depth, ends, axis=axis)


TABLE: dict[str, Translate] = {
    "BATCH_MATMUL": batch_matmul,
    "EMBEDDING_LOOKUP": embedding_lookup,
    "FULLY_CONNECTED": fully_connected,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "ONE_HOT": one_hot,
    "SCATTER_ND": scatter_nd,
}
