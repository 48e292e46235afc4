"""Whether a network reaches an edge of an engine: an operator and values for which the engine answers otherwise.

Which operators there are the graph says; which values reach them, the user's own samples do (docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from hasten.compare import Array
from hasten.engines.edges import Edge, edges
from hasten.frontends.onnx import load
from hasten.graph import edit, evaluate, walk
from hasten.samples import SampleStore
from hasten.samples.sequence import unroll
from hasten.search.field import Run, study
from hasten.worker import CallFailed, WorkerDied

SEEN = 8  # samples whose inner tensors are looked at
MARGIN = 256  # values that come within this factor of an edge reach it on samples that are not here
LARGEST = 2.0**31
FOUND_IN = "hasten.search.edges:found_in"
LISTED = 3  # nodes named
WIDE = frozenset({ir.DataType.INT64, ir.DataType.UINT64, ir.DataType.UINT32})
WHOLE = WIDE | {ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.UINT8}


@dataclass(frozen=True)
class Found:
    """An edge that operators of the network have; ``reached`` where the samples come near it.

    ``hidden``: some of these operators lie in a body of If, Loop or Scan, whose inner values nobody sees.
    """

    words: str
    nodes: list[str]
    reached: bool
    hidden: bool = False


def found_in(source: str, store: str, engine: str, ids: Sequence[int]) -> list[Found]:
    """The edges of ``engine`` that the network ``source`` has. Runs in a builder process."""
    graph = load(Path(source)).graph
    edit.infer(graph)
    sized = of_sizes(graph)
    top = set(graph.graph)
    having = [(edge, [n for n in graph.graph.all_nodes() if concerns(edge, n, sized)]) for edge in edges(engine)]
    watched = {v.name: v for e, nodes in having for n in nodes if n in top for v in observed(e, n, sized) if v.name}
    faces = [str(v.name) for v in (*graph.graph.inputs, *graph.graph.outputs)]
    watched.update({str(v.name): v for v in (*graph.graph.inputs, *graph.graph.outputs)})
    seen = ranges(graph, watched, SampleStore.open(Path(store)), ids)
    holed = any(name in seen and np.isnan(seen[name][0]) for name in faces)
    found = []
    for edge, nodes in having:
        seeable = [n for n in nodes if n in top]
        near = [n for n in seeable if any(reaches(edge, n, seen.get(str(v.name))) for v in observed(edge, n, sized))]
        near = nodes if edge.reach in ("always", "double") or (edge.reach == "nan" and holed) else near
        if nodes:
            named = [f"{n.op_type} {walk.label(n)!r}" for n in (near or nodes)[:LISTED]]
            hidden = not near and len(seeable) < len(nodes)
            found.append(Found(edge.words, named, bool(near), hidden))
    return found


def of_sizes(graph: ir.Model) -> set[ir.Value]:
    """Constants and what is computed from them and from sizes alone: no sample changes them beyond a tensor's size."""
    known = {v for v in graph.graph.initializers.values() if v.name not in {i.name for i in graph.graph.inputs}}
    for node in graph.graph.all_nodes():
        for body in (a.value for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH):
            known.update(body.initializers.values(), body.inputs[:1] if node.op_type == "Loop" else ())
        if node.op_type in ("Shape", "Size") or all(v is None or v in known for v in node.inputs):
            known.update(node.outputs)
    return known


def concerns(edge: Edge, node: ir.Node, sized: Collection[ir.Value]) -> bool:
    """Can the values of this operator be what the edge needs?"""
    if (edge.operators and node.op_type not in edge.operators) or all(v in sized for v in node.outputs):
        return False
    fed = [v for v in node.inputs if v is not None and v not in sized]
    if edge.reach == "wide":
        return bool(fed) and any(v.dtype in WIDE for v in (*fed, *node.outputs))
    if edge.reach == "double":
        return any(v.dtype == ir.DataType.DOUBLE for v in fed)
    if edge.reach == "cast":
        into = node.outputs[0].dtype
        return bool(fed) and fed[0].dtype not in WHOLE and (into is None or into in WHOLE)
    if edge.reach == "index":
        return any(v in fed for v in node.inputs[1:2])
    if edge.reach == "nan":
        return any(v.dtype is None or v.dtype.is_floating_point() for v in fed)
    return bool(fed)


def observed(edge: Edge, node: ir.Node, sized: Collection[ir.Value]) -> list[ir.Value]:
    """The tensors whose values say whether a sample comes near the edge."""
    if edge.reach == "wide":
        able = (*node.inputs, *node.outputs)
    elif edge.reach == "index":
        able = tuple(node.inputs[1:2])
    else:
        able = tuple(node.inputs[:1]) if edge.reach == "cast" else ()
    wanted = [v for v in able if v is not None and v not in sized]
    return [v for v in wanted if edge.reach != "wide" or v.dtype in WIDE]


def reaches(edge: Edge, node: ir.Node, seen: tuple[float, float] | None) -> bool:
    """Do values between these two come near the edge?"""
    if seen is None:
        return False
    low, high = seen
    if np.isnan(low) or np.isnan(high):
        return True
    if edge.reach == "index":
        return low < 0
    largest = LARGEST
    if edge.reach == "cast" and (into := node.outputs[0].dtype) is not None and into.bitwidth < 32:
        signed = into.name.startswith("INT")
        return low < (-(2.0 ** (into.bitwidth - 1)) if signed else 0) or high >= 2.0 ** (into.bitwidth - signed)
    return max(-low, high) * MARGIN >= largest


def ranges(
    graph: ir.Model, watched: Mapping[str, ir.Value], store: SampleStore, ids: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """The least and the largest value of inner tensors over a few samples; NaN where one is."""
    if not watched:
        return {}
    outputs = {v.name for v in graph.graph.outputs}
    fed = {v.name for v in graph.graph.inputs}
    graph.graph.outputs.extend(v for n, v in watched.items() if n not in outputs | fed and v.dtype is not None)
    loaded = evaluate.session(graph)
    names = [o.name for o in loaded.get_outputs() if o.name in watched]
    found: dict[str, tuple[float, float]] = {}
    for feeds in _feeds(store, ids[:SEEN]):
        inner = dict(zip(names, loaded.run(names, feeds) if names else [], strict=True))
        for name, array in {**{n: feeds[n] for n in watched if n in feeds}, **inner}.items():
            if array.size and array.dtype.kind in "fiu":
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = (float(np.minimum(low, array.min())), float(np.maximum(high, array.max())))
    return found


def _feeds(store: SampleStore, ids: Sequence[int]) -> Iterator[dict[str, Array]]:
    for i in ids:
        yield {k: np.array(a) for k, a in unroll(store, store.sample(i))[0].items()}


def of_engine(run: Run, engine: str) -> list[Found]:
    """The edges of an engine that this network has; none where the graph could not be looked into."""
    if engine in run.edges or not edges(engine):
        return list(run.edges.get(engine, ()))
    source, store = str(run.source), str(run.evaluator.store.directory)
    ids = [int(i) for i in run.splits.search[:SEEN]]
    try:
        run.edges[engine] = study(run, FOUND_IN, list[Found], source=source, store=store, engine=engine, ids=ids)
    except (WorkerDied, CallFailed):
        run.edges[engine] = []
    return list(run.edges[engine])


def ruled_out(run: Run, engine: str) -> str:
    """Why an engine is not lossless for this network, whatever its answers on the samples are; empty where it is."""
    own = engine == run.trials[run.given].candidate.engine
    near = [] if own else [one for one in of_engine(run, engine) if one.reached]
    return "; ".join(f"{', '.join(one.nodes)}: {one.words}" for one in near[:LISTED])


def warning(run: Run, engine: str) -> str:
    """The edges that no sample comes near, in one line; empty where there are none."""
    far = [one for one in of_engine(run, engine) if not one.reached]
    if not far or engine == run.trials[run.given].candidate.engine:
        return ""
    open_, hidden = ([one for one in far if one.hidden == inside] for inside in (False, True))
    parts = [f"where no sample comes: {_listed(open_)}"] if open_ else []
    parts += [f"in bodies of If, Loop or Scan, whose values are not seen: {_listed(hidden)}"] if hidden else []
    return f"{engine} differs from ONNX {'; and '.join(parts)}"


def _listed(found: Sequence[Found]) -> str:
    return "; ".join(f"{one.words} ({one.nodes[0]}{', ...' if len(one.nodes) > 1 else ''})" for one in found)
