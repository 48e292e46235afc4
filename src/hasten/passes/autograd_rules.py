"""What each operator is in torch. Only what differs from one line of torch has a function of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.passes.elementwise import ELEMENTWISE, Rule, Values
from hasten.protocols import NotApplicable


def _ints(x: Any) -> list[int]:
    return [int(v) for v in x.reshape(-1)]


def _padded(torch: Any, node: ir.Node, x: Any, kernel: Sequence[int], fill: float = 0.0) -> Any:
    """The input with the padding of a convolution or pooling written out."""
    n = len(kernel)
    strides, dilations = (walk.attribute(node, name, [1] * n) for name in ("strides", "dilations"))
    pads, kind = walk.attribute(node, "pads", [0] * 2 * n), walk.attribute(node, "auto_pad", "NOTSET")
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        sizes = zip(x.shape[2:], strides, reach, strict=True)
        total = [max((-(-size // s) - 1) * s + r - size, 0) for size, s, r in sizes]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*less, *more] if kind == "SAME_UPPER" else [*more, *less]
    if not any(pads):
        return x
    turned = [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])]
    return torch.nn.functional.pad(x, turned, value=fill)


def _conv(torch: Any, node: ir.Node, x: Values) -> Any:
    n = x[1].ndim - 2
    convolve = getattr(torch.nn.functional, f"conv{n}d")
    strides, dilations = (walk.attribute(node, name, [1] * n) for name in ("strides", "dilations"))
    bias = x[2] if len(x) > 2 else None
    padded = _padded(torch, node, x[0], x[1].shape[2:])
    return convolve(padded, x[1], bias, list(strides), 0, list(dilations), walk.attribute(node, "group", 1))


def _deconv(torch: Any, node: ir.Node, x: Values) -> Any:
    n = x[1].ndim - 2
    strides, dilations = (list(walk.attribute(node, name, [1] * n)) for name in ("strides", "dilations"))
    pads, more = walk.attribute(node, "pads", [0] * 2 * n), walk.attribute(node, "output_padding", [0] * n)
    fixed = "output_shape" in node.attributes or walk.attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if fixed or list(pads[:n]) != list(pads[n:]):
        raise NotApplicable(f"this {node.op_type} cannot be trained through (node {walk.label(node)!r})")
    spread = getattr(torch.nn.functional, f"conv_transpose{n}d")
    bias, group = x[2] if len(x) > 2 else None, walk.attribute(node, "group", 1)
    return spread(x[0], x[1], bias, strides, list(pads[:n]), list(more), group, dilations)


def _pool(torch: Any, node: ir.Node, x: Values) -> Any:
    kernel = walk.attribute(node, "kernel_shape", [1])
    strides = list(walk.attribute(node, "strides", [1] * len(kernel)))
    if walk.attribute(node, "ceil_mode", 0) or len(node.outputs) > 1:
        raise NotApplicable(f"this {node.op_type} cannot be trained through (node {walk.label(node)!r})")
    if node.op_type == "MaxPool":
        pool = getattr(torch.nn.functional, f"max_pool{len(kernel)}d")
        return pool(_padded(torch, node, x[0], kernel, float("-inf")), list(kernel), strides)
    pool = getattr(torch.nn.functional, f"avg_pool{len(kernel)}d")
    summed = pool(_padded(torch, node, x[0], kernel), list(kernel), strides)
    if walk.attribute(node, "count_include_pad", 0):
        return summed
    return summed / pool(_padded(torch, node, torch.ones_like(x[0]), kernel), list(kernel), strides)


def _gemm(torch: Any, node: ir.Node, x: Values) -> Any:
    a = x[0].T if walk.attribute(node, "transA", 0) else x[0]
    b = x[1].T if walk.attribute(node, "transB", 0) else x[1]
    y = walk.attribute(node, "alpha", 1.0) * (a @ b)
    return y + walk.attribute(node, "beta", 1.0) * x[2] if len(x) > 2 and x[2] is not None else y


def _norm(torch: Any, node: ir.Node, x: Values) -> Any:
    if node.op_type == "LayerNormalization":
        axis = walk.attribute(node, "axis", -1) % x[0].ndim
        bias = x[2] if len(x) > 2 else None
        epsilon = walk.attribute(node, "epsilon", 1e-5)
        return torch.nn.functional.layer_norm(x[0], list(x[0].shape[axis:]), x[1], bias, epsilon)
    return torch.nn.functional.batch_norm(
        x[0], x[3], x[4], x[1], x[2], training=False, eps=walk.attribute(node, "epsilon", 1e-5)
    )


def _reshape(torch: Any, node: ir.Node, x: Values) -> Any:
    sizes = [x[0].shape[i] if s == 0 else s for i, s in enumerate(_ints(x[1]))]
    return x[0].reshape(sizes)


def _flatten(torch: Any, node: ir.Node, x: Values) -> Any:
    axis = walk.attribute(node, "axis", 1)
    return x[0].reshape(int(np.prod(x[0].shape[: axis % (x[0].ndim + 1)])), -1)


def _axes(node: ir.Node, x: Values) -> list[int] | None:
    given = walk.attribute(node, "axes", None)
    if given is not None:
        return list(given)
    return _ints(x[1]) if len(x) > 1 and x[1] is not None else None


def _reduced(kind: str) -> Rule:
    def rule(torch: Any, node: ir.Node, x: Values) -> Any:
        axes = _axes(node, x)
        keep = bool(walk.attribute(node, "keepdims", 1))
        return getattr(torch, kind)(x[0], dim=axes if axes is not None else list(range(x[0].ndim)), keepdim=keep)

    return rule


def _squeeze(torch: Any, node: ir.Node, x: Values) -> Any:
    axes = _axes(node, x)
    return x[0].squeeze() if axes is None else x[0].squeeze(tuple(axes))


def _unsqueeze(torch: Any, node: ir.Node, x: Values) -> Any:
    axes = _axes(node, x) or []
    rank = x[0].ndim + len(axes)
    return reduce(lambda y, axis: y.unsqueeze(axis), sorted(a % rank for a in axes), x[0])


def _slice(torch: Any, node: ir.Node, x: Values) -> Any:
    if len(x) < 3:
        raise NotApplicable(f"a Slice of old form cannot be trained through (node {walk.label(node)!r})")
    starts, ends = _ints(x[1]), _ints(x[2])
    axes = _ints(x[3]) if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = _ints(x[4]) if len(x) > 4 else [1] * len(starts)
    cuts = [slice(None)] * x[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            raise NotApplicable(f"a Slice that runs backwards cannot be trained through (node {walk.label(node)!r})")
        low, high, _ = slice(start, end).indices(x[0].shape[axis])
        cuts[axis] = slice(low, max(low, high), step)
    return x[0][tuple(cuts)]


def _clip(torch: Any, node: ir.Node, x: Values) -> Any:
    low = x[1] if len(x) > 1 else walk.attribute(node, "min", None)
    high = x[2] if len(x) > 2 else walk.attribute(node, "max", None)
    return torch.clamp(x[0], low, high) if low is not None or high is not None else x[0]


def _gather(torch: Any, node: ir.Node, x: Values) -> Any:
    axis = walk.attribute(node, "axis", 0) % x[0].ndim
    at = x[1].long() % x[0].shape[axis]
    return x[0].index_select(axis, at.reshape(-1)).reshape((*x[0].shape[:axis], *at.shape, *x[0].shape[axis + 1 :]))


def _split(torch: Any, node: ir.Node, x: Values) -> Any:
    axis = walk.attribute(node, "axis", 0)
    if len(x) > 1 and x[1] is not None:
        sizes = _ints(x[1])
    else:
        each = -(-x[0].shape[axis] // len(node.outputs))
        sizes = list(walk.attribute(node, "split", [])) or each
    return torch.split(x[0], sizes, axis)


def _softmax(torch: Any, node: ir.Node, x: Values) -> Any:
    return torch.softmax(x[0], walk.attribute(node, "axis", -1))


def _gelu(torch: Any, node: ir.Node, x: Values) -> Any:
    return torch.nn.functional.gelu(x[0], approximate=str(walk.attribute(node, "approximate", "none")))


def _hard_sigmoid(torch: Any, node: ir.Node, x: Values) -> Any:
    return torch.clamp(walk.attribute(node, "alpha", 0.2) * x[0] + walk.attribute(node, "beta", 0.5), 0, 1)


RULES: dict[str, Rule] = {
    **ELEMENTWISE,
    "GlobalAveragePool": lambda torch, node, x: x[0].mean(dim=tuple(range(2, x[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda torch, node, x: x[0].amax(dim=tuple(range(2, x[0].ndim)), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda torch, node, x: torch.nn.functional.leaky_relu(x[0], walk.attribute(node, "alpha", 0.01)),
    "Gelu": _gelu,
    "Softmax": _softmax,
    "Clip": _clip,
    "Conv": _conv,
    "ConvTranspose": _deconv,
    "Gemm": _gemm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "BatchNormalization": _norm,
    "LayerNormalization": _norm,
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "ReduceMax": _reduced("amax"),
    "Expand": lambda torch, node, x: x[0].expand(torch.broadcast_shapes(x[0].shape, tuple(_ints(x[1])))),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Transpose": lambda torch, node, x: x[0].permute(walk.attribute(node, "perm", list(range(x[0].ndim))[::-1])),
    "Concat": lambda torch, node, x: torch.cat(x, walk.attribute(node, "axis", 0)),
    "Shape": lambda torch, node, x: torch.tensor(
        list(x[0].shape)[slice(walk.attribute(node, "start", 0), walk.attribute(node, "end", None))]
    ),
}
