"""Networks of a few layers, written out, with random weights; and what a pass needs beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hasten.graph import taps
from hasten.model import Model, TensorSpec
from hasten.protocols import Context, Feeds
from hasten.quant.histogram import TensorStats

Array = NDArray[Any]


class Net:
    """Collects nodes and weights; each call of ``add`` returns the new tensor's name."""

    def __init__(self, opset: int = 17, seed: int = 0, constants: bool = False) -> None:
        self.opset, self.constants = opset, constants
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def w(self, *shape: int, scale: float | None = None, shift: float = 0.0) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        size = 1 / np.sqrt(fan_in) if scale is None else scale
        return self.const((self.random.standard_normal(shape) * size + shift).astype(np.float32))

    def const(self, array: Array | np.float32) -> str:
        name = f"w{len(self.weights) + len(self.nodes)}"
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if self.constants:
            self.nodes.append(helper.make_node("Constant", [], [name], name=f"c_{name}", value=tensor))
        else:
            self.weights.append(tensor)
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n_{name}", **attributes))
        return name

    def bn(self, x: str, channels: int) -> str:
        parts = [self.w(channels, scale=0.2, shift=1), self.w(channels), self.w(channels)]
        variance = self.const(self.random.uniform(0.5, 2, channels).astype(np.float32))
        return self.add("BatchNormalization", x, *parts, variance)

    def conv(self, x: str, cin: int, cout: int, k: int = 3, *, group: int = 1, bias: bool = True, **more: Any) -> str:
        inputs = [x, self.w(cout, cin // group, k, k), *([self.w(cout, scale=0.1)] if bias else [])]
        more.setdefault("pads", [k // 2] * 4)
        return self.add("Conv", *inputs, group=group, **more)

    def model(self, inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, Sequence[int | str]]) -> Model:
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
            [info(n, TensorProto.FLOAT, list(s)) for n, s in outputs.items()],
            self.weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        return as_model(proto)


def as_model(proto: onnx.ModelProto) -> Model:
    graph = ir.from_proto(proto)
    inputs, outputs = (tuple(_spec(v) for v in side) for side in (graph.graph.inputs, graph.graph.outputs))
    return Model(graph, inputs, outputs)


def _spec(value: ir.Value) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else d.value for d in value.shape or ())
    return TensorSpec(value.name or "", shape, "float32")


def feeds(model: Model, n: int = 8, batch: int = 1, seed: int = 1) -> list[Feeds]:
    random = np.random.default_rng(seed)
    shape = {s.name: [d if isinstance(d, int) else batch for d in s.shape] for s in model.inputs}
    return [{k: random.standard_normal(v).astype(np.float32) for k, v in shape.items()} for _ in range(n)]


def context(samples: Sequence[Feeds]) -> Context:
    def stats(model: Model, names: Sequence[str], channels: Collection[str] = ()) -> Mapping[str, TensorStats]:
        return taps.collect(model, names, lambda: iter(samples), channels=channels)

    return Context(feeds=lambda: iter(samples), stats=stats)


def residual_cnn(opset: int = 17, constants: bool = False) -> Model:
    """Conv + BN + ReLU6, a depthwise convolution, a residual Add, pooling and a Gemm with transB."""
    net = Net(opset, constants=constants)
    low, high = net.const(np.float32(0)), net.const(np.float32(6))
    x = net.add("Clip", net.bn(net.conv("x", 3, 16, bias=False), 16), low, high)
    y = net.add("Relu", net.bn(net.conv(x, 16, 16, group=16), 16))
    y = net.add("Relu", net.add("Add", net.conv(y, 16, 16, 1), x))
    y = net.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", net.conv(y, 16, 32))))
    net.add("Gemm", y, net.w(10, 32), net.w(10), out="y", transB=1)
    return net.model({"x": ["batch", 3, 16, 16]}, {"y": ["batch", 10]})


def mlp() -> Model:
    net = Net()
    h = net.add("Relu", net.add("Gemm", "x", net.w(32, 64, scale=0.2), net.w(64)))
    h = net.add("Relu", net.add("Add", net.add("MatMul", h, net.w(64, 64, scale=0.1)), net.w(64)))
    net.add("Gemm", h, net.w(4, 64), net.w(4), out="y", transB=1)
    return net.model({"x": ["batch", 32]}, {"y": ["batch", 4]})


def transformer() -> Model:
    """One block with single-head attention, LayerNormalization and an erf GELU."""
    net, d = Net(), 32
    parts = []
    for _ in range(3):
        parts.append(net.add("Add", net.add("MatMul", "x", net.w(d, d)), net.w(d, scale=0.1)))
    scores = net.add("MatMul", parts[0], net.add("Transpose", parts[1], perm=[0, 2, 1]))
    attention = net.add("Softmax", net.add("Div", scores, net.const(np.float32(d**0.5))), axis=-1)
    mixed = net.add("MatMul", net.add("MatMul", attention, parts[2]), net.w(d, d))
    h = net.add("LayerNormalization", net.add("Add", "x", mixed), net.w(d, shift=1, scale=0.1), net.w(d), axis=-1)
    f = net.add("Add", net.add("MatMul", h, net.w(d, 4 * d, scale=0.18)), net.w(4 * d, scale=0.1))
    e = net.add("Erf", net.add("Div", f, net.const(np.float32(2**0.5))))
    g = net.add("Mul", net.add("Mul", f, net.add("Add", e, net.const(np.float32(1)))), net.const(np.float32(0.5)))
    net.add("Add", h, net.add("MatMul", g, net.w(4 * d, d)), out="y")
    return net.model({"x": ["batch", 12, d]}, {"y": ["batch", 12, d]})


def mobile() -> Model:
    """Hard swish spelt out, a squeeze-and-excite block, an affine layer behind convolutions and two inputs."""
    net = Net(opset=17)
    half = net.const(np.float32(3)), net.const(np.float32(0)), net.const(np.float32(6))

    def swish(x: str) -> str:
        inner = net.add("Clip", net.add("Add", x, half[0]), half[1], half[2])
        return net.add("Div", net.add("Mul", x, inner), half[2])

    x = swish(net.add("Mul", net.conv("a", 3, 16), net.const(np.array([1.5], np.float32))))
    x = net.add(
        "Add", net.add("Mul", x, net.const(np.array([0.7], np.float32))), net.const(np.array([0.2], np.float32))
    )
    x = swish(net.conv(x, 16, 16, group=16))
    gate = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), 16, 4, 1))
    gate = net.add("HardSigmoid", net.conv(gate, 4, 16, 1), alpha=0.2, beta=0.5)
    x = net.add("Add", net.conv(net.add("Mul", x, gate), 16, 16, 1), net.add("Relu", net.conv("b", 3, 16)))
    net.add("Sigmoid", net.add("ConvTranspose", x, net.w(16, 1, 2, 2), net.w(1), strides=[2, 2]), out="y")
    return net.model({"a": ["batch", 3, 12, 12], "b": ["batch", 3, 12, 12]}, {"y": ["batch", 1, 24, 24]})
