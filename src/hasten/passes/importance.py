"""How much a network loses by going without channels, group by group, judged from unlabelled samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.affine import Affine, affine
from hasten.graph.channels import Channels, Group
from hasten.graph.moments import Moments, moments
from hasten.protocols import Feeds
from hasten.quant import elimination
from hasten.quant.elimination import Elimination, Reader

METHODS = ("compensated", "energy", "magnitude")
MEMORY = 1 << 30  # bytes of matrices alive at once


def eliminations(
    graph: ir.Model,
    found: Channels,
    groups: Sequence[Group],
    feeds: Callable[[], Iterator[Feeds]],
    method: str = "compensated",
) -> dict[str, Elimination]:
    """For each group in which order its units go and what is lost on the way, as shares of its readers' answers.

    ``compensated`` counts what is left once the readers have been refitted, ``energy`` what is lost without, and
    ``magnitude`` is the norm of the writers' weights: no data, and no loss that could be compared between groups.
    """
    nodes = {n.outputs[0].name or "": n for n in graph.graph}
    if method == "magnitude":
        return {g.name: _by_magnitude(nodes, found, g) for g in groups}
    answers: dict[str, Elimination] = {}
    for part in _parts(groups, nodes):
        names = sorted({name for g in part for name in g.readers})
        views = {name: view for name in names if (view := affine(nodes[name])) is not None}
        seen = moments(graph, sorted(views), feeds())
        for g in part:
            readers = [_reader(views[n], seen[n], found, g) for n in g.readers if n in views and seen[n].count]
            judge = elimination.with_compensation if method == "compensated" else elimination.by_energy
            answers[g.name] = judge(readers, len(g.units))
    return answers


def _parts(groups: Sequence[Group], nodes: dict[str, ir.Node]) -> Iterator[list[Group]]:
    """Groups whose readers' moments fit into memory together."""
    part: list[Group] = []
    used = 0
    for g in groups:
        views = [affine(nodes[name]) for name in g.readers]
        size = sum(8 * v.w.shape[1] ** 2 for v in views if v is not None)
        if part and used + size > MEMORY:
            yield part
            part, used = [], 0
        part.append(g)
        used += size
    if part:
        yield part


def owners(view: Affine, found: Channels, group: Group) -> np.ndarray:
    """For each column of a reader the number of its unit within the group, -1 for columns of others."""
    value = view.node.inputs[0]
    assert value is not None
    axes = found.units[value.name or ""]
    axis = 1 if view.node.op_type in ("Conv", "ConvTranspose") else -1
    ids = axes[axis]
    assert ids is not None
    number = {unit: i for i, unit in enumerate(group.units)}
    return np.array([number.get(int(u), -1) for u in ids], np.int64).repeat(view.spread)


def _reader(view: Affine, seen: Moments, found: Channels, group: Group) -> Reader:
    return Reader(view.w, seen.zz - np.outer(seen.z, seen.z), owners(view, found, group))


def _by_magnitude(nodes: dict[str, ir.Node], found: Channels, group: Group) -> Elimination:
    """Li et al., ICLR 2017: the norm of each filter, over all layers that write the unit."""
    number = {unit: i for i, unit in enumerate(group.units)}
    squares = np.zeros(len(group.units))
    for name in group.writers:
        node, embedding = nodes[name], nodes[name].op_type == "Gather"
        weight = None if embedding else walk.weight(node)
        value, axis = (node.inputs[0], 1) if embedding or weight is None else (weight.value, weight.axis)
        array = walk.constant(value)
        assert array is not None
        assert value is not None
        others = tuple(i for i in range(array.ndim) if i != axis)
        norms = np.square(array.astype(np.float64)).sum(axis=others)
        ids = found.units[value.name or ""][axis]
        for u, norm in zip(() if ids is None else ids, norms, strict=False):
            if int(u) in number:
                squares[number[int(u)]] += norm
    order = np.argsort(squares, kind="stable").astype(np.int64)
    return Elimination(order, np.concatenate([[0.0], np.cumsum(squares[order]) / max(squares.sum(), 1e-30)]))
