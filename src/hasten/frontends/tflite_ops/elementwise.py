"""Arithmetic, comparisons and choices, element by element. Broadcasting is numpy's on both sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import Call, Translate
from hasten.frontends.tflite_file import number_type


def unary(op_type: str, call: Call) -> ir.Value:
    return call.emit(op_type, call.real(0))


def binary(op_type: str, call: Call) -> ir.Value:
    return call.activated(call.emit(op_type, call.real(0), call.real(1)))


def compare(op_type: str, call: Call) -> ir.Value:
    return call.emit(op_type, call.real(0), call.real(1))


def not_equal(call: Call) -> ir.Value:
    return call.emit("Not", compare("Equal", call))


def square(call: Call) -> ir.Value:
    x = call.real(0)
    return call.emit("Mul", x, x)


def rsqrt(call: Call) -> ir.Value:
    return call.emit("Reciprocal", call.emit("Sqrt", call.real(0)))


def squared_difference(call: Call) -> ir.Value:
    d = call.emit("Sub", call.real(0), call.real(1))
    return call.emit("Mul", d, d)


def add_n(call: Call) -> ir.Value:
    total = call.real(0)
    for k in range(1, len(call.operator.inputs)):
        total = call.emit("Add", total, call.real(k))
    return total


def floor_mod(call: Call) -> ir.Value:
    """The remainder has the divisor's sign, as in Python."""
    a, b = call.real(0), call.real(1)
    if np.issubdtype(number_type(call.tensor(0).dtype), np.integer):
        return call.emit("Mod", a, b)
    whole = call.emit("Floor", call.emit("Div", a, b))
    return call.emit("Sub", a, call.emit("Mul", whole, b))


def floor_div(call: Call) -> ir.Value:
    """Rounds down; ONNX rounds integers towards zero, so the remainder goes first."""
    a, b = call.real(0), call.real(1)
    if np.issubdtype(number_type(call.tensor(0).dtype), np.integer):
        return call.emit("Div", call.emit("Sub", a, call.emit("Mod", a, b)), b)
    return call.emit("Floor", call.emit("Div", a, b))


def select(call: Call) -> ir.Value:
    """A condition of one axis picks whole rows."""
    condition, rank = call.code(0), call.rank(1)
    if call.rank(0) == 1 and rank > 1:
        condition = call.emit("Unsqueeze", condition, call.fixed(np.arange(1, rank)))
    return call.emit("Where", condition, call.real(1), call.real(2))


def select_v2(call: Call) -> ir.Value:
    return call.emit("Where", call.code(0), call.real(1), call.real(2))


def zeros_like(call: Call) -> ir.Value:
    zero = call.fixed(np.zeros((), number_type(call.out().dtype)))
    return call.emit("Expand", zero, call.emit("Shape", call.code(0)))


def cast(call: Call) -> ir.Value:
    """Half floats are read as float32 anyway."""
    source = call.real(0)
    wide = {"float16": "float32", "bfloat16": "float32"}
    kinds = [wide.get(t.dtype, t.dtype) for t in (call.tensor(0), call.out())]
    kind = ir.DataType.from_numpy(number_type(kinds[1]))
    return call.emit("Identity", source) if kinds[0] == kinds[1] else call.emit("Cast", source, to=kind.value)


def real(call: Call) -> ir.Value:
    """QUANTIZE and DEQUANTIZE: the same numbers; the two faces of the tensors do the rest."""
    return call.real(0)


def _each(function: Callable[[str, Call], ir.Value], kinds: dict[str, str]) -> dict[str, Translate]:
    return {kind: partial(function, op_type) for kind, op_type in kinds.items()}


TABLE: dict[str, Translate] = {
    **_each(
        unary,
        {
            "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log", "NEG": "Neg",
            "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt", "LOGICAL_NOT": "Not",
        },
    ),
    **_each(
        binary,
        {
            "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow",
            "BITWISE_XOR": "BitwiseXor",
        },
    ),
    **_each(
        compare,
        {
            "EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less",
            "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or",
        },
    ),
    "ADD_N": add_n,
    "CAST": cast,
    "DEQUANTIZE": real,
    "FLOOR_DIV": floor_div,
    "FLOOR_MOD": floor_mod,
    "NOT_EQUAL": not_equal,
    "QUANTIZE": real,
    "RSQRT": rsqrt,
    "SELECT": select,
    "SELECT_V2": select_v2,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
    "ZEROS_LIKE": zeros_like,
}  # fmt: skip
