"""Operators that work number by number, and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.random_graphs.builder import G, Impossible, Size, T, stretch

EXACT = ("Relu", "Neg", "Abs", "Identity", "Dropout")
SMOOTH = ("Sigmoid", "Tanh", "Erf", "Sin", "Cos", "Softplus", "Softsign", "Elu", "LeakyRelu", "HardSigmoid", "Selu")
STEPPED = ("Floor", "Ceil", "Round", "Sign")
GUARDED = ("Log", "Sqrt", "Reciprocal")
SINCE = {"HardSwish": 14, "Mish": 18, "Gelu": 20, "Celu": 12, "Round": 11, "Sign": 9, "Erf": 9, "Sin": 7}
FIRST_ONLY_FLOAT32 = frozenset({"Erf", "Softsign", "Elu", "HardSigmoid", "Selu", "LeakyRelu", "Softplus"})


def unary(g: G) -> None:
    kind = g.one(*EXACT, *SMOOTH, "HardSwish", "Mish", "Gelu", "Celu", "ThresholdedRelu")
    if g.opset < SINCE.get(kind, 1):
        raise Impossible
    x = g.float_(kind="float32" if kind not in EXACT else None)
    if x.kind == "float16":
        raise Impossible
    if kind == "ThresholdedRelu" and not x.exact:
        raise Impossible
    more = {"alpha": 0.3} if kind in ("LeakyRelu", "ThresholdedRelu") else {}
    g.add(kind, [x], x.shape, x.kind, exact=x.exact and kind in EXACT, **more)


def stepped(g: G) -> None:
    kind = g.one(*STEPPED)
    if g.opset < SINCE.get(kind, 1):
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.exact)
    g.add(kind, [x], x.shape, x.kind, exact=True)


def guarded(g: G) -> None:
    x = g.float_()
    if g.flip(0.3) and x.exact:
        g.add(g.one(*GUARDED), [x], x.shape, x.kind)
        return
    g.add(g.one(*GUARDED), [g.safe(x)], x.shape, x.kind)


def decay(g: G) -> None:
    x = g.float_()
    g.add("Exp", [g.add("Neg", [g.add("Abs", [x], x.shape, x.kind)], x.shape, x.kind)], x.shape, x.kind)


def operand(g: G, x: T) -> T:
    """A constant that stands well beside ``x``; often one that changes nothing."""
    sizes = [d if isinstance(d, int) else 1 for d in x.shape]
    at = int(g.random.integers(x.rank + 1))
    shape = g.one((), (1,), tuple(sizes[at:]), tuple(sizes[-1:]), (*sizes[1:2], *[1] * (x.rank - 2)))
    try:
        stretch(x.shape, shape)
    except Impossible:
        shape = ()
    if g.flip(0.3):
        return g.const(np.full(shape, g.one(0.0, 1.0, -0.0, -1.0)), x.kind)
    array = g.random.standard_normal(shape) + g.one(0, 2)
    return g.const(array, x.kind)


def binary(g: G) -> None:
    x = g.float_(kind=g.one("float32", "float32", "float32", "float64"))
    kind = g.one("Add", "Sub", "Mul", "Div", "Min", "Max", "Add", "Mul")
    y = operand(g, x) if g.flip(0.6) else g.pick(lambda v: v.kind == x.kind)
    first, second = (y, x) if g.flip(0.35) else (x, y)
    if kind == "Div" and second.name == x.name:
        second = g.safe(second)
    if kind in ("Min", "Max") and x.kind != "float32":
        raise Impossible
    exact = kind in ("Min", "Max") and x.exact and y.exact
    g.add(kind, [first, second], stretch(x.shape, y.shape), x.kind, exact=exact)


def power(g: G) -> None:
    x = g.float_()
    g.add("Pow", [g.safe(x), g.const(np.array(g.one(0.5, 1.0, 2.0)), "float32")], x.shape, x.kind)


def many(g: G) -> None:
    x = g.float_()
    y = g.pick(lambda v: v.kind == "float32" and v.shape == x.shape)
    g.add(g.one("Sum", "Mean", "Max", "Min"), [x, y, x][: g.one(1, 2, 3)], x.shape, x.kind)


def clip(g: G) -> None:
    x = g.float_()
    low, high = sorted(g.random.standard_normal(2))
    if g.opset < 11:
        g.add("Clip", [x], x.shape, x.kind, exact=x.exact, min=float(low), max=float(high))
        return
    ends = [g.const(np.array(v), "float32") for v in (low, high)]
    inputs = g.one([x, *ends], [x, ends[0]], [x, "", ends[1]])
    g.add("Clip", inputs, x.shape, x.kind, exact=x.exact)


def compare(g: G) -> None:
    x = g.pick(lambda v: v.exact and v.kind in ("float32", "int64", "int32"))
    kind = g.one("Less", "Greater", "Equal")
    if kind == "Equal" and x.floating and g.opset < 11:
        raise Impossible
    if kind != "Equal" and not x.floating and g.opset < 9:
        raise Impossible
    y = g.const(np.array(g.one(0, 1, 2)), x.kind) if g.flip() else g.pick(lambda v: v.exact and v.kind == x.kind)
    g.add(kind, [x, y], stretch(x.shape, y.shape), "bool", exact=True)


def logic(g: G) -> None:
    x = g.pick(lambda v: v.kind == "bool" and v.rank > 0)
    if g.flip(0.4):
        g.add("Not", [x], x.shape, "bool", exact=True)
        return
    y = g.pick(lambda v: v.kind == "bool")
    g.add(g.one("And", "Or", "Xor"), [x, y], stretch(x.shape, y.shape), "bool", exact=True)


def where(g: G) -> None:
    if g.opset < 9:
        raise Impossible
    c, x = g.pick(lambda v: v.kind == "bool"), g.pick(lambda v: v.kind in ("float32", "int64"))
    y = g.const(np.array(g.one(0, 1, -2)), x.kind) if g.flip() else g.pick(lambda v: v.kind == x.kind)
    g.add("Where", [c, x, y], stretch(c.shape, stretch(x.shape, y.shape)), x.kind, exact=x.exact and y.exact)


def questions(g: G) -> None:
    kind = g.one("IsNaN", "IsInf")
    if g.opset < (9 if kind == "IsNaN" else 10):
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.exact)
    g.add(kind, [x], x.shape, "bool", exact=True)


def cast(g: G) -> None:
    x = g.pick()
    target = g.one("float32", "float32", "float64", "int64", "int32", "bool", "float16")
    if x.floating and not target.startswith("float") and not x.exact:
        raise Impossible
    if target == "float16" and not x.exact:
        raise Impossible
    from benchmarks.random_graphs.builder import PROTO

    if x.floating and target in ("int64", "int32"):  # beyond the type's range each runtime has its own answer
        if x.kind != "float32" or g.opset < 11:
            raise Impossible
        ends = [g.const(np.array(v), "float32") for v in (-1e6, 1e6)]
        held = g.add("Clip", [x, *ends], x.shape, x.kind, exact=True)
        x = g.add(
            "Where", [g.add("IsNaN", [held], x.shape, "bool", exact=True), ends[1], held], x.shape, x.kind, exact=True
        )
    g.add("Cast", [x], x.shape, target, exact=x.exact, to=PROTO[target])


def whole(g: G) -> None:
    """Arithmetic on integers."""
    x = g.pick(lambda v: v.kind in ("int64", "int32"))
    kind = g.one("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs")
    if kind in ("Neg", "Abs"):
        g.add(kind, [x], x.shape, x.kind, exact=True)
        return
    if kind == "Mod" and g.opset < 10:
        raise Impossible
    number = g.one(1, 2, 3, -3) if kind in ("Div", "Mod") else g.one(0, 1, 2, -5)
    y = g.const(np.array(number), x.kind)
    if g.flip(0.3) and kind not in ("Div", "Mod"):
        y = g.pick(lambda v: v.kind == x.kind)
    g.add(kind, [x, y], stretch(x.shape, y.shape), x.kind, exact=True)


def reduced(x: T, axes: list[int], keep: int) -> list[Size]:
    return [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]


def reduce(g: G) -> None:
    x = g.pick(lambda v: v.kind == "float32" and v.rank > 0)
    kind = g.one("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp")
    axes = sorted({int(a) for a in g.random.integers(0, x.rank, g.one(1, 2))})
    if kind in ("Max", "Min", "Mean", "LogSumExp") and any(not isinstance(x.shape[a], int) for a in axes):
        raise Impossible
    keep = g.one(0, 1)
    told = [a - x.rank if g.flip(0.3) and g.opset >= 11 else a for a in axes]
    more, attrs = g.attributed(13 if kind == "Sum" else 18, "axes", told)
    g.add(
        f"Reduce{kind}", [x, *more], reduced(x, axes, keep), x.kind, exact=x.exact and kind in ("Max", "Min"),
        keepdims=keep, **attrs,
    )  # fmt: skip


def arg(g: G) -> None:
    x = g.pick(lambda v: v.kind == "float32" and v.exact and v.rank > 0)
    axis = int(g.random.integers(x.rank))
    if not isinstance(x.shape[axis], int):
        raise Impossible
    keep = g.one(0, 1)
    g.add(g.one("ArgMax", "ArgMin"), [x], reduced(x, [axis], keep), "int64", exact=True, axis=axis, keepdims=keep)


def soft(g: G) -> None:
    x = g.float_()
    kind = g.one("Softmax", "LogSoftmax", "Hardmax")
    if x.rank == 0 or (kind == "Hardmax" and not x.exact):
        raise Impossible
    more: dict[str, Any] = {"axis": int(g.random.integers(x.rank))} if g.flip(0.7) else {}
    g.add(kind, [x], x.shape, x.kind, **more)


def cumulate(g: G) -> None:
    if g.opset < 11:
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.rank > 0)
    axis = g.const(np.array(int(g.random.integers(x.rank))), "int64")
    g.add("CumSum", [x, axis], x.shape, x.kind, exclusive=g.one(0, 1), reverse=g.one(0, 1))


STEPS = (
    unary, unary, unary, stepped, guarded, decay, binary, binary, binary, binary, power, many, clip, compare, logic,
    where, questions, cast, cast, whole, reduce, reduce, arg, soft, cumulate,
)  # fmt: skip
