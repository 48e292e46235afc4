"""A small network that eight bits break: channels scaled against each other by factors of up to a thousand.

Scaling a channel in front of a Relu and back behind it changes nothing in float. One scale for a whole activation, or
for a whole depthwise weight, then covers a few giants and rounds the rest away; a normalisation with a few wide
channels does the same to the products behind it. Ten classes of noisy patterns; ridge regression fits the last layer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.networks import bundle
from benchmarks.networks.bundle import Bundle, Meta

F32 = NDArray[np.float32]
SIDE, CLASSES, SAMPLES = 32, 10, 4500
A, B, C, FEATURES = 64, 128, 192, 256  # channels
NOISE = 0.5  # standard deviations of the patterns' own
OVER = 3.0  # decades between the widest and the narrowest channel


def samples(rng: np.random.Generator) -> tuple[F32, NDArray[np.int64]]:
    """Smooth patterns of ten classes under noise: float32[n, 3, 32, 32] and their classes."""
    coarse = rng.standard_normal((CLASSES, 3, 8, 8))
    patterns = np.kron(coarse, np.ones((1, 1, SIDE // 8, SIDE // 8)))
    labels = rng.integers(0, CLASSES, SAMPLES)
    noise = rng.standard_normal((SAMPLES, 3, SIDE, SIDE)) * NOISE
    return (patterns[labels] + noise).astype(np.float32), labels.astype(np.int64)


def weights(rng: np.random.Generator) -> dict[str, F32]:
    """Random layers, then factors between them that undo each other."""
    shapes = {"w0": (A, 3, 3, 3), "w1": (A, 1, 3, 3), "w2": (B, A, 1, 1), "w3": (B, 1, 3, 3), "w4": (C, B, 1, 1)}
    made = {n: rng.standard_normal(s) * np.sqrt(2 / np.prod(s[1:])) for n, s in shapes.items()}
    made |= {f"b{i}": rng.standard_normal(len(made[f"w{i}"])) * 0.1 for i in range(5)}
    for i in range(4):
        s = 10 ** rng.uniform(-OVER / 2, OVER / 2, len(made[f"w{i}"]))
        made[f"w{i}"] = made[f"w{i}"] * s.reshape(-1, 1, 1, 1)
        made[f"b{i}"] = made[f"b{i}"] * s
        depthwise = made[f"w{i + 1}"].shape[1] == 1
        made[f"w{i + 1}"] = made[f"w{i + 1}"] / (s.reshape(-1, 1, 1, 1) if depthwise else s.reshape(1, -1, 1, 1))
    gamma = np.ones(C)
    gamma[[5, 23, 40]] = [60, 35, 90]
    made |= {"gamma": gamma, "beta": rng.standard_normal(C) * 0.1}
    made["m0"] = rng.standard_normal((C, FEATURES)) / np.sqrt(C) / gamma[:, None]
    made["c0"] = rng.standard_normal(FEATURES) * 0.1
    made |= {"m1": np.zeros((FEATURES, CLASSES)), "c1": np.zeros(CLASSES)}
    return {n: a.astype(np.float32) for n, a in made.items()}


def network(made: dict[str, F32], output: str) -> onnx.ModelProto:
    """Conv, depthwise, Conv, depthwise, Conv; pooling, LayerNormalization, two products."""
    nodes, x = list[onnx.NodeProto](), "x"
    for i, (stride, group) in enumerate(((1, 1), (1, A), (1, 1), (2, B), (1, 1))):
        pad = made[f"w{i}"].shape[2] // 2
        inputs = [x, f"w{i}", f"b{i}"]
        nodes.append(
            helper.make_node("Conv", inputs, [f"y{i}"], f"conv{i}", strides=[stride] * 2, pads=[pad] * 4, group=group)
        )
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"r{i}"], f"relu{i}"))
        x = f"r{i}"
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]), helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("LayerNormalization", ["flat", "gamma", "beta"], ["normal"], "normalise", axis=-1),
        helper.make_node("Gemm", ["normal", "m0", "c0"], ["h"], "product0"),
        helper.make_node("Relu", ["h"], ["features"], "relu5"),
        helper.make_node("Gemm", ["features", "m1", "c1"], ["logits"], "product1"),
    ]  # fmt: skip
    shape: list[str | int | None] = ["batch", CLASSES if output == "logits" else FEATURES]
    graph = helper.make_graph(
        nodes if output == "logits" else nodes[:-1], "breaking",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(a, n) for n, a in made.items() if output == "logits" or n not in ("m1", "c1")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def prepare(folder: Path) -> Bundle:
    """Write the network with its samples, fitted on a third of them that is then thrown away."""
    import onnxruntime as ort

    rng = np.random.default_rng(0)
    (x, labels), made = samples(rng), weights(rng)
    session = ort.InferenceSession(network(made, "features").SerializeToString(), providers=["CPUExecutionProvider"])
    fit = SAMPLES // 3
    [h] = session.run(None, {"x": x[:fit]})
    h1 = np.concatenate([h, np.ones((fit, 1))], axis=1).astype(np.float64)
    target = np.eye(CLASSES)[labels[:fit]] * 8
    solved = np.linalg.solve(h1.T @ h1 + 0.1 * fit * np.eye(FEATURES + 1) * np.square(h).mean(), h1.T @ target)
    made |= {"m1": solved[:-1].astype(np.float32), "c1": solved[-1].astype(np.float32)}
    meta = Meta(
        name="breaking",
        metric="top1",
        licence="Apache-2.0",
        notes=f"{SAMPLES - fit} noisy patterns of {CLASSES} classes",
    )
    proto = network(made, "logits")
    onnx.checker.check_model(proto, full_check=True)
    return bundle.write(folder, proto.SerializeToString(), {"x": x[fit:], "labels": labels[fit:]}, meta)
