"""Products, convolutions, pools, norms and recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.random_graphs.builder import G, Impossible, Size, T, number
from benchmarks.random_graphs.elementwise import operand


def affine(g: G, x: T) -> T:
    """A scale or a shift behind ``x``, often."""
    for _ in range(g.one(0, 0, 1, 2)):
        kind = g.one("Mul", "Add", "Div", "Sub", "Neg", "Relu")
        if kind in ("Neg", "Relu"):
            x = g.add(kind, [x], x.shape, x.kind)
            continue
        y = operand(g, x)
        try:
            from benchmarks.random_graphs.builder import stretch

            x = g.add(kind, [x, y], stretch(x.shape, y.shape), x.kind)
        except Impossible:
            return x
    return x


def product(g: G) -> None:
    x = g.float_()
    if x.rank < 1:
        raise Impossible
    k, n = number(x.shape[-1]), g.one(1, 2, 3, 5)
    if k == 0:
        raise Impossible
    if x.rank == 2 and g.flip(0.4):
        turned = g.one(0, 1)
        w = g.w(n, k) if turned else g.w(k, n)
        bias = [g.w(*g.one((n,), (1, n), ()))] if g.flip() or g.opset < 11 else []
        more: dict[str, Any] = {"transB": turned}
        if g.flip(0.3):
            more |= {"alpha": 0.5, "beta": g.one(1.0, 2.0)}
        affine(g, g.add("Gemm", [x, w, *bias], [x.shape[0], n], x.kind, **more))
        return
    y = g.add("MatMul", [x, g.w(k, n)], [*x.shape[:-1], n], x.kind)
    if g.flip():
        y = g.add("Add", [y, g.w(n)], y.shape, y.kind)
    y = affine(g, y)
    if g.flip(0.3) and y.shape[-1] == n:
        g.add("MatMul", [y, g.w(n, 2)], [*y.shape[:-1], 2], x.kind)


def between(g: G) -> None:
    """A product of two computed values."""
    x = g.pick(lambda v: v.kind == "float32" and v.rank >= 2)
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    y = g.add("Transpose", [x], [x.shape[i] for i in perm], x.kind, exact=x.exact, perm=perm)
    shape = [*x.shape[:-1], x.shape[-2]]
    if g.opset >= 12 and g.flip(0.3) and x.rank == 3:
        g.add("Einsum", [x, x], shape, x.kind, equation="bij,bkj->bik")
    else:
        g.add("MatMul", [x, y], shape, x.kind)


def image(g: G) -> T:
    x = g.pick(lambda v: v.kind == "float32" and v.rank == 4 and isinstance(v.shape[1], int) and v.shape[1] > 0)
    if any(isinstance(d, int) and d < 1 for d in x.shape):
        raise Impossible
    return x


def conv(g: G) -> None:
    x = image(g)
    c, h, w = number(x.shape[1]), number(x.shape[2]), number(x.shape[3])
    if g.flip(0.25):
        x = affine(g, x)
    if g.flip(0.2) and g.opset >= 11 and x.shape[1] == c:
        x = g.add("Pad", [x, g.ints(0, 0, 1, 0, 0, 0, 0, 1)], [x.shape[0], c, h + 1, w + 1], x.kind)
        h, w = h + 1, w + 1
    if x.shape[1:] != (c, h, w):
        raise Impossible
    k = min(g.one(1, 2, 3), h, w)
    group = g.one(1, c) if c > 1 else 1
    out = g.one(2, 4) if group == 1 else c
    p, s = g.one(0, 0, 1) if k > 1 else 0, g.one(1, 1, 2)
    bias = [g.w(out)] if g.flip() else []
    shape: list[Size] = [x.shape[0], out, (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1]
    more: dict[str, Any] = {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4, "group": group}
    y = g.add("Conv", [x, g.w(out, c // group, k, k), *bias], shape, x.kind, **more)
    if g.flip(0.4):
        y = norm(g, y, out)
    affine(g, y)
    if g.flip(0.2):
        g.add("Conv", [x, g.w(out, c // group, k, k), *bias], shape, x.kind, **more)


def norm(g: G, x: T, c: int) -> T:
    parts = [g.w(c, shift=1), g.w(c), g.w(c)]
    variance = g.const(g.random.uniform(0.5, 2, c), "float32")
    return g.add("BatchNormalization", [x, *parts, variance], x.shape, x.kind)


def norms(g: G) -> None:
    x = g.pick(lambda v: v.kind == "float32" and v.rank >= 2 and isinstance(v.shape[1], int))
    c = number(x.shape[1])
    if c == 0:
        raise Impossible
    if g.flip(0.4):
        norm(g, x, c)
    elif g.opset >= 17 and isinstance(x.shape[-1], int) and g.flip():
        n = number(x.shape[-1])
        more = [g.w(n)] if g.flip() else []
        g.add("LayerNormalization", [x, g.w(n, shift=1), *more], x.shape, x.kind, axis=-1, epsilon=1e-2)
    elif x.rank >= 3 and all(isinstance(d, int) and d > 0 for d in x.shape[2:]):
        g.add("InstanceNormalization", [x, g.w(c, shift=1), g.w(c)], x.shape, x.kind, epsilon=1e-2)
    else:
        g.add("LpNormalization", [g.safe(x)], x.shape, x.kind, axis=1, p=g.one(1, 2))


def turned(g: G) -> None:
    x = image(g)
    c, h, w = number(x.shape[1]), number(x.shape[2]), number(x.shape[3])
    if h * w > 80:
        raise Impossible
    k, s = g.one(1, 2, 3), g.one(1, 2)
    p = g.one(0, 1) if k == 3 else 0
    bias = [g.w(3)] if g.flip() else []
    shape: list[Size] = [x.shape[0], 3, *(s * (d - 1) + k - 2 * p for d in (h, w))]
    more: dict[str, Any] = {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4}
    y = g.add("ConvTranspose", [x, g.w(c, 3, k, k), *bias], shape, x.kind, **more)
    affine(g, norm(g, y, 3) if g.flip(0.3) else y)


def pool(g: G) -> None:
    x = image(g)
    if g.flip(0.3):
        g.add(g.one("GlobalAveragePool", "GlobalMaxPool"), [x], [*x.shape[:2], 1, 1], x.kind)
        return
    h, w = number(x.shape[2]), number(x.shape[3])
    k, s = min(g.one(1, 2, 3), h, w), g.one(1, 2)
    p, kind = g.one(0, 0, 1) if k > 1 else 0, g.one("MaxPool", "AveragePool")
    ceil = g.one(0, 0, 1) if g.opset >= 10 and p == 0 else 0
    shape: list[Size] = [*x.shape[:2]]
    for d in (h, w):
        n = d + 2 * p - k
        shape.append((-(-n // s) if ceil else n // s) + 1)
    if ceil and any((int(n) - 1) * s >= d for n, d in zip(shape[2:], (h, w), strict=True)):
        raise Impossible
    more: dict[str, Any] = {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4}
    if ceil:
        more["ceil_mode"] = 1
    if kind == "AveragePool" and g.flip(0.3):
        more["count_include_pad"] = 1
    g.add(kind, [x], shape, x.kind, exact=x.exact and kind == "MaxPool", **more)


def resize(g: G) -> None:
    if g.opset < 11:
        raise Impossible
    x = image(g)
    h, w = number(x.shape[2]), number(x.shape[3])
    mode, factor = g.one("nearest", "linear"), g.one(1, 1, 2)
    if h * factor > 16 or w * factor > 16:
        raise Impossible
    shape = [*x.shape[:2], h * factor, w * factor]
    scales = g.const(np.array([1, 1, factor, factor]), "float32")
    where = g.one("asymmetric", "half_pixel")
    roi: T | str = "" if g.opset >= 13 else g.const(np.zeros(0), "float32")
    more = {"nearest_mode": "floor"} if mode == "nearest" else {}
    g.add("Resize", [x, roi, scales], shape, x.kind, exact=x.exact and mode == "nearest", mode=mode,
          coordinate_transformation_mode=where, **more)  # fmt: skip


def shuffle(g: G) -> None:
    x = image(g)
    c, h, w = number(x.shape[1]), number(x.shape[2]), number(x.shape[3])
    if c % 4 == 0 and g.flip():
        more = {"mode": g.one("DCR", "CRD")} if g.opset >= 11 else {}
        g.add("DepthToSpace", [x], [x.shape[0], c // 4, 2 * h, 2 * w], x.kind, exact=x.exact, blocksize=2, **more)
    elif h % 2 == 0 and w % 2 == 0:
        g.add("SpaceToDepth", [x], [x.shape[0], 4 * c, h // 2, w // 2], x.kind, exact=x.exact, blocksize=2)
    else:
        g.add("LRN", [x], x.shape, x.kind, size=3)


def recurrent(g: G) -> None:
    """Over [t, b, k]."""
    x = g.pick(lambda v: v.kind == "float32" and v.rank == 3 and isinstance(v.shape[2], int) and v.shape[2] > 0)
    kind, k, h = g.one("LSTM", "GRU", "RNN"), number(x.shape[2]), g.one(2, 3)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    both = g.one(1, 1, 2)
    inputs = [x, g.w(both, gates * h, k), g.w(both, gates * h, h), g.w(both, 2 * gates * h)]
    more: dict[str, Any] = {"hidden_size": h, "direction": "bidirectional" if both == 2 else "forward"}
    if kind == "GRU":
        more["linear_before_reset"] = g.one(0, 1)
    t, b, _ = x.shape
    outs: list[tuple[list[Size], str, bool]] = [([t, both, b, h], "float32", False), ([both, b, h], "float32", False)]
    y, _ = g.many(kind, inputs, outs, **more)
    if both == 1:
        axes, attrs = g.attributed(13, "axes", [1])
        g.add("Squeeze", [y, *axes], [t, b, h], "float32", **attrs)


def quantized(g: G) -> None:
    if g.opset < 10:
        raise Impossible
    x = g.pick(lambda v: v.kind == "float32" and v.exact)
    kind = g.one("uint8", "int8")
    scale, zero = g.const(np.array(0.25), "float32"), g.const(np.array(g.one(0, 3)), kind)
    q = g.add("QuantizeLinear", [x, scale, zero], x.shape, kind, exact=True)
    g.add("DequantizeLinear", [q, scale, zero], x.shape, "float32", exact=True)


STEPS = (
    product, product, product, product, between, conv, conv, conv, conv, norms, turned, turned, pool, pool, resize,
    shuffle, recurrent, quantized,
)  # fmt: skip
