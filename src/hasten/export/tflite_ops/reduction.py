"""Sums, means, extremes and their places; running sums."""

from __future__ import annotations

from functools import partial

import numpy as np

from hasten.export.tflite_ops.rules import Table
from hasten.export.tflite_step import Rule, Step
from hasten.graph import walk


def reduce(kind: str, s: Step) -> None:
    axes = s.ints(1) if s.given(1) else [] if s.attr("noop_with_empty_axes", 0) else list(range(len(s.dims())))
    if not axes:
        s.alias()
        return
    places = sorted(a % len(s.dims()) for a in axes)
    s.emit(kind, [s.input(0), s.int32(places)], "ReducerOptions", keepDims=bool(s.attr("keepdims", 1)))


def place(kind: str, table: str, s: Step) -> None:
    if s.attr("select_last_index", 0):
        raise s.refuse("it takes the last of equal ones; LiteRT takes the first")
    axis = s.axis(0)
    if not s.attr("keepdims", 1):
        s.emit(kind, [s.input(0), s.int32(axis)], table, outputType=4)
        return
    dims = [d for i, d in enumerate(s.dims()) if i != axis]
    found = s.operator(kind, [s.input(0), s.int32(axis)], [s.inner(dims, "int64")], table, outputType=4)
    s.emit("EXPAND_DIMS", [found, s.int32(axis)], "ExpandDimsOptions")


def top_k(s: Step) -> None:
    """The largest along the last axis; places come as int32."""
    if s.axis(-1) != len(s.dims()) - 1 or not s.attr("largest", 1):
        raise s.refuse("LiteRT finds the largest, along the last axis")
    count = s.int32(s.ints(1)[0])
    values, places = s.outs
    made = s.writer.typed(values), s.inner(s.writer.dims(places), "int32")
    s.operator("TOPK_V2", [s.input(0), count], made, "TopKV2Options")
    s.operator("CAST", [made[1]], [s.writer.typed(places)], "CastOptions")


def cumsum(s: Step) -> None:
    axis = walk.constant(s.value(1))
    if axis is None:
        raise s.refuse("its axis is computed")
    flags = {n: bool(s.attr(n, 0)) for n in ("exclusive", "reverse")}
    s.emit("CUMSUM", [s.input(0), s.int32(np.asarray(axis).reshape(()))], "CumsumOptions", **flags)


TABLE: Table = {
    "ArgMax": Rule(partial(place, "ARG_MAX", "ArgMaxOptions")),
    "ArgMin": Rule(partial(place, "ARG_MIN", "ArgMinOptions")),
    "CumSum": Rule(cumsum),
    "ReduceMax": Rule(partial(reduce, "REDUCE_MAX"), int8="same"),
    "ReduceMean": Rule(partial(reduce, "MEAN"), int8="any"),
    "ReduceMin": Rule(partial(reduce, "REDUCE_MIN"), int8="same"),
    "ReduceProd": Rule(partial(reduce, "REDUCE_PROD")),
    "ReduceSum": Rule(partial(reduce, "SUM"), int8="any"),
    "TopK": Rule(top_k),
}
