"""A linear node as y = W x + b, whatever its operator, and writing other weights back.

Conv              x is a patch [channels * kernel], W as it lies in memory behind its first axis
ConvTranspose     x is a pixel [channels], y what it adds under the kernel [outputs * kernel]
MatMul, Gemm      x is a row
LSTM, GRU, RNN    x is one step's input, y what it adds to all gates
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.graph import edit, walk

Array = walk.Array
F64 = NDArray[np.float64]
RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Affine:
    """``w`` is float64[outputs, columns]; ``spread`` columns belong to one channel of the input, side by side."""

    node: ir.Node
    w: F64
    spread: int

    @property
    def channels(self) -> int:
        """Channels that the node reads."""
        return int(self.w.shape[1] // self.spread)


def fits(node: ir.Node) -> bool:
    """Has the node one matrix? Not grouped convolutions, and none with batched or computed weights. Copies nothing."""
    if node.op_type in RECURRENT and node.domain == "" and len(node.inputs) > 1:
        w = walk.constant(node.inputs[1])
        return w is not None and w.dtype == np.float32
    weight = walk.weight(node)
    array = walk.constant(weight.value) if weight is not None else None
    if array is None or walk.attribute(node, "group", 1) != 1:
        return False
    return node.op_type in ("Conv", "ConvTranspose") or (array.ndim == 2 and not walk.attribute(node, "transA", 0))


def affine(node: ir.Node) -> Affine | None:
    """The view, or None for nodes that it does not fit. Its matrix is a float64 copy."""
    array = walk.constant(node.inputs[1]) if fits(node) else None
    if array is None:
        return None
    if node.op_type in RECURRENT:
        return Affine(node, array.reshape(-1, array.shape[-1]).astype(np.float64), 1)
    if node.op_type == "Conv":
        return Affine(node, array.reshape(len(array), -1).astype(np.float64), prod(array.shape[2:]))
    if node.op_type == "ConvTranspose":
        return Affine(node, array.reshape(len(array), -1).T.astype(np.float64), 1)
    turned = node.op_type == "MatMul" or not walk.attribute(node, "transB", 0)
    alpha = walk.attribute(node, "alpha", 1.0) if node.op_type == "Gemm" else 1.0
    return Affine(node, (array.T if turned else array).astype(np.float64) * alpha, 1)


def bias_row(node: ir.Node, outputs: int) -> F64 | None:
    """What a Gemm or MatMul adds to every row, float64[outputs]; None where it is computed or differs by row."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(outputs)
    found = walk.constant(node.inputs[2])
    if found is None or found.size not in (1, outputs) or (found.ndim > 1 and found.shape[-1] != found.size):
        return None
    return np.broadcast_to(found.reshape(-1).astype(np.float64), (outputs,))


def columns(node: ir.Node, x: Array, limit: int, seed: int) -> Array:
    """What the node's matrix is multiplied with, float32[n, columns]: at most ``limit`` rows or patches of ``x``."""
    if node.op_type == "Conv":
        return patches(x, node, limit, seed)
    if node.op_type == "ConvTranspose":
        x = np.moveaxis(x, 1, -1)
    rows = x.reshape(-1, x.shape[-1])
    return rows[chosen(len(rows), limit, seed)]


def chosen(count: int, limit: int, seed: int) -> NDArray[np.intp]:
    """All of ``count``, or ``limit`` of them at random, in order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def patches(x: Array, node: ir.Node, limit: int, seed: int) -> Array:
    """Patches under the kernel of a Conv: [batch, channels, ...] to [n, channels * kernel]."""
    w = walk.constant(node.inputs[1])
    assert w is not None
    kernel, n = w.shape[2:], w.ndim - 2
    strides, dilations = (walk.attribute(node, name, [1] * n) for name in ("strides", "dilations"))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    before, after = _padding(node, x.shape[2:], strides, reach)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, x.ndim)))
    every: list[slice] = [slice(None), slice(None), *(slice(None, None, s) for s in (*strides, *dilations))]
    views = views[tuple(every)]
    places = (views.shape[0], *views.shape[2 : 2 + n])
    at = np.unravel_index(chosen(prod(places), limit, seed), places)
    picked: tuple[Any, ...] = (at[0], slice(None), *at[1:])
    taken = views[picked]  # advanced indices come first: [n, channels, *kernel]
    return np.ascontiguousarray(taken).reshape(len(taken), -1)


def _padding(node: ir.Node, size: tuple[int, ...], strides: list[int], reach: list[int]) -> tuple[list[int], list[int]]:
    kind, n = walk.attribute(node, "auto_pad", "NOTSET"), len(size)
    if kind == "VALID":
        return [0] * n, [0] * n
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((-(-i // s) - 1) * s + r - i, 0) for i, s, r in zip(size, strides, reach, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return (small, large) if kind == "SAME_UPPER" else (large, small)
    pads = list(walk.attribute(node, "pads", [0] * 2 * n))
    return pads[:n], pads[n:]


def representable(old: Array, new: Array) -> bool:
    """Do ``new`` weights fit into float32: none infinite, none lost to zero? Zero times infinity is NaN."""
    with np.errstate(all="ignore"):
        narrow = np.asarray(new, np.float32)
    return bool(np.isfinite(narrow).all() and ((narrow != 0) | (np.asarray(old) == 0)).all())


def rewrite(graph: ir.Graph, node: ir.Node, w: F64, shift: F64, taken: set[str]) -> None:
    """Give ``node`` the matrix ``w`` and add ``shift`` float64[outputs] to its bias.

    ConvTranspose spreads its shift over the kernel's places evenly.
    """
    source = node.inputs[1]
    old = walk.constant(source)
    assert source is not None
    assert old is not None
    if node.op_type == "Gemm":
        w = w / walk.attribute(node, "alpha", 1.0)
    turned = node.op_type in ("ConvTranspose", "MatMul") or (
        node.op_type == "Gemm" and not walk.attribute(node, "transB", 0)
    )
    array = (w.T if turned else w).reshape(old.shape).astype(np.float32)
    node.replace_input_with(1, edit.add_constant(graph, edit.fresh(taken, f"{source.name}/refit"), array))
    add_shift(graph, node, shift, taken)


def add_shift(graph: ir.Graph, node: ir.Node, shift: F64, taken: set[str]) -> None:
    """Add ``shift`` float64[outputs] to the node's bias, which is made where there is none; zeros touch nothing."""
    w = walk.constant(node.inputs[1])
    assert w is not None
    if not shift.any():
        return
    shape = w.shape
    if node.op_type == "ConvTranspose":
        shift = shift.reshape(shape[1], -1).mean(axis=1)
    if node.op_type == "MatMul":
        _add_behind(graph, node, shift, taken)
        return
    index = 3 if node.op_type in RECURRENT else 2
    old = walk.constant(node.inputs[index]) if len(node.inputs) > index else None
    if node.op_type in RECURRENT:
        both = np.zeros((shape[0], 2 * shape[1])) if old is None else old.astype(np.float64)
        both[:, : shape[1]] += shift.reshape(shape[:2])
        new = both
    else:
        scale = walk.attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
        new = (0.0 if old is None else old.astype(np.float64)) + shift / scale
    name = edit.fresh(taken, f"{node.outputs[0].name}/bias")
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, edit.add_constant(graph, name, np.asarray(new, np.float32)))


def _add_behind(graph: ir.Graph, node: ir.Node, shift: F64, taken: set[str]) -> None:
    """MatMul -> Add: into the constant of that Add; a MatMul without one gets one."""
    output = node.outputs[0]
    after = walk.only_consumer(output)
    found = walk.operands(after) if after is not None and after.op_type == "Add" else None
    constant = walk.constant(found[1]) if found is not None else None
    if after is not None and found is not None and constant is not None and constant.shape in ((), (1,), shift.shape):
        name = edit.fresh(taken, f"{found[1].name}/refit")
        index = 0 if after.inputs[0] is found[1] else 1
        new = (constant.astype(np.float64) + shift).astype(np.float32)
        after.replace_input_with(index, edit.add_constant(graph, name, new))
        return
    bias = edit.add_constant(graph, edit.fresh(taken, f"{output.name}/bias"), shift.astype(np.float32))
    plain = ir.Value(name=edit.fresh(taken, f"{output.name}/product"), shape=output.shape, type=output.type)
    graph.insert_before(node, product := ir.node("MatMul", list(node.inputs), outputs=[plain], name=plain.name))
    graph.insert_after(product, added := ir.node("Add", [plain, bias], name=f"{plain.name}/shifted"))
    edit.replace(output, added.outputs[0])
    graph.remove(node, safe=True)
