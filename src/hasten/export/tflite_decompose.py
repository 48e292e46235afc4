"""ONNX operators that LiteRT has no kernel for, in terms of those that it has.

GlobalAveragePool         =>  ReduceMean
BatchNormalization        =>  * a + b
LayerNormalization        =>  (x - mean) / sqrt(mean square + epsilon) * scale + bias
x * 0.5 * (1 + erf(...))  =>  Gelu
MatMul of a vector        =>  MatMul of a matrix with an axis of one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from hasten.export import tflite_places as places
from hasten.export.tflite_shapes import depth_to_space, flatten, over_time, reshape
from hasten.export.tflite_site import Site, is_stored
from hasten.graph import edit, walk

Lower = Callable[[Site], "ir.Value | None"]  # None leaves the node as it is


def decompose(model: ir.Model) -> None:
    """Apply the table until nothing fits; in place. Shapes are inferred again."""
    taken = edit.names(model)
    for _ in range(4):  # what a rule writes may be for another rule
        changed = False
        for node in list(model.graph):
            rule = TABLE.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            made = rule(Site(node, taken)) if rule is not None else None
            if made is not None:
                edit.replace(node.outputs[0], made)
                model.graph.remove(node, safe=True)
                changed = True
        edit.prune(model)
        edit.infer(model)
        if not changed:
            return


def dropout(s: Site) -> ir.Value | None:
    return s.x() if not s.node.outputs[0].is_graph_output() else None


def batch_normalization(s: Site) -> ir.Value | None:
    parts = [walk.constant(s.x(k)) for k in range(1, 5)]
    if any(p is None for p in parts) or s.attr("training_mode", 0):
        return None
    gamma, beta, mean, var = (np.asarray(p, np.float64) for p in parts)
    factor = gamma / np.sqrt(var + s.attr("epsilon", 1e-5))
    shape = (-1, *[1] * (s.rank() - 2))
    scaled = s.add("Mul", s.x(), s.fixed(factor.astype(np.float32).reshape(shape)))
    return s.add("Add", scaled, s.fixed((beta - mean * factor).astype(np.float32).reshape(shape)))


def global_pool(op_type: str) -> Lower:
    return lambda s: s.add(op_type, s.x(), s.ints(*range(2, s.rank())), keepdims=1)


def normalized(s: Site, axes: Sequence[int], epsilon: float) -> ir.Value:
    """(x - mean) / sqrt(mean square + epsilon)."""
    centred = s.add("Sub", s.x(), s.add("ReduceMean", s.x(), s.ints(*axes), keepdims=1))
    square = s.add("ReduceMean", s.add("Mul", centred, centred), s.ints(*axes), keepdims=1)
    spread = s.add("Sqrt", s.add("Add", square, s.fixed(np.float32(epsilon))))
    return s.add("Mul", centred, s.add("Reciprocal", spread))


def layer_normalization(s: Site) -> ir.Value | None:
    if len(s.node.outputs) > 1 and any(o.uses() for o in s.node.outputs[1:]):
        return None
    axis = s.attr("axis", -1) % max(1, s.rank())
    y = s.add("Mul", normalized(s, range(axis, s.rank()), s.attr("epsilon", 1e-5)), s.x(1))
    return y if s.x(2) is None else s.add("Add", y, s.x(2))


def instance_normalization(s: Site) -> ir.Value | None:
    scale, bias = (walk.constant(s.x(k)) for k in (1, 2))
    if scale is None or bias is None:
        return None
    shape = (-1, *[1] * (s.rank() - 2))
    y = s.add("Mul", normalized(s, range(2, s.rank()), s.attr("epsilon", 1e-5)), s.fixed(scale.reshape(shape)))
    return s.add("Add", y, s.fixed(bias.reshape(shape)))


def rms_normalization(s: Site) -> ir.Value | None:
    axes = s.ints(*range(s.attr("axis", -1) % max(1, s.rank()), s.rank()))
    square = s.add("ReduceMean", s.add("Mul", s.x(), s.x()), axes, keepdims=1)
    spread = s.add("Sqrt", s.add("Add", square, s.fixed(np.float32(s.attr("epsilon", 1e-5)))))
    return s.add("Mul", s.add("Mul", s.x(), s.add("Reciprocal", spread)), s.x(1))


def hard_sigmoid(s: Site) -> ir.Value | None:
    alpha, beta = s.attr("alpha", 0.2), s.attr("beta", 0.5)
    ends = s.fixed(np.float32(0)), s.fixed(np.float32(1 / alpha))
    shifted = s.add("Add", s.x(), s.fixed(np.float32(beta / alpha)))
    return s.add("Mul", s.add("Clip", shifted, *ends), s.fixed(np.float32(alpha)))


def softplus(s: Site) -> ir.Value | None:
    """log(1 + exp(x)), written so that a large x does not overflow."""
    small = s.add("Log", s.add("Add", s.add("Exp", s.add("Neg", s.add("Abs", s.x()))), s.fixed(np.float32(1))))
    return s.add("Add", s.add("Relu", s.x()), small)


def mish(s: Site) -> ir.Value | None:
    return s.add("Mul", s.x(), s.add("Tanh", s.add("Softplus", s.x())))


def power(s: Site) -> ir.Value | None:
    """Squares and square roots."""
    exponent = walk.scalar(s.x(1))
    if exponent == 2:
        return s.add("Mul", s.x(), s.x())
    return s.add("Sqrt", s.x()) if exponent == 0.5 else None


def n_ary(op_type: str) -> Lower:
    """One input after the other; two stay as they are."""

    def rule(s: Site) -> ir.Value | None:
        if len(s.node.inputs) == 2 and s.node.op_type == op_type:
            return None
        total = s.x()
        if len(s.node.inputs) == 1:  # a node of its own, as two outputs cannot be one tensor
            return s.add("Max", total, total)
        for k in range(1, len(s.node.inputs)):
            total = s.add(op_type, total, s.x(k))
        return total

    return rule


def reduce_square(root: bool) -> Lower:
    def rule(s: Site) -> ir.Value | None:
        total = s.add("ReduceSum", s.add("Mul", s.x(), s.x()), s.x(1), keepdims=s.attr("keepdims", 1))
        return s.add("Sqrt", total) if root else total

    return rule


def lp_normalization(s: Site) -> ir.Value | None:
    if s.attr("p", 2) != 2:
        return None
    axis = s.attr("axis", -1)
    return s.add("Div", s.x(), s.add("ReduceL2", s.x(), s.ints(axis), keepdims=1))


def gemm(s: Site) -> ir.Value | None:
    """Only x [N, K] times constant weights stays, without factors; the rest becomes MatMul and Add."""
    alpha, beta = s.attr("alpha", 1.0), s.attr("beta", 1.0)
    plain = alpha == 1 and (beta == 1 or s.x(2) is None) and not s.attr("transA", 0)
    if plain and is_stored(s.x(1)) and (s.x(2) is None or (is_stored(s.x(2)) and walk.rank(s.x(2)) == 1)):
        return None
    a, b = (
        s.add("Transpose", s.x(k), perm=[1, 0]) if s.attr(n, 0) else s.x(k) for k, n in ((0, "transA"), (1, "transB"))
    )
    y = s.add("MatMul", a, b)
    y = y if alpha == 1 else s.add("Mul", y, s.fixed(np.float32(alpha)))
    if s.x(2) is None:
        return y
    c = s.x(2) if beta == 1 else s.add("Mul", s.x(2), s.fixed(np.float32(beta)))
    return s.add("Add", y, c)


def vectors(s: Site) -> ir.Value | None:
    """LiteRT multiplies matrices: a vector gets an axis of one, which the product then loses."""
    ranks = [walk.rank(s.x(k)) for k in (0, 1)]
    if 1 not in ranks or None in ranks:
        return None
    left = s.add("Unsqueeze", s.x(0), s.ints(0)) if ranks[0] == 1 else s.x(0)
    column = walk.constant(s.x(1)) if ranks[1] == 1 else None
    right = s.x(1) if ranks[1] != 1 else s.add("Unsqueeze", s.x(1), s.ints(1))
    right = right if column is None else s.fixed(column[:, None])
    lost = [axis for axis, rank in zip((-2, -1), ranks, strict=True) if rank == 1]
    return s.add("Squeeze", s.add("MatMul", left, right), s.ints(*lost))


def gelu(s: Site) -> ir.Value | None:
    """x * 0.5 * (1 + erf(x / sqrt 2)), its three factors in any order."""
    factors = _factors(s.node)
    half = [v for v in factors if walk.scalar(v) == 0.5]
    inner = [(v, _erf_argument(v)) for v in factors]
    found = [(v, x) for v, x in inner if x is not None]
    if len(factors) != 3 or len(half) != 1 or len(found) != 1:
        return None
    (plus, x), rest = found[0], [v for v in factors if v is not half[0] and v is not found[0][0]]
    return s.add("Gelu", x) if rest == [x] and plus is not x else None


def _factors(node: ir.Node) -> list[ir.Value]:
    """The factors of a product of three, of which the inner product has no other reader."""
    values = [v for v in node.inputs if v is not None]
    for value in values:
        inner = value.producer()
        if inner is not None and inner.op_type == "Mul" and walk.only_consumer(value) is node:
            others = [v for v in values if v is not value]
            return [*others, *(v for v in inner.inputs if v is not None)]
    return values


def _erf_argument(value: ir.Value) -> ir.Value | None:
    """x of 1 + erf(x / sqrt 2)."""
    plus = value.producer()
    found = walk.operands(plus) if plus is not None and plus.op_type == "Add" else None
    erf = found[0].producer() if found is not None and walk.scalar(found[1]) == 1 else None
    return _scaled(erf.inputs[0], 1 / math.sqrt(2)) if erf is not None and erf.op_type == "Erf" else None


def _scaled(value: ir.Value | None, factor: float) -> ir.Value | None:
    """x of x * factor or x / (1 / factor)."""
    node = value.producer() if value is not None else None
    found = walk.operands(node) if node is not None and node.op_type in ("Mul", "Div") else None
    number = walk.scalar(found[1]) if found is not None else None
    if node is None or found is None or number is None:
        return None
    wanted = factor if node.op_type == "Mul" else 1 / factor
    return found[0] if math.isclose(number, wanted, rel_tol=1e-5) else None


TABLE: dict[str, Lower] = {
    "AveragePool": over_time,
    "BatchNormalization": batch_normalization,
    "Conv": over_time,
    "ConvTranspose": over_time,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Flatten": flatten,
    "Gather": places.gather,
    "GatherND": places.nd,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("ReduceMean"),
    "GlobalMaxPool": global_pool("ReduceMax"),
    "HardSigmoid": hard_sigmoid,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "MatMul": vectors,
    "Max": n_ary("Max"),
    "MaxPool": over_time,
    "Min": n_ary("Min"),
    "Mish": mish,
    "Mul": gelu,
    "OneHot": places.one_hot,
    "Pow": power,
    "RMSNormalization": rms_normalization,
    "ReduceL2": reduce_square(True),
    "ReduceSumSquare": reduce_square(False),
    "Reshape": reshape,
    "ScatterND": places.nd,
    "Softplus": softplus,
    "Sum": n_ary("Add"),
}
