"""A network like those of credit scoring: amounts, ages, rates and years as columns, standardised inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
WIDTHS = (64, 32, 1)


def columns(n: int, seed: int) -> Array:
    """Rows of a table, float32 [n, 22]: every column has a unit of its own, some have long tails."""
    random = np.random.default_rng(seed)
    amounts = random.lognormal(10, 1.2, (n, 8)) * random.choice([1, 1, 1, -0.2], (n, 8))
    years = 1995 + random.integers(0, 30, (n, 1)) + random.random((n, 1))
    rates = random.gamma(2, 0.004, (n, 3))
    ages, late = random.integers(21, 80, (n, 1)), random.integers(-2, 9, (n, 5))
    kind = np.eye(4)[random.integers(0, 4, n)]
    return np.concatenate([amounts, years, rates, ages, late, kind], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Table:
    """A network's file, rows to calibrate on, rows to judge on, and their labels."""

    model: Path
    known: Array
    fresh: Array
    labels: Array


def make(path: Path, *, inside: str = "Div", seed: int = 0, rows: int = 256, fresh: int = 4000) -> Table:
    """Write the network; ``inside`` is how it standardises: ``Div``, ``Mul``, or ``folded`` into the first weights."""
    random, known = np.random.default_rng(seed), columns(rows, seed + 1)
    many = columns(8000, seed + 2).astype(np.float64)
    mean, deviation = many.mean(0), many.std(0)
    sizes = [known.shape[1], *WIDTHS]
    weights = [random.standard_normal((a, b)) * (2 / a) ** 0.5 for a, b in zip(sizes, WIDTHS, strict=False)]
    biases = [random.standard_normal(b) * 0.1 for b in WIDTHS]
    nodes, value, stored = [], "x", {}
    if inside == "folded":
        biases[0] = biases[0] - (mean / deviation) @ weights[0]
        weights[0] = weights[0] / deviation[:, None]
    else:
        stored = {"mean": mean, "scale": deviation if inside == "Div" else 1 / deviation}
        nodes = [helper.make_node("Sub", ["x", "mean"], ["m"]), helper.make_node(inside, ["m", "scale"], ["z"])]
        value = "z"
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        stored |= {f"w{k}": w, f"b{k}": b}
        last = k == len(weights) - 1
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], ["y" if last else f"a{k}"], name=f"layer{k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [f"a{k}"], [f"h{k}"]))
            value = f"h{k}"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "credit",
        [info("x", TensorProto.FLOAT, ["batch", sizes[0]])], [info("y", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in stored.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    judged = columns(fresh, seed + 3)
    import onnxruntime

    answers = onnxruntime.InferenceSession(path).run(None, {"x": judged})[0][:, 0]
    return Table(path, known, judged, (answers > np.median(answers)).astype(np.int64))


def auc(scores: Array, labels: Array) -> float:
    """The area under the curve, by ranks."""
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    ones = int(labels.sum())
    return float((order[labels == 1].sum() - ones * (ones - 1) / 2) / (ones * (len(labels) - ones)))
