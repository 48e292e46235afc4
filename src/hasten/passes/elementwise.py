"""Operators that work number by number, as torch functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx_ir as ir

from hasten.graph import walk
from hasten.protocols import NotApplicable

Values = list[Any]  # the inputs of a node as tensors; None where one is left out
Rule = Callable[[Any, ir.Node, Values], Any]  # (torch, node, inputs) -> output or outputs
CAST = {"FLOAT": "float32", "DOUBLE": "float64", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


def _one(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda torch, node, x: function(torch, x[0])


def _two(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda torch, node, x: function(x[0], x[1])


def _cast(torch: Any, node: ir.Node, x: Values) -> Any:
    name = ir.DataType(walk.attribute(node, "to", 0)).name
    if name not in CAST:
        raise NotApplicable(f"a Cast to {name} cannot be trained through (node {walk.label(node)!r})")
    return x[0].to(getattr(torch, CAST[name]))


ELEMENTWISE: dict[str, Rule] = {
    "Add": _two(lambda a, b: a + b),
    "Sub": _two(lambda a, b: a - b),
    "Mul": _two(lambda a, b: a * b),
    "Div": _two(lambda a, b: a / b if a.is_floating_point() else a.div(b, rounding_mode="trunc")),
    "Pow": _two(lambda a, b: a**b),
    "MatMul": _two(lambda a, b: a @ b),
    "Equal": _two(lambda a, b: a == b),
    "Less": _two(lambda a, b: a < b),
    "LessOrEqual": _two(lambda a, b: a <= b),
    "Greater": _two(lambda a, b: a > b),
    "GreaterOrEqual": _two(lambda a, b: a >= b),
    "And": _two(lambda a, b: a & b),
    "Or": _two(lambda a, b: a | b),
    "Not": _one(lambda torch, x: ~x),
    "Relu": _one(lambda torch, x: torch.relu(x)),
    "Sigmoid": _one(lambda torch, x: torch.sigmoid(x)),
    "Tanh": _one(lambda torch, x: torch.tanh(x)),
    "Erf": _one(lambda torch, x: torch.erf(x)),
    "Exp": _one(lambda torch, x: torch.exp(x)),
    "Sqrt": _one(lambda torch, x: torch.sqrt(x)),
    "Neg": _one(lambda torch, x: -x),
    "Reciprocal": _one(lambda torch, x: 1 / x),
    "HardSwish": _one(lambda torch, x: torch.nn.functional.hardswish(x)),
    "Identity": _one(lambda torch, x: x),
    "Dropout": _one(lambda torch, x: x),
    "Max": lambda torch, node, x: reduce(torch.maximum, x),
    "Min": lambda torch, node, x: reduce(torch.minimum, x),
    "Where": lambda torch, node, x: torch.where(x[0], x[1], x[2]),
    "Cast": _cast,
}
