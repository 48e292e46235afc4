"""A random graph, and inputs for it: sizes and branches that no sample shows, and the edges of each type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.random_graphs import control, elementwise, linear, moving
from benchmarks.random_graphs.builder import G, Impossible, T

Array = NDArray[Any]
Feeds = dict[str, Array]
OPSETS = (8, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 17, 17, 18, 19, 20, 20, 21)
STEPS = (*elementwise.STEPS, *moving.STEPS, *linear.STEPS, *linear.STEPS, *control.STEPS)
TRACED = {"b": 2, "t": 3}
FATAL = frozenset({"LSTM", "GRU", "RNN", "Einsum", "SplitToSequence", "Scan"})  # ONNX Runtime dies of empty batches
TRIES = 40


@dataclass(frozen=True)
class Case:
    """A graph, its inputs by what they try, and where they only have to agree in what is finite."""

    seed: int
    proto: onnx.ModelProto
    feeds: Mapping[str, Feeds]


def random_case(seed: int, nodes: int = 0) -> Case:
    """Everything follows from ``seed``."""
    random = np.random.default_rng(seed)
    g = G(random, int(random.choice(OPSETS)), as_nodes=bool(random.random() < 0.4))
    inputs(g)
    steps = nodes or int(random.integers(2, 9))
    for _ in range(TRIES):
        if steps <= 0:
            break
        mark = len(g.nodes), len(g.weights), len(g.values)
        try:
            STEPS[int(random.integers(len(STEPS)))](g)
            steps -= 1
        except Impossible:
            del g.nodes[mark[0] :], g.weights[mark[1] :], g.values[mark[2] :]
    outputs = ends(g)
    kept = {name for node in g.nodes for name in _read(node)}
    g.inputs = [v for v in g.inputs if v.name in kept]
    hints = TRACED if g.flip(0.2) else {}
    proto = g.proto(outputs, declared=g.flip(), hints=hints)
    found = feeds(g.inputs, np.random.default_rng(seed + 1))
    if any(node.op_type in FATAL for node in g.nodes):
        del found["empty"]
    return Case(seed, proto, found)


def _read(node: onnx.NodeProto) -> list[str]:
    inner = [name for a in node.attribute if a.type == onnx.AttributeProto.GRAPH for n in a.g.node for name in _read(n)]
    return [*node.input, *inner]


def inputs(g: G) -> None:
    """Pictures or sequences, a matrix, numbers of classes, a condition and a count."""
    kind = g.one("image", "sequence", "rows", "fixed")
    if kind == "image":
        g.input("x", "float32", ["b", g.one(2, 4), *g.one((4, 4), (5, 3), (6, 4))])
    elif kind == "sequence":
        g.input("x", "float32", g.one(["b", "t", 4], ["t", "b", 3], ["b", 3, 4], [4, "b", 2]))
    elif kind == "rows":
        g.input("x", "float32", ["b", g.one(1, 4, 6)])
    else:
        g.input("x", "float32", g.one([1, 4, 4, 4], [2, 3, 4], [1, 1, 5], [2, 6]))
    if g.flip(0.5):
        g.input("a", "float32", g.inputs[0].shape if g.flip() else ["b", 4])
    if g.flip(0.6):
        g.input("i", "int64", g.one(["b"], ["b", "t"], ["b", 2]))
    if g.flip(0.2):
        g.input("j", "int32", ["b", 3])
    g.input("c", "bool", [])
    g.input("n", "int64", [])
    floats = [v for v in g.values if v.kind == "float32"]  # late ones are picked more often
    g.values = [v for v in g.values if v not in floats] + floats[::-1]


def ends(g: G) -> list[T]:
    """What nobody reads, and some of the rest."""
    made = {name for node in g.nodes for name in node.output}
    read = {name for node in g.nodes for name in _read(node)}
    own = [v for v in g.values if v.name in made]
    last = [v for v in own if v.name not in read]
    more = [v for v in own if v.name in read and g.flip(0.1)]
    return [*last, *more]


SIZES = {  # b, t, the condition, the count
    "sample": (2, 3, True, 2),
    "other": (1, 5, False, 0),
    "wide": (3, 1, True, 1),
    "special": (2, 4, False, 3),
    "edges": (3, 3, True, 0),
    "empty": (0, 2, False, 1),
    "large": (2, 3, False, 2),
}
EDGES = [0.0, -0.0, 1e-40, -1e-45, 0.5, -0.5, 1.5, 2.5, -1.5, 1.0, -1.0, 2.0, 1e-30, 6.0, 3.0, -3.0, 1e4, 255.5]
WHOLE = [0, -1, 1, 2, 3, -4, 1 << 31, (1 << 31) - 1, -(1 << 31) - 1, (1 << 32) + 1, -5]


def feeds(specs: list[T], random: np.random.Generator) -> dict[str, Feeds]:
    """One set of inputs for each of ``SIZES``."""
    found: dict[str, Feeds] = {}
    for name, (b, t, condition, count) in SIZES.items():
        one: Feeds = {}
        for spec in specs:
            shape = [{"b": b, "t": t}.get(str(d), d) for d in spec.shape]
            if spec.name == "c":
                one["c"] = np.array(condition)
            elif spec.name == "n":
                one["n"] = np.array(count)
            else:
                one[spec.name] = _array(name, spec.kind, [int(d) for d in shape], random)
        found[name] = one
    return found


def _array(name: str, kind: str, shape: list[int], random: np.random.Generator) -> Array:
    if not kind.startswith("float"):
        if name == "edges":
            ends = np.array(WHOLE if kind == "int64" else [v for v in WHOLE if abs(v) < 1 << 31], np.int64)
            return random.choice(ends, shape).astype(kind)
        return random.integers(-5, 6, shape).astype(kind)
    array = random.standard_normal(shape)
    if name == "special":
        spots = random.random(shape)
        array = np.where(spots < 0.08, np.nan, np.where(spots < 0.16, np.inf, np.where(spots < 0.24, -np.inf, array)))
    elif name == "edges":
        array = random.choice(np.array(EDGES), shape)
    elif name == "large":
        array = np.where(random.random(shape) < 0.3, random.choice([1e30, -1e30, 1e24, -1e24], shape), array)
    return np.asarray(array.astype(kind))
