"""Arithmetic, comparisons and activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.export.tflite_file import Grid
from hasten.export.tflite_ops.rules import Table, on
from hasten.export.tflite_step import FUSED, RELU, RELU6, RELU_N1_TO_1, Rule, Step, bounds
from hasten.graph import walk

PROBABILITY = Grid((1 / 256,), (-128,))
SIGNED = Grid((1 / 128,), (0,))
NAMES = {RELU: "RELU", RELU6: "RELU6", RELU_N1_TO_1: "RELU_N1_TO_1"}


def clip(s: Step) -> None:
    """RELU and its kin where the ends are theirs. On codes those are slow, and MAXIMUM and MINIMUM are not."""
    ends = bounds(s.node)
    kind = FUSED.get(ends)
    if kind is not None and not s.int8:
        s.emit(NAMES[kind], [s.input(0)])
        return
    given = [(1, "MAXIMUM"), (2, "MINIMUM")] if s.node.op_type == "Clip" else [(1, "MAXIMUM")]
    steps = [(op, _end(s, k)) for k, op in given if s.given(k) or s.node.op_type == "Relu"]
    if not steps:
        s.alias()
        return
    x, table = s.input(0), "MaximumMinimumOptions"
    for op, end in steps[:-1]:
        x = s.operator(op, [x, end], [s.inner(s.dims(), grid=s.grid() if s.int8 else None)], table)
    s.emit(steps[-1][0], [x, steps[-1][1]], table)


def _end(s: Step, k: int) -> int:
    """An end of a Clip, or the 0 of a Relu, as a code where the node runs on codes."""
    number = s.known(k) if s.given(k) else np.float32(0)
    if not s.int8:
        return s.constant(number)
    grid = s.grid()
    code = np.clip(np.rint(number / np.float32(grid.scale[0])) + grid.zero[0], -128, 127)
    return s.constant(code.astype(np.int8), grid)


def softmax(s: Step) -> None:
    _along_last(s, "SOFTMAX", "SoftmaxOptions", beta=1.0)


def log_softmax(s: Step) -> None:
    _along_last(s, "LOG_SOFTMAX", "LogSoftmaxOptions")


def _along_last(s: Step, kind: str, table: str, **options: Any) -> None:
    """LiteRT normalises along the last axis; another one goes there and comes back."""
    axis, rank = s.axis(-1), len(s.dims())
    if axis == rank - 1:
        s.emit(kind, [s.input(0)], table, **options)
        return
    order = [*(i for i in range(rank) if i != axis), axis]
    turned = [s.dims()[i] for i in order]
    perm, back = s.int32(order), s.int32([order.index(i) for i in range(rank)])
    there = s.operator("TRANSPOSE", [s.input(0), perm], [s.inner(turned)], "TransposeOptions")
    s.emit("TRANSPOSE", [s.operator(kind, [there], [s.inner(turned)], table, **options), back], "TransposeOptions")


def gelu(s: Step) -> None:
    s.emit("GELU", [s.input(0)], "GeluOptions", approximate=s.attr("approximate", "none") == "tanh")


def leaky_relu(s: Step) -> None:
    s.emit("LEAKY_RELU", [s.input(0)], "LeakyReluOptions", alpha=float(s.attr("alpha", 0.01)))


def elu(s: Step) -> None:
    if s.attr("alpha", 1.0) != 1:
        raise s.refuse(f"its alpha is {s.attr('alpha', 1.0)}; LiteRT has 1")
    s.emit("ELU", [s.input(0)])


def prelu(s: Step) -> None:
    """The slopes have every axis but the batch."""
    slopes, rank = s.known(1), len(s.dims())
    shape = (1,) * (rank - 1 - slopes.ndim) + slopes.shape
    s.emit("PRELU", [s.input(0), s.constant(slopes.reshape(shape[-(rank - 1) :] if rank > 1 else shape))])


def sqrt(s: Step) -> None:
    """One that only a Reciprocal reads becomes part of it."""
    after = walk.only_consumer(s.outs[0])
    if after is None or after.op_type != "Reciprocal":
        s.emit("SQRT", [s.input(0)])


def reciprocal(s: Step) -> None:
    """1 / sqrt(x) has an operator of its own."""
    root = s.value(0).producer()
    if root is not None and root.op_type == "Sqrt" and walk.only_consumer(s.value(0)) is s.node:
        inner = root.inputs[0]
        assert inner is not None
        s.emit("RSQRT", [s.writer.real(inner)])
    else:
        s.emit("DIV", [s.constant(np.float32(1)), s.input(0)], "DivOptions")


def mod(s: Step) -> None:
    if s.attr("fmod", 0):
        raise s.refuse("it keeps the dividend's sign; LiteRT keeps the divisor's")
    s.emit("FLOOR_MOD", [s.input(0), s.input(1)], "FloorModOptions")


def cast(s: Step) -> None:
    kinds = [s.value(0).dtype, ir.DataType(int(s.attr("to", 1)))]
    if kinds[0] == kinds[1]:
        s.alias()
    else:
        s.emit("CAST", [s.input(0)], "CastOptions")


def where(s: Step) -> None:
    s.emit("SELECT_V2", [s.input(k) for k in range(3)], "SelectV2Options")


def xor(s: Step) -> None:
    s.emit("NOT_EQUAL", [s.input(0), s.input(1)], "NotEqualOptions")


def identity(s: Step) -> None:
    s.alias()


TABLE: Table = {
    **on({"Abs": "ABS"}, "AbsOptions"),
    **on({"Neg": "NEG"}, "NegOptions"),
    **on({"Exp": "EXP"}, "ExpOptions"),
    **on({"Cos": "COS"}, "CosOptions"),
    **on({"Sign": "SIGN"}, "SignOptions"),
    **on({"Ceil": "CEIL", "Floor": "FLOOR", "Log": "LOG", "Round": "ROUND", "Sin": "SIN"}),
    **on({"Not": "LOGICAL_NOT"}, "LogicalNotOptions"),
    **on({"Sigmoid": "LOGISTIC"}, int8=PROBABILITY),
    **on({"Tanh": "TANH"}, int8=SIGNED),
    **on({"HardSwish": "HARD_SWISH"}, "HardSwishOptions"),  # its int8 kernel is ten times slower than XNNPACK's float
    **on({"Add": "ADD"}, "AddOptions", inputs=2, fuses=True, int8="any"),
    **on({"Sub": "SUB"}, "SubOptions", inputs=2, fuses=True, int8="any"),
    **on({"Mul": "MUL"}, "MulOptions", inputs=2, fuses=True, int8="any"),
    **on({"Div": "DIV"}, "DivOptions", inputs=2, fuses=True),
    **on({"Max": "MAXIMUM", "Min": "MINIMUM"}, "MaximumMinimumOptions", inputs=2),
    **on({"Pow": "POW"}, "PowOptions", inputs=2),
    **on({"Equal": "EQUAL"}, "EqualOptions", inputs=2),
    **on({"Greater": "GREATER"}, "GreaterOptions", inputs=2),
    **on({"GreaterOrEqual": "GREATER_EQUAL"}, "GreaterEqualOptions", inputs=2),
    **on({"Less": "LESS"}, "LessOptions", inputs=2),
    **on({"LessOrEqual": "LESS_EQUAL"}, "LessEqualOptions", inputs=2),
    **on({"And": "LOGICAL_AND"}, "LogicalAndOptions", inputs=2),
    **on({"Or": "LOGICAL_OR"}, "LogicalOrOptions", inputs=2),
    **on({"BitwiseXor": "BITWISE_XOR"}, "BitwiseXorOptions", inputs=2),
    "Cast": Rule(cast),
    "Clip": Rule(clip, int8="same"),
    "Elu": Rule(elu, int8="any"),
    "Gelu": Rule(gelu, int8="any"),
    "Identity": Rule(identity),
    "LeakyRelu": Rule(leaky_relu, int8="any"),
    "LogSoftmax": Rule(log_softmax),
    "Mod": Rule(mod),
    "PRelu": Rule(prelu),
    "Reciprocal": Rule(reciprocal),
    "Relu": Rule(clip, int8="same"),
    "Sqrt": Rule(sqrt),
    "Softmax": Rule(softmax, int8=PROBABILITY),
    "Where": Rule(where),
    "Xor": Rule(xor),
}
