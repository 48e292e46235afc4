"""Second moments of what linear nodes read, over the calibrate samples: all that refitting their weights needs.

For y = W x over columns x (rows of a product's input, patches under a kernel) only the means of x and x x' matter.
With two versions of a network, x in the one and z at the same places in the other, those of x z' and z z' do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import tee

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.graph import edit, evaluate
from hasten.graph.affine import columns
from hasten.graph.walk import Array

F64 = NDArray[np.float64]
BATCH = 16  # samples that run together
COLUMNS = 64  # of one sample that enter; neighbours in a picture tell little new
ENOUGH = 8  # columns for each number in one; more samples are not read then
LEAST = 128  # samples that are always read, if there are as many


@dataclass(eq=False)
class Moments:
    """Means over ``count`` columns: ``x`` float64[k] and ``z`` [j], ``xz`` [k, j] and ``zz`` [j, j].

    With one network z is x.
    """

    count: int = 0
    x: F64 = field(default_factory=lambda: np.zeros(0))
    z: F64 = field(default_factory=lambda: np.zeros(0))
    xz: F64 = field(default_factory=lambda: np.zeros((0, 0)))
    zz: F64 = field(default_factory=lambda: np.zeros((0, 0)))

    def update(self, x: Array, z: Array | None = None) -> None:
        """Take in columns, float32[n, k] and float32[n, j]; those with NaN or infinity are left out."""
        good = np.isfinite(x).all(axis=1) & (True if z is None else np.isfinite(z).all(axis=1))
        if not good.any():
            return
        if not self.count:
            self._start(x.shape[1], None if z is None else z.shape[1])
        a = np.asarray(x[good], np.float32)
        b = a if z is None else np.asarray(z[good], np.float32)
        self.count += len(a)
        _mix(self.z, b.sum(0, dtype=np.float64), len(a), self.count)
        _mix(self.zz, b.T @ b, len(a), self.count)
        if z is not None:
            _mix(self.x, a.sum(0, dtype=np.float64), len(a), self.count)
            _mix(self.xz, a.T @ b, len(a), self.count)

    def _start(self, k: int, j: int | None) -> None:
        self.z, self.zz = (np.zeros(k), np.zeros((k, k))) if j is None else (np.zeros(j), np.zeros((j, j)))
        self.x, self.xz = (self.z, self.zz) if j is None else (np.zeros(k), np.zeros((k, j)))

    def enough(self) -> bool:
        """True when more columns would tell little new."""
        return self.count >= ENOUGH * max(len(self.z), 1)


def _mix(mean: F64, total: Array, new: int, count: int) -> None:
    """Bring the sum over ``new`` columns into a mean that then covers ``count``, in place."""
    mean *= (count - new) / count
    mean += total / count


def moments(graph: ir.Model, names: Sequence[str], feeds: Iterable[Mapping[str, Array]]) -> dict[str, Moments]:
    """The moments of what each node reads; nodes are named by their first output. One run, no longer than needed."""
    nodes = _nodes(graph, names)
    found = {name: Moments() for name in names}
    seen = 0
    for samples, inputs in _inputs(graph, nodes, feeds):
        for name, node in nodes.items():
            found[name].update(columns(node, inputs[name], samples * COLUMNS, seen))
        seen += samples
        if seen >= LEAST and all(one.enough() for one in found.values()):
            break
    return found


def paired(before: ir.Model, after: ir.Model, name: str, feeds: Iterable[Mapping[str, Array]]) -> Moments:
    """The moments of what one node reads in both versions of a network, at the same places."""
    found, two = Moments(), tee(feeds)
    nodes = [_nodes(graph, [name]) for graph in (before, after)]
    sides = [_inputs(graph, node, fed) for graph, node, fed in zip((before, after), nodes, two, strict=True)]
    seen = 0
    for pair in zip(*sides, strict=True):
        x, z = (columns(n[name], i[name], k * COLUMNS, seen) for n, (k, i) in zip(nodes, pair, strict=True))
        found.update(x, z)
        seen += pair[0][0]
        if seen >= LEAST and found.enough():
            break
    return found


def _nodes(graph: ir.Model, names: Sequence[str]) -> dict[str, ir.Node]:
    wanted = set(names)
    return {n.outputs[0].name: n for n in graph.graph if n.outputs[0].name in wanted}


def _inputs(
    graph: ir.Model, nodes: Mapping[str, ir.Node], feeds: Iterable[Mapping[str, Array]]
) -> Iterator[tuple[int, dict[str, Array]]]:
    """For each batch its number of samples and the first input of each node; nothing behind them runs."""
    read = {name: node.inputs[0].name or "" for name, node in nodes.items() if node.inputs[0] is not None}
    fed = {v.name for v in graph.graph.inputs}
    inner = sorted(set(read.values()) - fed)
    session = None
    if inner:
        part = graph.clone()
        values = {v.name: v for node in part.graph for v in node.outputs}
        part.graph.outputs[:] = [values[name] for name in inner]
        edit.prune(part)
        session = evaluate.session(part, optimise=True)
        needed = {v.name for v in session.get_inputs()}
    for samples, batch in batches(graph, feeds):
        got = session.run(inner, {k: v for k, v in batch.items() if k in needed}) if session is not None else []
        values_now = {**batch, **dict(zip(inner, got, strict=True))}
        yield samples, {name: np.asarray(values_now[value]) for name, value in read.items()}


def batches(graph: ir.Model, feeds: Iterable[Mapping[str, Array]]) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """(how many, samples): neighbours joined along the first axis, where that is free for all inputs and one long."""
    inputs = [v for v in graph.graph.inputs if v.name not in graph.graph.initializers]
    free = all(v.shape is not None and len(v.shape) and not isinstance(v.shape[0], int) for v in inputs)
    held: list[Mapping[str, Array]] = []
    for sample in feeds:
        single = not free or any(np.ndim(v) == 0 or len(v) != 1 for v in sample.values())
        if held and (single or len(held) == BATCH or _shapes(held[0]) != _shapes(sample)):
            yield len(held), _joined(held)
            held = []
        if single:
            yield 1, sample
        else:
            held.append(sample)
    if held:
        yield len(held), _joined(held)


def _joined(held: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {k: np.concatenate([one[k] for one in held]) for k in held[0]}


def _shapes(sample: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {k: np.shape(v) for k, v in sample.items()}
