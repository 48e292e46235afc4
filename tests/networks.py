"""Small networks and stores that several tests share. Built here, never stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

F32 = NDArray[np.float32]


def save(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.generic]], shape: list[int | str]
) -> Path:
    """A network from input ``x`` to output ``y``, opset 17."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def mlp(path: Path, *, width: int = 64, classes: int = 10, inputs: int = 16, seed: int = 0) -> Path:
    """x[N,inputs] -> Gemm -> Relu -> Gemm -> y[N,classes]."""
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.generic]] = {
        "w1": (rng.standard_normal((inputs, width)) / np.sqrt(inputs)).astype(np.float32),
        "b1": rng.standard_normal(width).astype(np.float32) * 0.1,
        "w2": (rng.standard_normal((width, classes)) / np.sqrt(width)).astype(np.float32),
        "b2": rng.standard_normal(classes).astype(np.float32) * 0.1,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], name="last"),
    ]
    return save(path, nodes, weights, ["N", inputs])


def cnn(path: Path, *, channels: int = 32, depth: int = 4, size: int = 32, classes: int = 10, seed: int = 0) -> Path:
    """x[N,3,size,size] -> depth x (Conv 3x3 -> Relu) -> GlobalAveragePool -> Flatten -> Gemm -> y[N,classes]."""
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.generic]] = {}
    nodes, last, width = [], "x", 3
    for k in range(depth):
        scale = np.sqrt(2 / (9 * width))
        weights[f"w{k}"] = (rng.standard_normal((channels, width, 3, 3)) * scale).astype(np.float32)
        weights[f"b{k}"] = (rng.standard_normal(channels) * 0.05).astype(np.float32)
        nodes.append(helper.make_node("Conv", [last, f"w{k}", f"b{k}"], [f"c{k}"], pads=[1] * 4, name=f"conv{k}"))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"], name=f"relu{k}"))
        last, width = f"r{k}", channels
    weights["wf"] = (rng.standard_normal((channels, classes)) / np.sqrt(channels) * 4).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "wf"], ["y"]))
    return save(path, nodes, weights, ["N", 3, size, size])


def wide_ranged(path: Path, *, channels: int = 64, size: int = 24, seed: int = 0) -> Path:
    """A CNN whose second convolution (``delicate``) reads channels that differ in scale by ten thousand.

    Its weights make up for that, so the small channels matter as much as the large ones, and one scale for the whole
    tensor rounds them away. The other convolutions are ordinary.
    """
    rng = np.random.default_rng(seed)
    spread = np.geomspace(0.001, 10, channels).astype(np.float32)
    rng.shuffle(spread)
    weights: dict[str, NDArray[np.generic]] = {}
    nodes, last, width = [], "x", 3
    for name in ("first", "delicate", "third", "fourth"):
        w = (rng.standard_normal((channels, width, 3, 3)) * np.sqrt(2 / (9 * width))).astype(np.float32)
        w = w * spread.reshape(-1, 1, 1, 1) if name == "first" else w
        weights[f"w_{name}"] = w / spread.reshape(1, -1, 1, 1) if name == "delicate" else w
        nodes.append(helper.make_node("Conv", [last, f"w_{name}"], [f"c_{name}"], pads=[1] * 4, name=name))
        nodes.append(helper.make_node("Relu", [f"c_{name}"], [f"r_{name}"], name=f"relu_{name}"))
        last, width = f"r_{name}", channels
    weights["wf"] = (rng.standard_normal((channels, 10)) / np.sqrt(channels) * 20).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "wf", "bf"], ["y"], name="head"))
    weights["bf"] = np.zeros(10, np.float32)
    seen = answers(save(path, nodes, weights, ["N", 3, size, size]), lit(200, size, seed=seed))
    weights["wf"] = weights["wf"] / seen.std(axis=0)  # every class is chosen about as often
    weights["bf"] = -seen.mean(axis=0) / seen.std(axis=0)
    return save(path, nodes, weights, ["N", 3, size, size])


def lit(count: int, size: int, *, seed: int) -> F32:
    """Noise in three colours, each lit differently in every picture."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, 3, size, size))
    return np.asarray(noise * rng.uniform(0, 3, (count, 3, 1, 1)), np.float32)


def answers(path: Path, x: NDArray[np.generic]) -> F32:
    """The float network's outputs on ``x``."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: F32 = session.run(None, {"x": x})[0]
    return found
