"""Sums, means, extremes and their places; running sums."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import Call, Translate


def reduce(op_type: str, call: Call) -> ir.Value:
    axes = _axes(call)
    kept = int(bool(call.option("keepDims", False)))
    if not axes:
        return call.emit("Identity", call.real(0))
    return call.emit(op_type, call.real(0), call.fixed(np.array(axes)), keepdims=kept)


def _axes(call: Call) -> list[int]:
    return sorted({call.within(a, call.rank()) for a in call.ints(1)})


def reduce_flags(op_type: str, call: Call) -> ir.Value:
    """Any and all of booleans: the largest and the smallest of 0 and 1."""
    axes = _axes(call)
    numbers = call.emit("Cast", call.code(0), to=ir.DataType.INT32.value)
    kept = int(bool(call.option("keepDims", False)))
    found = call.emit(op_type, numbers, call.fixed(np.array(axes)), keepdims=kept)
    return call.emit("Cast", found, to=ir.DataType.BOOL.value)


def place(op_type: str, call: Call) -> ir.Value:
    """The first of several equal ones."""
    return call.as_declared(call.emit(op_type, call.real(0), axis=call.axis(1, call.rank()), keepdims=0))


def top_k(call: Call) -> list[ir.Value]:
    """Along the last axis, the largest first."""
    count = call.shaped(1, [1], index=True)
    values, places = call.emit_many("TopK", call.real(0), count, outputs=2, axis=-1)
    return [values, call.as_declared(places, 1)]


def cumsum(call: Call) -> ir.Value:
    axis = call.fixed(np.array(call.axis(1, call.rank())))
    flags = {name: int(bool(call.option(name, False))) for name in ("exclusive", "reverse")}
    return call.emit("CumSum", call.real(0), axis, **flags)


TABLE: dict[str, Translate] = {
    "ARG_MAX": partial(place, "ArgMax"),
    "ARG_MIN": partial(place, "ArgMin"),
    "CUMSUM": cumsum,
    "MEAN": partial(reduce, "ReduceMean"),
    "REDUCE_ALL": partial(reduce_flags, "ReduceMin"),
    "REDUCE_ANY": partial(reduce_flags, "ReduceMax"),
    "REDUCE_MAX": partial(reduce, "ReduceMax"),
    "REDUCE_MIN": partial(reduce, "ReduceMin"),
    "REDUCE_PROD": partial(reduce, "ReduceProd"),
    "SUM": partial(reduce, "ReduceSum"),
    "TOPK_V2": top_k,
}
