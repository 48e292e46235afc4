"""Harm: how far the answers move when one region is narrowed and the rest stays float. Runs in a builder process.

The float network is cut in a few pieces. A region is narrowed in a graph that starts at the cut before it, fed with
what crosses that cut, so that the float prefix runs once and not again for every region:

    x -> [ float, once ] -> held tensors -> [ region narrowed -> float ] -> answers
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import onnx_ir as ir

from hasten.graph import edit, evaluate, halves, walk
from hasten.graph.regions import Region, merged, places, regions
from hasten.graph.taps import sizes
from hasten.passes.attention import products
from hasten.passes.floats import round_floats
from hasten.passes.placement import place
from hasten.passes.rounding import keep_float, write
from hasten.protocols import Feeds, NotApplicable
from hasten.quant.histogram import TensorStats
from hasten.quant.ranges import METHODS
from hasten.search.judge import Judge, judge, samples_for
from hasten.search.space import FOR_INT8
from hasten.search.workshop import Material, calibration, first_feeds, forms_differ, inferred
from hasten.trial import Scalar

MOST_REGIONS = 120  # more are merged with their neighbours
PIECES = 8
PARALLEL = 2
MOST_COMPARED = 32  # for comparing calibration methods
RANGES_SECONDS = 0.4  # of float inference, for comparing calibration methods
NEVER = 1e9  # the harm of what does not run
FLOATS = {"bf16": ir.DataType.BFLOAT16, "f16": ir.DataType.FLOAT16}


def choose_rounding(
    source: str, store: str, calibrate: Sequence[int], cache: str, scheme: str, outputs: Sequence[str], classes: bool,
    before: Sequence[Any] = (), methods: Sequence[str] = METHODS, fixed: Mapping[str, Scalar] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The options of ``quantize`` whose network answers most like the float one with everything in int8.

    Returns ``{"options": {"ranges", "bias", **fixed}, "harm": {"ranges" or "ranges, bias": divergence}, "attends"}``:
    every calibration method of ``methods`` with corrected biases, and the best one without, and whether there are
    products of two computed tensors that the engine can run on bytes; or ``{"not_applicable": reason}``
    where the steps ``before`` find nothing to do.
    """
    of = Material.read(source, store, calibrate, cache, before)
    if list(before[:1]) == [msgspec.to_builtins(FOR_INT8)] and not forms_differ(of):
        return {"not_applicable": "no rewrite of the clean-up suits float alone"}
    try:
        inferred(of)
    except NotApplicable as reason:
        return {"not_applicable": str(reason)}
    count = min(MOST_COMPARED, samples_for(of, len(METHODS), RANGES_SECONDS))
    by = judge(of, tuple(outputs), classes, count)

    def harm(ranges: str, bias: str) -> float:
        return by.harm(narrowed(of, scheme, {"ranges": ranges, "bias": bias, **(fixed or {})}))

    found = {(m, "corrected"): harm(m, "corrected") for m in methods}
    best = min(found, key=lambda k: found[k])[0]
    found[best, "kept"] = harm(best, "kept")
    ranges, bias = min(found, key=lambda k: found[k])
    told = {m if b == "corrected" else f"{m}, bias {b}": harm for (m, b), harm in found.items()}
    graph = inferred(of).graph
    attends = scheme == "openvino" and bool(products(graph, [n for n in graph.graph if walk.weight(n)]))
    options = {"ranges": ranges, "bias": bias, **(fixed or {})}
    return {"options": options, "harm": _finite(told), "attends": attends}


def survey(
    source: str, store: str, calibrate: Sequence[int], cache: str, scheme: str, before: Sequence[Any] = ()
) -> dict[str, Any]:
    """The regions of a network with the sizes of what they read: ``{"regions": [...], "places": {name: region}}``.

    No regions: there is nothing to narrow.
    """
    of = Material.read(source, store, calibrate, cache, before)
    found = _regions(of, scheme)
    names = sorted({name for region in found for name, _, _ in region.reads})
    size = sizes(inferred(of), names, lambda: iter(first_feeds(of, 1)))
    sized = [replace(r, reads=tuple((n, s, size.get(n, 0) // 4) for n, s, _ in r.reads)) for r in found]
    return {"regions": msgspec.to_builtins(sized), "places": places(inferred(of).graph, found)}


def measure(
    source: str, store: str, calibrate: Sequence[int], cache: str, scheme: str, options: Mapping[str, Scalar],
    formats: Sequence[str], outputs: Sequence[str], classes: bool, seconds: float, before: Sequence[Any] = (),
) -> dict[str, Any]:  # fmt: skip
    """The harm of each format in each region: ``{"harm": [{format: divergence}], "samples": n, "seconds": s}``.

    As many samples are used as ``seconds`` allow, 6 to 64.
    """
    start = time.perf_counter()
    of = Material.read(source, store, calibrate, cache, before)
    graph, found = inferred(of).graph, _regions(of, scheme)
    by = judge(of, tuple(outputs), classes, samples_for(of, len(found) * len(formats), seconds))
    stats = _stats(of, scheme)
    narrow = {name: _narrower(name, scheme, options, stats) for name in formats}
    harms = _one_at_a_time(graph, found, narrow, by)
    return {
        "harm": [_finite(harm) for harm in harms],
        "samples": len(by.feeds),
        "seconds": time.perf_counter() - start,
    }


def joint(
    source: str, store: str, calibrate: Sequence[int], cache: str, scheme: str, options: Mapping[str, Scalar],
    wide: str, plans: Sequence[Sequence[str]], outputs: Sequence[str], classes: bool, samples: int,
    before: Sequence[Any] = (),
) -> list[float]:  # fmt: skip
    """The harm of whole plans: each names the linear operators that are int8 together; the others are ``wide``."""
    of = Material.read(source, store, calibrate, cache, before)
    graph = inferred(of).graph
    by = judge(of, tuple(outputs), classes, samples)
    narrow = _narrower("int8", scheme, options, _stats(of, scheme))
    labels = frozenset(label for region in _regions(of, scheme) for label in region.linear)
    found = []
    for plan in plans:
        edited = narrow(graph.clone(), frozenset(plan)) if plan else graph.clone()
        if wide in FLOATS:
            edited = round_floats(edited, labels - frozenset(plan), FLOATS[wide])
        found.append(_bounded(by.harm(edited)))
    return found


def _regions(of: Material, scheme: str) -> list[Region]:
    graph = inferred(of).graph
    linear = place(graph, scheme, lambda _: True, chain=True).linear
    return merged(regions(graph, linear), MOST_REGIONS) if linear else []


def narrowed(of: Material, scheme: str, options: Mapping[str, Scalar]) -> ir.Model:
    """The whole network in int8, as a graph that computes the integers' values.

    Raises:
        NotApplicable: it has no linear operator that could be narrowed.
    """
    graph = inferred(of).graph.clone()
    labels = frozenset(walk.label(n) for n in place(graph, scheme, lambda _: True, chain=True).linear)
    if not labels:
        raise NotApplicable("no linear operator that could be narrowed")
    return _narrower("int8", scheme, options, _stats(of, scheme))(graph, labels)


def _one_at_a_time(
    graph: ir.Model, found: Sequence[Region], narrow: Mapping[str, Edit], by: Judge
) -> list[dict[str, float]]:
    """The harm of each region by format, with the float prefix run once a piece."""
    order = {walk.label(node): i for i, node in enumerate(graph.graph)}
    starts = [min(order[label] for label in region.linear) for region in found]
    per_piece = -(-len(found) // PIECES)
    held, at, harms = list(by.feeds), 0, list[dict[str, float]]()
    with ThreadPoolExecutor(PARALLEL) as pool:  # two of one thread each waste less than one of two
        for first in range(0, len(found), per_piece):
            if starts[first] > at and halves.possible(graph, starts[first]):
                held, at = _advanced(graph, held, at, starts[first]), starts[first]
            piece = halves.behind(graph, at) if at else graph
            part = _still_open(by, piece)

            def harm_of(
                region: Region, piece: ir.Model = piece, part: Judge = part, held: list[Feeds] = held
            ) -> dict[str, float]:
                labels, share = frozenset(region.linear), len(part.outputs) / len(by.outputs)
                edited = ((name, edit(piece.clone(), labels)) for name, edit in narrow.items())
                return {name: share * part.harm(graph, held, threads=1) for name, graph in edited}

            harms += pool.map(harm_of, found[first : first + per_piece])
    return harms


def _still_open(by: Judge, piece: ir.Model) -> Judge:
    """The judge for a graph that starts behind a cut: an output that was complete before has not moved."""
    outputs = tuple(v.name for v in piece.graph.outputs if v.name in by.outputs)
    kept = [by.outputs.index(name) for name in outputs]
    return replace(by, outputs=outputs, wanted=[[answers[k] for k in kept] for answers in by.wanted])


def _advanced(graph: ir.Model, held: Sequence[Feeds], at: int, to: int) -> list[Feeds]:
    """What crosses the cut at ``to``, computed from what crosses the one at ``at``."""
    between, wanted = halves.between(graph, at, to), halves.crossing(graph, to)
    loaded = evaluate.session(between, optimise=True) if between.graph.outputs else None
    names = [o.name for o in loaded.get_outputs()] if loaded else []
    takes = {i.name for i in loaded.get_inputs()} if loaded else set()
    found: list[Feeds] = []
    for one in held:
        feeds = {k: v for k, v in one.items() if k in takes}
        fresh = dict(zip(names, loaded.run(names, feeds), strict=True)) if loaded else {}
        found.append(halves.advance(one, fresh, wanted))
    return found


Edit = Callable[[ir.Model, frozenset[str]], ir.Model]


def _narrower(name: str, scheme: str, options: Mapping[str, Scalar], stats: Mapping[str, TensorStats]) -> Edit:
    """How to narrow the linear operators with given labels to a format, in place."""
    if name in FLOATS:
        return lambda graph, labels: round_floats(graph, labels, FLOATS[name])

    def int8(graph: ir.Model, labels: frozenset[str]) -> ir.Model:
        attention = options.get("attention") == "int8"
        plan = place(graph, scheme, lambda node: walk.label(node) in labels, chain=True, attention=attention)
        ranges, per_channel = str(options["ranges"]), bool(options.get("per_channel", True))
        bias32, correct = scheme != "openvino", options["bias"] == "corrected"
        write(graph, plan, lambda _: ranges, stats, bias32=bias32, per_channel=per_channel, correct=correct)
        if scheme == "onnxruntime":
            keep_float(graph)
        edit.prune(graph)
        return graph

    return int8


def _stats(of: Material, scheme: str) -> Mapping[str, TensorStats]:
    """Of the tensors that some placement rounds: those of the full one, and what single operators read and write."""
    graph = inferred(of).graph
    names, channels = map(set, place(graph, scheme, lambda _: True, chain=True, attention=True).needs())
    for node in graph.graph:
        if walk.weight(node):
            names.update(v.name for v in (node.inputs[0], node.outputs[0]) if v is not None and v.name)
    return calibration(of).stats(inferred(of), sorted(names), sorted(channels))


def _finite(found: Mapping[str, float]) -> dict[str, float]:
    """JSON knows no infinity; what does not run is as harmful as can be."""
    return {name: _bounded(harm) for name, harm in found.items()}


def _bounded(harm: float) -> float:
    return harm if harm < NEVER else NEVER  # NaN is no answer either
