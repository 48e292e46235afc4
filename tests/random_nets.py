"""Random networks of everything that channels run through: the fuzz of groups, cuts and rewrites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import helper

from hasten.model import Model
from tests import tiny

SIDE, CHANNELS = 8, 3


@dataclass
class Image:
    """A [batch, c, h, w] tensor on its way."""

    name: str
    c: int
    h: int = SIDE
    w: int = SIDE


@dataclass
class Builder:
    """A network that grows by random steps; ``random`` decides everything."""

    random: np.random.Generator
    net: tiny.Net = field(default_factory=tiny.Net)

    def pick(self, *choices: int) -> int:
        return int(self.random.choice(choices))

    def ints(self, *values: int) -> str:
        return self.net.const(np.array(values, np.int64))

    def flip(self) -> bool:
        return bool(self.random.random() < 0.5)


Step = Callable[[Builder, Image], Image]


def conv(b: Builder, x: Image) -> Image:
    k, out = b.pick(1, 3), b.pick(4, 6, 8, 12)
    stride = 2 if x.h % 2 == 0 and x.h > 2 and b.flip() else 1
    y = b.net.conv(x.name, x.c, out, k, bias=b.flip(), strides=[stride] * 2)
    return Image(y, out, -(-x.h // stride), -(-x.w // stride))


def depthwise(b: Builder, x: Image) -> Image:
    more = b.pick(1, 1, 2)
    return Image(b.net.conv(x.name, x.c, x.c * more, 3, group=x.c), x.c * more, x.h, x.w)


def grouped(b: Builder, x: Image) -> Image:
    return Image(b.net.conv(x.name, x.c, 8, 3, group=2), 8, x.h, x.w) if x.c % 2 == 0 else conv(b, x)


def turned(b: Builder, x: Image) -> Image:
    if x.h > 8:
        return conv(b, x)
    y = b.net.add("ConvTranspose", x.name, b.net.w(x.c, 6, 2, 2), b.net.w(6), strides=[2, 2])
    return Image(y, 6, x.h * 2, x.w * 2)


def norm(b: Builder, x: Image) -> Image:
    if b.flip():
        return Image(b.net.bn(x.name, x.c), x.c, x.h, x.w)
    y = b.net.add("InstanceNormalization", x.name, b.net.w(x.c, shift=1), b.net.w(x.c))
    return Image(y, x.c, x.h, x.w)


def activate(b: Builder, x: Image) -> Image:
    kind = b.random.choice(["Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Clip", "PRelu", "Softplus"])
    more = {"Clip": [b.net.const(np.float32(0)), b.net.const(np.float32(6))], "PRelu": [b.net.w(x.c, 1, 1)]}
    return Image(b.net.add(str(kind), x.name, *more.get(str(kind), [])), x.c, x.h, x.w)


def scale(b: Builder, x: Image) -> Image:
    kind = str(b.random.choice(["Mul", "Add", "Sub"]))
    return Image(b.net.add(kind, x.name, b.net.w(x.c, 1, 1)), x.c, x.h, x.w)


def residual(b: Builder, x: Image) -> Image:
    inner = Image(b.net.conv(x.name, x.c, 8, 3), 8, x.h, x.w)
    for _ in range(b.pick(0, 1, 2)):
        inner = CALM[b.pick(*range(len(CALM)))](b, inner)
    back = b.net.conv(inner.name, inner.c, x.c, 1)
    return Image(b.net.add("Add", back, x.name), x.c, x.h, x.w)


def join(b: Builder, x: Image) -> Image:
    other = b.net.conv(x.name, x.c, 4, 1)
    return Image(b.net.add("Concat", x.name, other, axis=1), x.c + 4, x.h, x.w)


def part(b: Builder, x: Image) -> Image:
    cut = b.pick(*range(1, x.c)) if x.c > 1 else 1
    low, high, axis = b.ints(0), b.ints(cut), b.ints(1)
    first = b.net.add("Slice", x.name, low, high, axis)
    rest = b.net.add("Slice", x.name, high, b.ints(np.iinfo(np.int64).max), axis)
    return Image(b.net.add("Concat", rest, first, axis=1), x.c, x.h, x.w) if x.c > 1 else x


def halves(b: Builder, x: Image) -> Image:
    """A gated unit: half times the sigmoid of the other half."""
    if x.c % 2:
        return conv(b, x)
    sizes = b.ints(x.c // 2, x.c // 2)
    left, right = f"left{len(b.net.nodes)}", f"right{len(b.net.nodes)}"
    b.net.nodes.append(helper.make_node("Split", [x.name, sizes], [left, right], axis=1, name=left))
    return Image(b.net.add("Mul", left, b.net.add("Sigmoid", right)), x.c // 2, x.h, x.w)


def squeeze_excite(b: Builder, x: Image) -> Image:
    gate = b.net.add("Relu", b.net.conv(b.net.add("GlobalAveragePool", x.name), x.c, 4, 1))
    gate = b.net.add("Sigmoid", b.net.conv(gate, 4, x.c, 1))
    return Image(b.net.add("Mul", gate, x.name), x.c, x.h, x.w)


def pool(b: Builder, x: Image) -> Image:
    if x.h % 2 or x.h < 4:
        return activate(b, x)
    kind = "MaxPool" if b.flip() else "AveragePool"
    return Image(
        b.net.add(kind, x.name, kernel_shape=[2, 2], strides=[2, 2]), x.c, x.h // 2, x.w // 2
    )  # fmt: skip


def grow(b: Builder, x: Image) -> Image:
    if x.h > 8:
        return pool(b, x)
    scales = b.net.const(np.array([1, 1, 2, 2], np.float32))
    return Image(b.net.add("Resize", x.name, "", scales, mode="nearest"), x.c, x.h * 2, x.w * 2)


def padded(b: Builder, x: Image) -> Image:
    y = b.net.add("Pad", x.name, b.ints(0, 0, 1, 0, 0, 0, 0, 1))
    return Image(b.net.conv(y, x.c, 6, 2, pads=[0] * 4), 6, x.h, x.w)


def shuffle(b: Builder, x: Image) -> Image:
    if x.c % 2:
        return scale(b, x)
    y = b.net.add("Reshape", x.name, b.ints(0, 2, x.c // 2, x.h, x.w))
    y = b.net.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    return Image(b.net.add("Reshape", y, b.ints(0, x.c, x.h, x.w)), x.c, x.h, x.w)


def last(b: Builder, x: Image) -> Image:
    """Work in channels-last and come back."""
    y = b.net.add("Transpose", x.name, perm=[0, 2, 3, 1])
    y = b.net.add("Add", b.net.add("MatMul", y, b.net.w(x.c, 6)), b.net.w(6))
    return Image(b.net.add("Transpose", b.net.add("Relu", y), perm=[0, 3, 1, 2]), 6, x.h, x.w)


def space_gate(b: Builder, x: Image) -> Image:
    """Mixes all channels: they stay."""
    if b.flip():
        return Image(b.net.add("Softmax", x.name, axis=1), x.c, x.h, x.w)
    gate = b.net.add("Sigmoid", b.net.add("ReduceMean", x.name, axes=[1], keepdims=1))
    return Image(b.net.add("Mul", x.name, gate), x.c, x.h, x.w)


CALM: tuple[Step, ...] = (depthwise, norm, activate, scale, squeeze_excite, part, shuffle)
STEPS: tuple[Step, ...] = (
    *CALM, conv, conv, conv, grouped, turned, residual, residual, join, halves, pool, grow, padded, last, space_gate,
)  # fmt: skip


def head(b: Builder, x: Image) -> None:
    """From pictures to six numbers."""
    if x.h * x.w * x.c > 600 or b.flip():
        flat, width = b.net.add("Flatten", b.net.add("GlobalAveragePool", x.name)), x.c
    elif b.flip():
        flat, width = b.net.add("Reshape", x.name, b.ints(0, -1)), x.c * x.h * x.w
    else:
        y = b.net.add("Transpose", x.name, perm=[0, 2, 3, 1])
        flat, width = b.net.add("Flatten", y), x.c * x.h * x.w
    h = b.net.add("Relu", b.net.add("Gemm", flat, b.net.w(10, width), b.net.w(10), transB=1))
    b.net.add("Add", b.net.add("MatMul", h, b.net.w(10, 6)), b.net.w(6), out="y")


def attention(b: Builder, x: str, s: int, d: int, heads: int) -> str:
    net, each = b.net, d // heads

    def split_heads(y: str) -> str:
        return net.add("Transpose", net.add("Reshape", y, b.ints(0, s, heads, each)), perm=[0, 2, 1, 3])

    if b.flip():
        q, k, v = (net.add("Add", net.add("MatMul", x, net.w(d, d)), net.w(d)) for _ in range(3))
    else:
        both = net.add("Add", net.add("MatMul", x, net.w(d, 3 * d)), net.w(3 * d))
        names = [f"{part}{len(net.nodes)}" for part in "qkv"]
        sizes = b.ints(d, d, d)
        net.nodes.append(helper.make_node("Split", [both, sizes], names, axis=-1, name=names[0]))
        q, k, v = names
    scores = net.add("MatMul", split_heads(q), net.add("Transpose", split_heads(k), perm=[0, 1, 3, 2]))
    weights = net.add("Softmax", net.add("Mul", scores, net.const(np.float32(each**-0.5))), axis=-1)
    mixed = net.add("Transpose", net.add("MatMul", weights, split_heads(v)), perm=[0, 2, 1, 3])
    return net.add("MatMul", net.add("Reshape", mixed, b.ints(0, 0, -1)), net.w(d, d))


def feed_forward(b: Builder, x: str, d: int) -> str:
    net, width = b.net, b.pick(8, 16, 20)
    h = net.add("Add", net.add("MatMul", x, net.w(d, width)), net.w(width))
    e = net.add("Erf", net.add("Div", h, net.const(np.float32(2**0.5))))
    h = net.add("Mul", net.add("Mul", h, net.add("Add", e, net.const(np.float32(1)))), net.const(np.float32(0.5)))
    return net.add("Add", net.add("MatMul", h, net.w(width, d)), net.w(d))


def sequence(b: Builder, x: Image) -> None:
    """From pictures through a transformer or an LSTM to six numbers."""
    net, d, s = b.net, 12, x.h * x.w
    y = net.add("Transpose", net.add("Reshape", x.name, b.ints(0, x.c, -1)), perm=[0, 2, 1])
    y = net.add("Add", net.add("MatMul", y, net.w(x.c, d)), net.w(s, d))
    for _ in range(b.pick(1, 2)):
        for inner in (attention(b, y, s, d, b.pick(2, 3, 4)), feed_forward(b, y, d)):
            y = net.add("Add", y, inner)
            if b.flip():
                y = net.add("LayerNormalization", y, net.w(d, shift=1), net.w(d), axis=-1)
    if b.flip():
        h = 5
        turned = net.add("Transpose", net.add("Relu", net.add("MatMul", y, net.w(d, 8))), perm=[1, 0, 2])
        name = net.add("LSTM", turned, net.w(1, 4 * h, 8), net.w(1, 4 * h, h), net.w(1, 8 * h), hidden_size=h)
        y, d = net.add("Transpose", net.add("Squeeze", name, b.ints(1)), perm=[1, 0, 2]), h
    pooled = net.add("ReduceMean", y, axes=[1], keepdims=0)
    net.add("Gemm", pooled, net.w(d, 6), net.w(6), out="y")


def random_net(seed: int, steps: int = 7) -> Model:
    """x[batch, 3, 8, 8] to y[batch, 6] through random steps."""
    b = Builder(np.random.default_rng(seed), tiny.Net(seed=seed))
    x = conv(b, Image("x", CHANNELS))
    for _ in range(steps):
        x = STEPS[b.pick(*range(len(STEPS)))](b, x)
    (sequence if b.random.random() < 0.3 and x.h * x.w <= 64 else head)(b, x)
    return b.net.model({"x": ["batch", CHANNELS, SIDE, SIDE]}, {"y": ["batch", 6]})
