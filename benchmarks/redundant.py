"""Networks with much to take out: one that is redundant by intent, and recurrent ones as PyTorch exports them."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
WIDTH, STEPS, INPUTS, HIDDEN = 32, 24, 128, 256


class Graph:
    """Nodes and weights as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def const(self, array: Array | np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.weights)}"))
        return self.weights[-1].name

    def w(self, *shape: int, shift: float = 0.0) -> str:
        scale = np.sqrt(2 / prod(shape[1:]))
        return self.const((self.random.standard_normal(shape) * scale + shift).astype(np.float32))

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", **attributes))
        return name


def block(g: Graph, x: str, channels: int) -> str:
    """A convolution between two turns of the axes, with a pad, a norm, a scale, a shift and a hard swish beside it."""
    x = g.add("Transpose", g.add("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    x = g.add("Pad", x, g.const(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    x = g.add("Conv", x, g.w(WIDTH, channels, 3, 3))
    moments = [g.w(WIDTH, shift=1), g.w(WIDTH), g.w(WIDTH)]
    x = g.add("BatchNormalization", x, *moments, g.const(np.full(WIDTH, 0.7, np.float32)))
    x = g.add("Add", g.add("Mul", x, g.w(WIDTH, 1, 1, shift=1)), g.w(WIDTH, 1, 1))
    three, zero, six = (g.const(np.float32(v)) for v in (3, 0, 6))
    gate = g.add("Clip", g.add("Add", x, three), zero, six)
    x = g.add("Div", g.add("Mul", x, gate), six)
    same = g.add("Reshape", x, g.add("Shape", x))
    return g.add("Dropout", g.add("Mul", g.add("Add", same, zero), g.const(np.float32(1))))


def redundant(path: Path) -> dict[str, tuple[int, ...]]:
    """Write x[batch, 3, 32, 32] -> y[batch, 10]; the last convolution stands there twice. Returns a sample's shape."""
    g, x = Graph(), "x"
    for number in range(4):
        x = block(g, x, 3 if number == 0 else WIDTH)
    weight = g.w(WIDTH, WIDTH, 3, 3)
    left, right = (g.add("Conv", g.add("Identity", x), weight, pads=[1] * 4) for _ in range(2))  # the same work twice
    x = g.add("Concat", left, right, axis=1)
    flat = g.add("Flatten", g.add("GlobalAveragePool", x))
    branches = []
    for kind in ("Tanh", "Neg"):
        own = helper.make_graph([helper.make_node(kind, [flat], ["r"])], kind, [], [_value("r", None)])
        branches.append(own)
    g.nodes.append(
        helper.make_node(
            "If", [g.const(np.array(True))], ["chosen"], name="chosen", then_branch=branches[0], else_branch=branches[1]
        )
    )
    h = g.add("Mul", "chosen", g.w(2 * WIDTH, shift=1))
    h = g.add("Add", g.add("MatMul", h, g.w(2 * WIDTH, 64)), g.w(64))
    h = g.add("Add", g.add("MatMul", h, g.w(64, 32)), g.w(32))  # nothing between the two: one layer
    g.add("Softmax", g.add("Add", g.add("MatMul", h, g.w(32, 10)), g.w(10)), out="y")
    _save(g, path, {"x": ["batch", 3, 32, 32]}, {"y": ["batch", 10]})
    return {"x": (1, 3, 32, 32)}


def _value(name: str, shape: list[Any] | None) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(g: Graph, path: Path, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> None:
    ends = [[_value(n, s) for n, s in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(g.nodes, path.stem, ends[0], ends[1], g.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def recurrent(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Write what PyTorch makes of a hand-written gated cell: steps written out, and as a loop. Needs torch."""
    import torch

    class Cell(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        """A gated recurrent unit over x[batch, STEPS, INPUTS], step by step."""

        def __init__(self) -> None:
            super().__init__()
            self.hidden = HIDDEN  # the compiler of scripts sees no globals
            self.read = torch.nn.Linear(INPUTS, 3 * HIDDEN)
            self.keep = torch.nn.Linear(HIDDEN, 3 * HIDDEN)
            self.last = torch.nn.Linear(HIDDEN, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.zeros(x.shape[0], self.hidden)
            for step in range(x.size(1)):
                r = self.read(x[:, step]).chunk(3, dim=-1)
                k = self.keep(h).chunk(3, dim=-1)
                gate, update = torch.sigmoid(r[0] + k[0]), torch.sigmoid(r[1] + k[1])
                h = (1 - update) * torch.tanh(r[2] + gate * k[2]) + update * h
            return self.last(h)

    torch.manual_seed(0)
    module, x = Cell().eval(), torch.randn(1, STEPS, INPUTS)
    shapes: dict[str, tuple[int, ...]] = {"x": (1, STEPS, INPUTS)}
    program = torch.onnx.export(module, (x,), dynamo=True, input_names=["x"], output_names=["y"], verbose=False)
    assert program is not None
    program.save(folder / "rnn_unrolled.onnx")
    scripted = torch.jit.script(module)
    torch.onnx.export(
        scripted, (x,), folder / "rnn_loop.onnx", dynamo=False, input_names=["x"], output_names=["y"], opset_version=17
    )
    return {"rnn_unrolled": shapes, "rnn_loop": shapes}
