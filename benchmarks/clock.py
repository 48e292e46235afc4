"""Who gets the seconds: searches of networks from 0.1 ms to 0.4 s a call, each promised time beside the time it took.

    python -m benchmarks.clock FOLDER LABEL [NAME ...]

makes the networks in FOLDER, searches each with default settings, and adds what happened to
``benchmarks/results/clock.json`` under LABEL. A watch on the record of trials notes when the first look came at a
narrow float, at int8, and when a candidate was at hand that could be handed over.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import hasten
from hasten.protocols import Event
from hasten.search.run import Run
from hasten.trial import Trial

RESULTS = Path(__file__).parent / "results" / "clock.json"
STAGES = ("float32 on every engine", "narrower arithmetic", "proof on unseen samples, then the final timing")
F32 = NDArray[np.float32]
Weights = dict[str, F32]


@dataclass(frozen=True)
class Case:
    """A network of a known latency, with as many samples as its owner would have."""

    make: Callable[[Path], tuple[int, ...]]  # writes the network, returns the shape of a sample
    samples: int
    dense: bool = False


def saved(path: Path, nodes: list[onnx.NodeProto], weights: Weights, shape: list[int | str]) -> None:
    """A network from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def scaled(rng: np.random.Generator, *shape: int) -> F32:
    """Weights that keep the variance of what passes a Relu."""
    fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
    return np.asarray(rng.standard_normal(shape) * (2 / fan_in) ** 0.5, np.float32)


def perceptron(width: int) -> Callable[[Path], tuple[int, ...]]:
    """64 features, two hidden layers, ten classes."""

    def make(path: Path) -> tuple[int, ...]:
        rng = np.random.default_rng(0)
        sizes = [64, width, width, 10]
        weights: Weights = {f"w{k}": scaled(rng, a, b) for k, (a, b) in enumerate(pairwise(sizes))}
        nodes, last = [], "x"
        for k in range(3):
            nodes.append(helper.make_node("MatMul", [last, f"w{k}"], ["y" if k == 2 else f"m{k}"], name=f"dense{k}"))
            if k < 2:
                nodes.append(helper.make_node("Relu", [f"m{k}"], [last := f"r{k}"], name=f"relu{k}"))
        saved(path, nodes, weights, ["N", 64])
        return (64,)

    return make


def convolutions(channels: int, depth: int, size: int, *, dense: bool = False) -> Callable[[Path], tuple[int, ...]]:
    """3x3 convolutions at one resolution; ten classes of the picture, or two of each pixel."""

    def make(path: Path) -> tuple[int, ...]:
        rng = np.random.default_rng(0)
        weights, nodes, last, width = dict[str, F32](), list[onnx.NodeProto](), "x", 3
        for k in range(depth):
            weights[f"w{k}"] = scaled(rng, channels, width, 3, 3)
            nodes.append(helper.make_node("Conv", [last, f"w{k}"], [f"c{k}"], pads=[1] * 4, name=f"conv{k}"))
            nodes.append(helper.make_node("Relu", [f"c{k}"], [last := f"r{k}"], name=f"relu{k}"))
            width = channels
        if dense:
            weights["wf"] = scaled(rng, 2, width, 1, 1)
            nodes.append(helper.make_node("Conv", [last, "wf"], ["y"], name="head"))
        else:
            weights["wf"] = scaled(rng, width, 10) * 4
            nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
            nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
            nodes.append(helper.make_node("MatMul", ["flat", "wf"], ["y"], name="head"))
        saved(path, nodes, weights, ["N", 3, size, size])
        return (3, size, size)

    return make


CASES = {
    "mlp, 0.1 ms": Case(perceptron(1024), 2000),
    "cnn, 1 ms": Case(convolutions(32, 6, 48), 1000),
    "cnn, 10 ms": Case(convolutions(64, 6, 56), 600),
    "segmentation, 100 ms": Case(convolutions(64, 6, 160, dense=True), 150, dense=True),
    "segmentation, 400 ms": Case(convolutions(64, 6, 320, dense=True), 150, dense=True),
}


def smooth(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> F32:
    """Samples of which no two are of one brightness, so that a random network answers differently."""
    light = rng.uniform(0.2, 3, (count, *(shape[0] if k == 0 else 1 for k in range(len(shape)))))
    return np.asarray(rng.standard_normal((count, *shape), np.float32) * light, np.float32)


@dataclass
class Watch:
    """Seconds from the start to the first look at each kind of candidate."""

    began: float = field(default_factory=time.monotonic)
    first: dict[str, float] = field(default_factory=dict)
    looked: set[str] = field(default_factory=set)
    told: list[tuple[float, str]] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Keep when each line came."""
        self.told.append((time.monotonic() - self.began, event.text))

    def see(self, run: Run, trial: Trial) -> None:
        """Note what is known of a trial for the first time."""
        now, c = time.monotonic() - self.began, trial.candidate
        kind = "lossless" if c.lossless else "narrow float" if all(s.name == "clean" for s in c.steps) else "int8"
        if trial.quick_ms is not None or trial.timing is not None:
            if c.key not in self.looked and c.key != run.given:
                self.looked.add(c.key)
                self.first[f"looks at {kind}"] = self.first.get(f"looks at {kind}", 0) + 1
                self.first[f"last look at {kind}"] = round(now, 1)
            self.first.setdefault(f"first look at {kind}", round(now, 1))
        able = trial.status == "ok" and trial.timing is not None and trial.timing.low > 1
        if able and trial.search is not None and trial.search.drop <= run.budget.max_drop and c.key != run.given:
            self.first.setdefault("could be handed over", round(now, 1))

    def silence(self) -> float:
        """The longest time without a line."""
        at = [0.0, *(t for t, _ in self.told)]
        return round(max(b - a for a, b in pairwise(at)), 1)


def watched(name: str, folder: Path, seconds: float | None) -> dict[str, Any]:
    """One search, and what the watch saw."""
    case, path = CASES[name], folder / f"{name.replace(', ', '_').replace(' ', '_')}.onnx"
    shape = case.make(path)
    rng = np.random.default_rng(1)
    x = smooth(rng, case.samples, shape)
    watch, kept = Watch(), Run.record

    def record(run: Run, trial: Trial) -> Trial:
        found = kept(run, trial)
        watch.see(run, found)
        return found

    Run.record = record  # type: ignore[method-assign, assignment]
    try:
        budget = "1%" if case.dense else "agree:95%"  # of the cosine of maps, of equal classes
        found = hasten.optimize(path, {"x": x}, max_drop=budget, seconds=seconds, listen=watch.hear)
    finally:
        Run.record = kept  # type: ignore[method-assign]
    return {
        "promised": seconds,
        "took": round(time.monotonic() - watch.began, 1),
        "verdict": found.verdict,
        "returned": found.winner.candidate.label,
        "speedup": round(found.speedup, 2),
        "baseline_ms": round(found.noise.baseline_ms, 2),
        "samples": case.samples,
        "trials": len(found.trials),
        "longest silence": watch.silence(),
        "slower by a look": sum(t.status == "slower" for t in found.trials),
        **watch.first,
        "told": [text for _, text in watch.told if "time" in text and " in all" in text][:1],
        "stages": {text: round(t, 1) for t, text in watch.told if text in STAGES},
    }


def main() -> None:
    """Search and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("label")
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--time", type=float)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name in asked.names or CASES:
        row = watched(name, asked.folder, asked.time)
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        stored.setdefault(asked.label, {})[name] = row
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
        print(name, json.dumps(row, indent=1), flush=True)


if __name__ == "__main__":
    main()
