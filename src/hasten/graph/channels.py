"""Channels that can go: which units of a network hang together, who writes them and who reads them.

A unit is the smallest piece that can be taken out whole: a channel with its row in the convolution that writes it, its
number in every normalisation behind, its column in every layer that reads it, and, through a residual sum, the same
of every other layer that writes into that sum; an attention head; a hidden neuron of a feed-forward block.
A group is the units that the same layer writes; what is kept of it is chosen together.

DepGraph (Fang et al., CVPR 2023) finds such groups by tracing layers; here each index of each axis is followed by
itself (``graph.positions``), so that offsets of a Concat, blocks of a Flatten and heads need no case of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.graph import contractions, couplings, layouts, reshapes, walk
from hasten.graph.couplings import Couplings
from hasten.graph.positions import STAYS, Ids, lowest_of_each

RULES = {**couplings.RULES, **contractions.RULES, **layouts.RULES}


@dataclass(frozen=True)
class Group:
    """Units that are chosen together. Nodes are named by their first output.

    ``name`` is the first writer's node name, ``units`` are ids, in the order of the first writer's channels, and
    ``width`` how many of its channels one unit takes (32 for an attention head of 32).
    """

    name: str
    units: tuple[int, ...]
    width: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Channels:
    """``units`` gives for each axis of each named tensor the unit of every position: 0 stays, None is unknown."""

    groups: tuple[Group, ...]
    units: Mapping[str, tuple[Ids | None, ...]]

    def kept(self, name: str, axis: int, removed: Ids) -> Ids | None:
        """The positions that remain along an axis when ``removed`` units go; None where all do."""
        ids = self.units[name][axis] if name in self.units else None
        if ids is None:
            return None
        gone = np.isin(ids, removed)
        return np.flatnonzero(~gone) if gone.any() else None

    def never_empty(self, removed: Sequence[int]) -> list[int]:
        """``removed``, the first to go first, without the last of those that would leave an axis with nothing.

        A group may hold several tensors, and losing all units of one breaks the network even where others stay.
        """
        rank = {unit: i for i, unit in enumerate(removed)}
        axes = {tuple(np.unique(ids).tolist()) for axes in self.units.values() for ids in axes if ids is not None}
        for units in axes:
            if units and all(unit in rank for unit in units):
                del rank[max(units, key=rank.__getitem__)]
        return list(rank)

    def group(self, name: str) -> Group | None:
        """The group of that name."""
        return next((g for g in self.groups if g.name == name), None)


def channels(model: ir.Model) -> Channels:
    """All groups of the main graph with two units or more. Shapes should be inferred (``edit.infer``).

    Inputs, outputs, everything that If and Loop bodies read, and the tensors of operators without a rule stay.
    """
    found = _couple(model)
    reshapes.settle(found)
    lowest = found.positions.solve()
    units = {
        value.name: tuple(None if axis is None else lowest[axis] for axis in axes)
        for value, axes in found.positions.known().items()
        if value.name
    }
    return Channels(_groups(found, lowest), units)


def _couple(model: ir.Model) -> Couplings:
    found = Couplings(opset=walk.opset(model))
    for value in (*model.graph.inputs, *model.graph.outputs):
        found.positions.stay_whole(value)
    for node in model.graph:
        if node.op_type == "Constant" and node.domain == "":
            continue
        for captured in _captured(node):
            found.positions.stay_whole(captured)
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        (rule or couplings.opaque)(node, found)
    for value in model.graph.outputs:
        found.positions.stay_whole(value)
    return found


def _captured(node: ir.Node) -> list[ir.Value]:
    """Values of this graph that the node's bodies read."""
    bodies: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            bodies.append(attribute.value)
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies.extend(attribute.value)
    read: list[ir.Value] = []
    for body in bodies:
        own = {id(v) for n in body for v in n.outputs} | {id(v) for v in (*body.inputs, *body.initializers.values())}
        for inner in body:
            read += [v for v in (*inner.inputs, *_captured(inner)) if v is not None and id(v) not in own]
        read += [v for v in body.outputs if v is not None and id(v) not in own]
    return read


def _groups(found: Couplings, lowest: Ids) -> tuple[Group, ...]:
    written = [(node, lowest[axis]) for node, axis in found.writes if axis is not None]
    ties = [(ids[ids != STAYS][:-1], ids[ids != STAYS][1:]) for _, ids in written]
    leader = lowest_of_each(len(lowest), ties)
    members: dict[int, list[tuple[ir.Node, Ids]]] = {}
    for node, ids in written:
        live = ids[ids != STAYS]
        if len(live):
            members.setdefault(int(leader[live[0]]), []).append((node, live))
    read = [(node, leader[np.unique(lowest[axis])]) for node, axis in found.reads if axis is not None]
    groups = []
    for lead, writers in members.items():
        units = list(dict.fromkeys(int(u) for _, ids in writers for u in ids))
        first, ids = writers[0]
        readers = [_name(node) for node, leads in read if lead in leads]
        width = max(1, len(ids) // len(np.unique(ids)))
        if len(units) > 1:
            names = tuple(_name(node) for node, _ in writers)
            groups.append(Group(first.name or _name(first), tuple(units), width, names, tuple(readers)))
    return tuple(groups)


def _name(node: ir.Node) -> str:
    return node.outputs[0].name or ""
