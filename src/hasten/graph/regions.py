"""Regions: the parts of a network that a mixed-precision plan gives one format each.

A region is a linear operator with what engines fuse behind it, up to the next one; products that read the same
tensor (Q, K and V) are one region, since they share its rounding:

    x -> Conv -> Relu -> Conv -> + -> Relu -> ...
         [   region 0  ] [     region 1    ]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hasten.graph import walk

OUTSIDE = -1  # the region of what comes before the first linear operator, or depends on none


@dataclass(frozen=True)
class Region:
    """``linear`` are its linear operators and ``nodes`` all its operators, by label, in the graph's order.

    ``reads`` are the float tensors that it takes from elsewhere: (tensor, region that computes it or ``OUTSIDE``,
    elements or 0 while they are not known).
    """

    linear: tuple[str, ...]
    nodes: tuple[str, ...]
    reads: tuple[tuple[str, int, int], ...]
    kind: str


def regions(model: ir.Model, linear: Sequence[ir.Node]) -> list[Region]:
    """The regions around the operators ``linear`` (which a quantizer can narrow), in the graph's order."""
    owner = _owners(model, linear)
    count = max(owner.values(), default=OUTSIDE) + 1
    members: list[list[ir.Node]] = [[] for _ in range(count)]
    for node in model.graph:
        if owner[node] != OUTSIDE:
            members[owner[node]].append(node)
    chosen = set(linear)
    return [
        Region(
            linear=tuple(walk.label(n) for n in nodes if n in chosen),
            nodes=tuple(walk.label(n) for n in nodes),
            reads=_reads(nodes, owner),
            kind=_kind(next(n for n in nodes if n in chosen)),
        )
        for nodes in members
    ]


def merged(found: Sequence[Region], most: int) -> list[Region]:
    """At most ``most`` regions: neighbours become one where there are more."""
    size = -(-len(found) // most)
    if size <= 1:
        return list(found)
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    of = [k for k, part in enumerate(parts) for _ in part]
    return [
        Region(
            linear=tuple(label for region in part for label in region.linear),
            nodes=tuple(label for region in part for label in region.nodes),
            reads=tuple(
                (name, OUTSIDE if source == OUTSIDE else of[source], elements)
                for region in part
                for name, source, elements in region.reads
                if source == OUTSIDE or of[source] != k
            ),
            kind=f"{len(part)} regions",
        )
        for k, part in enumerate(parts)
    ]


def places(model: ir.Model, found: Sequence[Region]) -> dict[str, int]:
    """The region of every operator and every tensor, by name; those of none are left out."""
    known: dict[str, int] = {label: i for i, region in enumerate(found) for label in region.nodes}
    of_values = {
        v.name: known[walk.label(node)]
        for node in model.graph
        if walk.label(node) in known
        for v in node.outputs
        if v.name
    }
    return {**of_values, **known}


def located(names: Sequence[str], known: Mapping[str, int]) -> int | None:
    """The region that an engine's name for a kernel points at: the name itself, or what stands before a last ``/``.

    Engines and the quantizer add parts such as ``/WithoutBiases`` and ``/u8`` behind the network's own names.
    """
    for name in names:
        while name:
            if name in known:
                return known[name]
            name = name.rpartition("/")[0]
    return None


def _owners(model: ir.Model, linear: Sequence[ir.Node]) -> dict[ir.Node, int]:
    """The region of each node: its own for a linear one, else the youngest of those that it reads."""
    chosen, owner, shared, count = set(linear), dict[ir.Node, int](), dict[ir.Value | None, int](), 0
    for node in model.graph:
        if node not in chosen:
            producers = [v.producer() for v in node.inputs if v is not None]
            owner[node] = max((owner.get(p, OUTSIDE) for p in producers if p is not None), default=OUTSIDE)
            continue
        product = node.op_type in ("MatMul", "Gemm")
        owner[node] = shared.get(node.inputs[0], count) if product else count
        count += owner[node] == count
        if product:
            shared[node.inputs[0]] = owner[node]
    return owner


def _reads(nodes: Sequence[ir.Node], owner: Mapping[ir.Node, int]) -> tuple[tuple[str, int, int], ...]:
    found: dict[str, int] = {}
    for node in nodes:
        own = owner[node]
        for value in node.inputs:
            if value is None or not walk.is_float(value) or walk.constant(value) is not None:
                continue
            producer = value.producer()
            region = OUTSIDE if producer is None else owner.get(producer, OUTSIDE)
            if region != own and value.name:
                found[value.name] = region
    return tuple((name, region, 0) for name, region in found.items())


def _kind(node: ir.Node) -> str:
    """In words: ``"depthwise convolution 5x5"``, ``"matrix product"``."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return "matrix product"
    weight = walk.weight(node)
    shape = () if weight is None or weight.value.shape is None else tuple(weight.value.shape)[2:]
    size = "x".join(str(d) for d in shape)
    name = {"ConvTranspose": "transposed convolution"}.get(node.op_type, "convolution")
    return f"{'depthwise ' if walk.depthwise(node) else ''}{name} {size}".strip()
