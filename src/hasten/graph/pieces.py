"""Run a network piece by piece, each node once: what lies between is kept for a few samples, and may be changed.

x -> [Conv] -> a -> [Relu, Conv] -> b -> [Add(a), Conv] -> c      targets a, b and c make three pieces
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hasten.graph import evaluate
from hasten.graph.walk import Array
from hasten.protocols import Feeds


@dataclass(frozen=True)
class Piece:
    """The nodes that compute ``outputs`` (the target first) from ``inputs``; ``kept`` is what later pieces read."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kept: frozenset[str]

    @property
    def target(self) -> str:
        """The tensor that ends the piece."""
        return self.outputs[0]


def pieces(model: ir.Model, targets: Sequence[ir.Value]) -> list[Piece]:
    """One piece for each target; targets come in the order of execution. What no target needs is in none."""
    where: dict[ir.Node, int] = {}
    for i, target in enumerate(targets):
        waiting = [target.producer()]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in where:
                where[node] = i
                waiting += [value.producer() for value in read(node)]
    last: dict[ir.Value, int] = {}
    for node, i in where.items():
        for value in read(node):
            last[value] = max(last.get(value, i), i)
    made = {value: i for node, i in where.items() for value in node.outputs}
    found = []
    for i, target in enumerate(targets):
        inputs = {v for node, at in where.items() if at == i for v in read(node) if made.get(v, -1) < i}
        later = [v for v, at in made.items() if at == i and v is not target and last.get(v, i) > i]
        kept = {v for v, until in last.items() if until > i and made.get(v, -1) <= i}
        found.append(Piece(_names(inputs), (target.name or "", *_names(later)), frozenset(_names(kept))))
    return found


def read(node: ir.Node) -> Iterator[ir.Value]:
    """The computed or fed tensors that a node reads, its bodies included."""
    bodies = [g for a in node.attributes.values() for g in _graphs(a)]
    inside = (v for body in bodies for inner in ir.traversal.RecursiveGraphIterator(body) for v in inner.inputs)
    for value in (*node.inputs, *(v for v in inside if v is not None and v.graph is node.graph)):
        if value is not None and not value.is_initializer():
            yield value


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else []


def _names(values: object) -> tuple[str, ...]:
    return tuple(sorted({v.name for v in values if v.name}))  # type: ignore[attr-defined]


def peak_bytes(plan: Sequence[Piece], sizes: Mapping[str, int]) -> int:
    """The most that is held of one sample; ``sizes`` are the bytes of each tensor."""
    held, most = set[str](), 0
    for piece in plan:
        held |= {*piece.inputs, *piece.outputs}
        most = max(most, sum(sizes.get(name, 0) for name in held))
        held &= piece.kept
    return most


def run(
    model: ir.Model, plan: Sequence[Piece], samples: Sequence[Feeds]
) -> Iterator[tuple[Piece, list[dict[str, Array]]]]:
    """Each piece, with what is known of each sample once it has run.

    The arrays may be changed before the next piece is asked for, and so may constants of the model that later pieces
    read, and nodes between their inputs and outputs. A node runs as it is written, nothing is fused.
    """
    known: list[dict[str, Array]] = [dict(sample) for sample in samples]
    for piece in plan:
        graph = ir.convenience.extract(model.graph, piece.inputs, piece.outputs)
        for value in graph.inputs:
            dtype = known[0][value.name or ""].dtype
            value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(dtype)), None
        functions = list(model.functions.values())
        session = evaluate.session(ir.Model(graph, ir_version=model.ir_version, functions=functions))
        for arrays in known:
            outputs = session.run(list(piece.outputs), {name: arrays[name] for name in piece.inputs})
            arrays.update(zip(piece.outputs, outputs, strict=True))
        yield piece, known
        for arrays in known:
            for name in set(arrays) - piece.kept:
                del arrays[name]
