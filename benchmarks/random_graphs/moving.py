"""Operators that move, pick, repeat or make elements, and arithmetic on sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.random_graphs.builder import WIDEST, G, Impossible, Size, T, number

FAR = int(np.iinfo(np.int64).max)


def movable(v: T) -> bool:
    """Has it axes, and a type that every runtime moves?"""
    return v.rank > 0 and v.kind in ("float32", "float64", "int64", "bool")


def transpose(g: G) -> None:
    x = g.pick(lambda v: v.rank > 1)
    perm = [int(i) for i in g.random.permutation(x.rank)]
    if g.flip(0.15):
        perm = sorted(perm)
    y = g.add("Transpose", [x], [x.shape[i] for i in perm], x.kind, exact=x.exact, perm=perm)
    if g.flip(0.4):
        if y.kind == "float32" and g.flip():
            y = g.add(g.one("Relu", "Neg", "Tanh"), [y], y.shape, y.kind)
        back = [int(i) for i in (np.argsort(perm) if g.flip() else g.random.permutation(x.rank))]
        g.add("Transpose", [y], [y.shape[i] for i in back], y.kind, exact=y.exact, perm=back)


def reshape(g: G) -> None:
    """By numbers: whole axes joined, one cut in two, 0 and -1."""
    x = g.pick(lambda v: movable(v) and v.rank > 1)
    at = int(g.random.integers(x.rank - 1))
    a, b = x.shape[at], x.shape[at + 1]
    joined: Size = a * b if isinstance(a, int) and isinstance(b, int) else f"{a}*{b}"
    shape = [*x.shape[:at], joined, *x.shape[at + 2 :]]
    if isinstance(joined, int) and joined % 2 == 0 and g.flip() and x.rank < WIDEST:
        shape = [*x.shape[:at], 2, joined // 2, *x.shape[at + 2 :]]
    told = [d if isinstance(d, int) else 0 if i < at else -1 for i, d in enumerate(shape)]
    if told.count(-1) > 1:
        raise Impossible
    if -1 not in told and g.flip():
        told[int(g.random.integers(len(told)))] = -1
    y = g.add("Reshape", [x, g.ints(*told)], shape, x.kind, exact=x.exact)
    if g.flip(0.3) and all(d in ("b", "t") or isinstance(d, int) for d in x.shape) and x.shape[0] == y.shape[0]:
        free = [d for d in x.shape if isinstance(d, str)]
        if free == [x.shape[0]] or not free:
            g.add("Reshape", [y, g.ints(0, *(int(d) for d in x.shape[1:]))], x.shape, x.kind, exact=x.exact)


def sizes(g: G, x: T) -> T:
    """The shape of ``x``, counted at run time."""
    return g.add("Shape", [x], [x.rank], "int64", exact=True)


def take(g: G, vector: T, low: int, high: int) -> T:
    """Entries of a vector of sizes."""
    if g.opset < 10:
        return g.add("Slice", [vector], [high - low], "int64", exact=True, starts=[low], ends=[high], axes=[0])
    return g.add("Slice", [vector, g.ints(low), g.ints(high), g.ints(0)], [high - low], "int64", exact=True)


def computed_reshape(g: G) -> None:
    """As exporters write it: sizes from Shape, put together with numbers."""
    x = g.pick(lambda v: movable(v) and v.rank > 1)
    shape = sizes(g, x)
    cut = int(g.random.integers(1, x.rank))
    rest = x.shape[cut:]
    first = take(g, shape, 0, cut)
    if g.flip() and all(isinstance(d, int) for d in rest):
        total = math.prod(int(d) for d in rest)
        told, out = ([total], [total]) if g.flip() else ([-1], [total])
        if total % 2 == 0 and g.flip():
            told, out = [2, total // 2], [2, total // 2]
        target = g.add("Concat", [first, g.ints(*told)], [cut + len(told)], "int64", exact=True, axis=0)
        g.add("Reshape", [x, target], [*x.shape[:cut], *out], x.kind, exact=x.exact)
        return
    target = g.add("Concat", [take(g, shape, cut, x.rank), first], [x.rank], "int64", exact=True, axis=0)
    g.add("Reshape", [x, target], [*rest, *x.shape[:cut]], x.kind, exact=x.exact)


def counted(g: G) -> None:
    """Sizes as numbers to compute with."""
    x = g.pick(movable)
    if g.flip(0.3):
        y = g.add("Size", [x], [], "int64", exact=True)
    else:
        index = g.const(np.array(int(g.random.integers(-x.rank if g.opset >= 11 else 0, x.rank))))
        y = g.add("Gather", [sizes(g, x), index], [], "int64", exact=True, axis=0)
    f = g.pick(lambda v: v.kind == "float32")
    n = g.add("Cast", [y], [], "float32", to=1)
    g.add(g.one("Mul", "Add"), [f, n], f.shape, f.kind)


def filled(g: G) -> None:
    if g.opset < 9:
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.rank > 0)
    full = g.add("ConstantOfShape", [sizes(g, x)], x.shape, "float32", exact=True)
    g.add(g.one("Add", "Sub", "Mul"), [x, full], x.shape, x.kind)


def expand(g: G) -> None:
    x = g.pick(movable)
    other = g.pick(lambda v: movable(v) and v.rank >= x.rank)
    tail = other.shape[other.rank - x.rank :]
    if any(d not in (1, o) for d, o in zip(x.shape, tail, strict=True)) or x.kind == "bool":
        raise Impossible
    y = g.add("Expand", [x, sizes(g, other)], other.shape, x.kind, exact=x.exact)
    if g.flip() and other.kind == "float32" == x.kind:
        g.add(g.one("Add", "Mul", "Sub"), [y, other], other.shape, x.kind)


def ones(g: G) -> None:
    """Axes of size one come and go."""
    x = g.pick(movable)
    axis = int(g.random.integers(x.rank + 1))
    if x.rank >= WIDEST:
        raise Impossible
    y = g.unsqueeze(x, axis)
    if g.flip(0.4):
        more, attrs = g.attributed(13, "axes", [axis])
        g.add("Squeeze", [y, *more], x.shape, x.kind, exact=x.exact, **attrs)


def flatten(g: G) -> None:
    x = g.pick(lambda v: movable(v) and v.kind == "float32" and all(isinstance(d, int) for d in v.shape[1:]))
    g.add("Flatten", [x], [x.shape[0], math.prod(int(d) for d in x.shape[1:])], x.kind, exact=x.exact)


def slice_(g: G) -> None:
    x = g.pick(movable)
    axis = int(g.random.integers(x.rank))
    n = x.shape[axis]
    step = g.one(1, 1, 1, -1, 2) if g.opset >= 10 else 1
    if isinstance(n, int) and n > 0 and g.flip(0.7):
        low = int(g.random.integers(n))
        high = int(g.random.integers(low, n + 1))
        out: Size = len(range(n)[low:high:step])
        told = [low - n if g.flip(0.3) and low else low, high if high < n else g.one(n, FAR)]
        if step == -1:
            told, out = [high - 1, low - 1] if low else [high - 1, -FAR], high - low
            if high == 0:
                raise Impossible
    else:
        told, out, step = ([0, FAR], n, 1) if g.flip() else ([1, FAR], g.fresh("cut"), 1)
    if g.opset < 10:
        g.add("Slice", [x], [*x.shape[:axis], out, *x.shape[axis + 1 :]], x.kind, exact=x.exact,
              starts=told[:1], ends=told[1:], axes=[axis])  # fmt: skip
        return
    inputs = [x, g.ints(told[0]), g.ints(told[1]), g.ints(axis), *([g.ints(step)] if step != 1 else [])]
    g.add("Slice", inputs, [*x.shape[:axis], out, *x.shape[axis + 1 :]], x.kind, exact=x.exact)


def concat(g: G) -> None:
    x = g.pick(movable)
    axis = int(g.random.integers(x.rank))

    def fits(v: T) -> bool:
        return v.kind == x.kind and v.rank == x.rank and all(
            i == axis or a == b for i, (a, b) in enumerate(zip(v.shape, x.shape, strict=True))
        )  # fmt: skip

    parts = [x, *(g.pick(fits) for _ in range(g.one(0, 1, 1, 2)))]
    known = [p.shape[axis] for p in parts]
    out: Size = sum(int(d) for d in known) if all(isinstance(d, int) for d in known) else g.fresh("sum")
    if len(parts) == 1:
        out = x.shape[axis]
    g.add("Concat", parts, [*x.shape[:axis], out, *x.shape[axis + 1 :]], x.kind,
          exact=all(p.exact for p in parts), axis=axis - x.rank if g.flip(0.3) and g.opset >= 11 else axis)  # fmt: skip


def split(g: G) -> None:
    x = g.pick(lambda v: movable(v) and any(isinstance(d, int) and d > 1 for d in v.shape))
    axis = g.one(*(i for i, d in enumerate(x.shape) if isinstance(d, int) and d > 1))
    n = number(x.shape[axis])
    cut = int(g.random.integers(1, n))
    parts = [cut, n - cut]
    more, attrs = g.attributed(13, "split", parts)
    outs = [([*x.shape[:axis], p, *x.shape[axis + 1 :]], x.kind, x.exact) for p in parts]
    g.many("Split", [x, *more], outs, axis=axis, **attrs)


def pad(g: G) -> None:
    x = g.pick(lambda v: v.kind == "float32" and v.rank > 0)
    mode = g.one("constant", "constant", "reflect", "edge")
    pads = np.zeros((2, x.rank), int)
    for axis, d in enumerate(x.shape):
        if isinstance(d, int) and d > 1 and g.flip():
            pads[:, axis] = g.random.integers(0, min(d, 3), 2)
    shape = [d if isinstance(d, str) else d + int(p) for d, p in zip(x.shape, pads.sum(axis=0), strict=True)]
    told = [int(p) for p in pads.reshape(-1)]
    if g.opset < 11:
        g.add("Pad", [x], shape, x.kind, exact=x.exact, pads=told, mode=mode)
        return
    fill = [g.const(np.array(g.one(0.0, 1.5)), "float32")] if mode == "constant" and g.flip() else []
    g.add("Pad", [x, g.ints(*told), *fill], shape, x.kind, exact=x.exact, mode=mode)


def tile(g: G) -> None:
    x = g.pick(movable)
    times = [g.one(1, 1, 2) if isinstance(d, int) else 1 for d in x.shape]
    shape = [d if isinstance(d, str) else d * n for d, n in zip(x.shape, times, strict=True)]
    if x.kind == "bool" or any(isinstance(d, int) and d > 24 for d in shape):
        raise Impossible
    g.add("Tile", [x, g.ints(*times)], shape, x.kind, exact=x.exact)


def wrapped(g: G, n: int) -> T:
    """Places on an axis of ``n``: computed, from the front or the back, always there."""
    kind = lambda v: v.kind == "int64" and v.rank in (1, 2)  # noqa: E731
    if g.opset < 11 or n == 0:
        raise Impossible
    x = g.pick(kind)
    inside = g.add("Mod", [x, g.const(np.array(n))], x.shape, "int64", exact=True)
    if g.flip(0.4):
        return g.add("Sub", [inside, g.const(np.array(n))], x.shape, "int64", exact=True)
    return inside


def gather(g: G) -> None:
    x = g.pick(lambda v: movable(v) and any(isinstance(d, int) and d > 0 for d in v.shape))
    axis = g.one(*(i for i, d in enumerate(x.shape) if isinstance(d, int) and d > 0))
    n = number(x.shape[axis])
    if g.flip(0.6):
        rank = g.one(0, 1, 1, 2)
        places = g.const(g.random.integers(-n if g.opset >= 11 else 0, n, [2] * rank))
    else:
        places = wrapped(g, n)
    shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]]
    if len(shape) > WIDEST:
        raise Impossible
    g.add("Gather", [x, places], shape, x.kind, exact=x.exact, axis=axis)


def embedding(g: G) -> None:
    """A table, and what is computed from its rows alone."""
    n, width = g.one(3, 5), g.one(2, 4)
    rows = wrapped(g, n)
    y = g.add("Gather", [g.w(n, width), rows], [*rows.shape, width], "float32", exact=True, axis=0)
    for _ in range(g.one(1, 2, 3)):
        kind = g.one("Relu", "Add", "MatMul", "Softmax", "Mul", "Tanh")
        more = {"MatMul": [g.w(width, width)], "Add": [g.w(width)], "Mul": [g.w(1)]}.get(kind, [])
        along: dict[str, Any] = {"axis": y.rank - 1} if kind == "Softmax" else {}
        y = g.add(kind, [y, *more], y.shape, "float32", **along)


def elements(g: G) -> None:
    if g.opset < 11:
        raise Impossible
    x = g.pick(lambda v: movable(v) and v.kind == "float32" and all(isinstance(d, int) and d > 0 for d in v.shape))
    axis = int(g.random.integers(x.rank))
    n, sizes_ = number(x.shape[axis]), [number(d) for d in x.shape]
    places = g.const(g.random.integers(-n, n, sizes_))
    if g.flip():
        g.add("GatherElements", [x, places], x.shape, x.kind, exact=x.exact, axis=axis)
    elif n > 0:
        order = g.const(np.argsort(g.random.random(sizes_), axis=axis))
        g.add("ScatterElements", [x, order, x], x.shape, x.kind, exact=x.exact, axis=axis)


def nd(g: G) -> None:
    if g.opset < 12:
        raise Impossible
    x = g.pick(lambda v: movable(v) and v.kind == "float32" and isinstance(v.shape[0], int) and v.shape[0] > 0)
    n = number(x.shape[0])
    if g.flip():
        places = g.const(g.random.integers(-n, n, (3, 1)))
        g.add("GatherND", [x, places], [3, *x.shape[1:]], x.kind, exact=x.exact)
        return
    order = g.const(g.random.permutation(n)[:, None].astype(np.int64))
    g.add("ScatterND", [x, order, x], x.shape, x.kind, exact=x.exact)


def one_hot(g: G) -> None:
    """With the product that often follows."""
    if g.opset < 11:
        raise Impossible
    x, n = g.pick(lambda v: v.kind == "int64" and v.rank in (1, 2)), g.one(3, 4)
    kind = g.one(0, 1, 2)
    shape = [*x.shape, n]
    if kind == 0:
        ends = g.const(np.array([0, 1]), "float32")
        hot = g.add("OneHot", [x, g.const(np.array(n)), ends], shape, "float32", exact=True)
    else:
        column = g.unsqueeze(x, x.rank)
        if kind == 2:
            column = g.add("Cast", [column], column.shape, "float32", exact=True, to=1)
        same = g.add("Equal", [column, g.const(np.arange(n), column.kind)], shape, "bool", exact=True)
        hot = g.add("Cast", [same], shape, "float32", exact=True, to=1)
    if g.flip(0.8):
        g.add("MatMul", [hot, g.w(n, 3)], [*x.shape, 3], "float32")


def places(g: G) -> None:
    """NonZero, Range and TopK."""
    kind = g.one("NonZero", "Range", "TopK")
    if kind == "NonZero" and g.opset >= 9:
        x = g.pick(lambda v: v.exact and v.rank > 0 and v.kind in ("bool", "int64", "float32"))
        g.add("NonZero", [x], [x.rank, g.fresh("found")], "int64", exact=True)
    elif kind == "Range" and g.opset >= 11:
        x = g.pick(movable)
        n = g.add("Gather", [sizes(g, x), g.const(np.array(0))], [], "int64", exact=True, axis=0)
        ends = [g.const(np.array(0)), n, g.const(np.array(1))]
        g.add("Range", ends, [x.shape[0]], "int64", exact=True)
    elif kind == "TopK" and g.opset >= 11:
        x = g.pick(lambda v: v.exact and v.kind == "float32" and v.rank > 0 and isinstance(v.shape[-1], int))
        most = number(x.shape[-1])
        k = int(g.random.integers(1, most + 1)) if most else 0
        shape = [*x.shape[:-1], k]
        g.many("TopK", [x, g.ints(k)], [(shape, x.kind, True), (shape, "int64", True)], axis=-1)
    else:
        raise Impossible


def triangle(g: G) -> None:
    if g.opset < 14:
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.rank >= 2)
    g.add("Trilu", [x], x.shape, x.kind, exact=x.exact, upper=g.one(0, 1))


def sequence(g: G) -> None:
    """A tensor cut into a sequence whose parts are picked by number."""
    if g.opset < 11:
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.rank > 1 and isinstance(v.shape[-1], int) and v.shape[-1] >= 2)
    name, n = g.fresh(), number(x.shape[-1])
    from onnx import helper

    g.nodes.append(helper.make_node("SplitToSequence", [x.name, g.const(np.array(1)).name], [name], axis=x.rank - 1))
    for i in (0, g.one(-1, n - 1)):
        g.add("SequenceAt", [name, g.const(np.array(i))], [*x.shape[:-1], 1], x.kind, exact=x.exact)


STEPS = (
    transpose, transpose, reshape, reshape, computed_reshape, computed_reshape, counted, filled, expand, ones, flatten,
    slice_, slice_, concat, split, pad, tile, gather, gather, embedding, elements, nd, one_hot, places, triangle,
    sequence,
)  # fmt: skip
