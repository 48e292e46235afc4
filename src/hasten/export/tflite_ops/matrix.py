"""Matrix products and look-ups."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.export.tflite_ops.rules import Table
from hasten.export.tflite_ops.weights import bias, weights
from hasten.export.tflite_step import Rule, Step
from hasten.graph import transposes, walk


def fully_connected(s: Step) -> None:
    """x [..., in] times constant weights, [out, in] with ``transB``, else [in, out]."""
    transposed = bool(s.attr("transB", 0))
    w, grid = weights(s, (0, 1) if transposed else (1, 0))
    channels = int(s.dims(1)[0 if transposed else 1] or 1)
    b = bias(s, 2, grid, channels) if s.given(2) or s.int8 else -1
    s.emit("FULLY_CONNECTED", [s.input(0), w, b], "FullyConnectedOptions", keepNumDims=len(s.dims()) > 2)


def batch_matmul(s: Step) -> None:
    """Both may be computed; a transpose of the last two axes in front of the second goes into the operator."""
    if min(len(s.dims(0)), len(s.dims(1))) < 2:
        raise s.refuse("one of its operands is a vector")
    node = s.value(1).producer()
    if node is not None and not s.int8 and transposes.is_transpose(node) and _swaps(transposes.order(node)):
        source = node.inputs[0]
        assert source is not None
        s.emit("BATCH_MATMUL", [s.input(0), s.writer.real(source)], "BatchMatMulOptions", adjY=True)
        return
    s.emit("BATCH_MATMUL", [s.input(0), s.input(1)], "BatchMatMulOptions")


def _swaps(order: list[int]) -> bool:
    rank = len(order)
    return order == [*range(rank - 2), rank - 1, rank - 2]


def gather(s: Step) -> None:
    axis, indices = s.axis(0), walk.constant(s.value(1))
    if indices is None:
        place = s.input(1)
    else:
        below = indices < 0
        place = s.int32(np.where(below, indices + (s.size(0, axis) if below.any() else 0), indices))
    s.emit("GATHER", [s.input(0), place], "GatherOptions", axis=axis)


def gather_nd(s: Step) -> None:
    shared, dims = int(s.attr("batch_dims", 0)), s.dims(1)
    if shared:
        if dims[-1] != 1 or None in dims:
            raise s.refuse(f"it shares {shared} axes with its indices")
        flat = s.plain("RESHAPE", [s.index(1), s.int32(dims[:-1])], [int(d or 1) for d in dims[:-1]], "")
        s.emit("GATHER", [s.input(0), flat], "GatherOptions", axis=shared, batchDims=shared)
        return
    s.emit("GATHER_ND", [s.input(0), s.input(1)], "GatherNdOptions")


def scatter_nd(s: Step) -> None:
    """LiteRT adds to zeros: the same as to write there, as long as no place comes twice."""
    data, maker = walk.constant(s.value(0)), s.value(0).producer()
    made = maker is not None and maker.op_type == "ConstantOfShape" and not _fills(maker)
    kind = s.attr("reduction", "none")
    if ((data is None or data.any()) and not made) or kind not in ("add", "none"):
        raise s.refuse("LiteRT scatters into zeros only")
    if kind == "none" and not _distinct(walk.constant(s.value(1))):
        raise s.refuse("LiteRT adds up what is written to one place, and its places may repeat")
    shape = s.int32(data.shape) if data is not None else s.as_index(maker.inputs[0] if maker is not None else None)
    s.emit("SCATTER_ND", [s.index(1), s.input(2), shape], "ScatterNdOptions")


def _distinct(places: walk.Array | None) -> bool:
    if places is None or (places < 0).any():
        return False
    rows = places.reshape(-1, places.shape[-1])
    return len(np.unique(rows, axis=0)) == len(rows)


def _fills(node: ir.Node) -> bool:
    """Does a ConstantOfShape fill with anything but zeros?"""
    value = walk.attribute(node, "value", None)
    return value is not None and bool(value.numpy().any())


def one_hot(s: Step) -> None:
    off, on = s.known(2)
    depth = s.int32(s.ints(1)[0])
    axis = int(s.attr("axis", -1))
    ends = [s.constant(np.asarray(v, s.known(2).dtype)) for v in (on, off)]
    known = walk.constant(s.value(0)) is not None
    s.emit("ONE_HOT", [s.index(0) if known else s.input(0), depth, *ends], "OneHotOptions", axis=axis)


PRODUCTS: Table = {"FullyConnected": Rule(fully_connected, fuses=True, int8="any", weights=(1, 2))}
TABLE: Table = {
    "Gather": Rule(gather, int8="same"),
    "GatherND": Rule(gather_nd),
    "MatMul": Rule(batch_matmul, int8="any"),
    "OneHot": Rule(one_hot),
    "ScatterND": Rule(scatter_nd),
}
