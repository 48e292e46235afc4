"""What going without channels, or with less rank, loses and saves, layer by layer. Runs in a builder process.

A knob is what can be turned down by itself: a group of channels that hang together, or a linear layer that can become
two thin ones. Each of its options has a loss (a share of the variance of answers, from second moments), a first guess
of the time (multiplications), and, when asked for, the time measured on an engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir

from hasten import registry
from hasten.errors import InputError
from hasten.graph import edit, walk
from hasten.graph.taps import collect
from hasten.graph.work import multiplications, weights
from hasten.measure import steps as stairs
from hasten.model import Model
from hasten.passes import factorize, prune
from hasten.protocols import Array, Context, Feeds, NotApplicable
from hasten.quant.histogram import TensorStats
from hasten.search.workshop import Material, calibration, first_feeds, make_pass, prepared
from hasten.trial import Scalar, Step

KEPT = (7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4, 1 / 8)  # shares of a group's channels
RANKS = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 0.7)  # shares of the rank at which two layers multiply as often as one
MULTIPLE = 8  # channels and ranks: what kernels take at a time


@dataclass(frozen=True)
class Knob:
    """``told`` is what the pass is told of each option, by ``name=``; the first, empty, leaves the layer as it is."""

    name: str
    told: tuple[str, ...]
    loss: tuple[float, ...]
    work: tuple[float, ...]  # multiplications
    numbers: tuple[float, ...]  # in the weights


def survey(
    source: str, store: str, calibrate: Sequence[int], cache: str, way: str, before: Sequence[Any] = ()
) -> dict[str, Any]:
    """``{"knobs": [...], "work": multiplications of the whole}`` or ``{"not_applicable": reason}``.

    ``way`` is the pass, ``prune`` or ``factorize``; it comes behind the steps ``before``.
    """
    of = Material.read(source, store, calibrate, cache, before)
    try:
        found = {"prune": _groups, "factorize": _layers}[way](of)
    except NotApplicable as reason:
        return {"not_applicable": str(reason)}
    model = prepared(of)
    work, numbers = multiplications(model, calibration(of).feeds), weights(model)
    return {"knobs": msgspec.to_builtins(found), "work": sum(work.values()), "numbers": sum(numbers.values())}


def _groups(of: Material) -> list[Knob]:
    model, context = prepared(of), calibration(of).context()
    graph, found = prune.prepared(model)
    orders = prune.ranked(model, graph, found, found.groups, context, "compensated")
    work, numbers = multiplications(replace(model, graph=graph), context.feeds), weights(replace(model, graph=graph))
    knobs = []
    for group in found.groups:
        full = len(group.units)
        counts = [full, *_fewer(full, [prune.rounded(share, group, MULTIPLE) for share in KEPT])]
        touched = {*group.writers, *group.readers}
        whole, held = (sum(several.get(name, 0) for name in touched) for several in (work, numbers))
        loss = orders[group.name].loss
        knobs.append(
            Knob(
                group.name,
                ("", *map(str, counts[1:])),
                tuple(float(loss[full - count]) for count in counts),
                tuple(whole * count / full for count in counts),
                tuple(held * count / full for count in counts),
            )
        )
    return [knob for knob in knobs if len(knob.told) > 1]


def _fewer(full: int, counts: Sequence[int]) -> list[int]:
    return sorted({count for count in counts if 0 < count < full}, reverse=True)


def _layers(of: Material) -> list[Knob]:
    model, context = prepared(of), calibration(of).context()
    graph = model.clone_graph()
    edit.infer(graph)
    work = multiplications(replace(model, graph=graph), context.feeds)
    knobs = []
    for name, layer in _spectra(model, graph, context):
        options = [("", 0.0, 1.0)]
        for kind in factorize.KINDS[: 1 if layer.cut is None else 2]:
            even, most = layer.even(kind), _most(layer, kind)
            for rank in _fewer(min(most, int(even)) + 1, [max(MULTIPLE, _even(share * even)) for share in RANKS]):
                mark = "" if kind == "channel" else f":{kind}"
                options.append((f"{rank}{mark}", layer.loss(rank, kind), rank / even))
        whole = work.get(name, 0)
        told, loss, share = zip(*options, strict=True)
        held = layer.view.w.size
        work_left, left = tuple(whole * s for s in share), tuple(held * s for s in share)
        knobs.append(Knob(layer.node.name or name, told, loss, work_left, left))
    return [knob for knob in knobs if len(knob.told) > 1 and knob.work[0]]


def _even(rank: float) -> int:
    return round(rank / MULTIPLE) * MULTIPLE


def _most(layer: factorize.Layer, kind: str) -> int:
    if kind == "spatial" and layer.cut is not None:
        return len(layer.cut.vertical)
    return len(layer.whole.sigma)


def _spectra(model: Model, graph: ir.Model, context: Context) -> Iterator[tuple[str, factorize.Layer]]:
    kept = context.kept.setdefault(("factorize", repr(model.history)), {})
    yield from factorize.spectra(graph, factorize.candidates(graph), context.feeds, kept)


def clock(
    source: str, store: str, calibrate: Sequence[int], cache: str, way: str, engine: str,
    settings: Mapping[str, Scalar], steps: Sequence[Mapping[str, Any]], knobs: Sequence[Mapping[str, Any]],
    batch: int, seconds: float, before: Sequence[Any] = (),
) -> dict[str, list[float]]:  # fmt: skip
    """Milliseconds of the part of the network that each knob changes, by its name, at each of its options.

    In the engine and the precision that ``steps`` (those behind ``before``) bring; parts that look alike are timed
    once. The most promising come first, and when ``seconds`` are over the rest are left out. A part that does not run
    by itself has no times.
    """
    of, deadline = Material.read(source, store, calibrate, cache, before), time.perf_counter() + seconds
    wanted = sorted(msgspec.convert(list(knobs), list[Knob]), key=lambda knob: knob.work[-1] - knob.work[0])
    timer = _Timer(registry.find("engines", engine), dict(settings), _finish(msgspec.convert(list(steps), list[Step])))
    variants = {"prune": _narrower, "factorize": _thinner}[way](of, _joined(first_feeds(of, batch)))
    known: dict[object, list[float]] = {}
    found: dict[str, list[float]] = {}
    for knob in wanted:
        if time.perf_counter() > deadline:
            break
        try:
            models, inputs = variants(knob)
            alike = (_looks(models[0], inputs), knob.told)
            if alike not in known:
                known[alike] = timer.times(models, inputs)
            found[knob.name] = known[alike]
        except (stairs.DoesNotRun, InputError):  # an engine's, or that of the run that its statistics come from
            found[knob.name] = []
    return found


def _joined(feeds: Sequence[Feeds]) -> Feeds:
    """As many samples as are served at a time, where they can be joined; else the first."""
    shapes = {tuple(np.shape(a) for a in one.values()) for one in feeds}
    if len(feeds) == 1 or len(shapes) > 1:
        return feeds[0]
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


Variants = Callable[[Knob], tuple[list[Model], dict[str, Array]]]


def _narrower(of: Material, feeds: Feeds) -> Variants:
    """The region of a group with each number of units left."""
    graph, found = prune.prepared(prepared(of))

    def variants(knob: Knob) -> tuple[list[Model], dict[str, Array]]:
        group = found.group(knob.name)
        assert group is not None
        region, inputs = stairs.region_of(graph, found, group, feeds)
        counts = [len(group.units), *map(int, knob.told[1:])]
        return [stairs.as_model(stairs.narrowed(region, found, group, count)) for count in counts], inputs

    return variants


def _thinner(of: Material, feeds: Feeds) -> Variants:
    """A layer by itself, and as two of each rank."""
    model, context = prepared(of), calibration(of).context()
    graph = model.clone_graph()
    edit.infer(graph)
    layers = {layer.node.name or name: (name, layer) for name, layer in _spectra(model, graph, context)}

    def variants(knob: Knob) -> tuple[list[Model], dict[str, Array]]:
        output, layer = layers[knob.name]
        found = []
        for told in knob.told:
            region, inputs = stairs.node_of(graph, output, feeds)
            if told:
                rank, _, kind = told.partition(":")
                here = replace(layer, node=next(n for n in region.graph if n.outputs[0].name == output))
                factorize.replace(region, here, int(rank), kind or "channel", edit.names(region))
            found.append(stairs.as_model(region))
        return found, inputs

    return variants


@dataclass(frozen=True)
class _Timer:
    engine: Any
    settings: Mapping[str, Scalar]
    finish: stairs.Finish

    def times(self, models: Sequence[Model], inputs: Feeds) -> list[float]:
        finished = {i: self.finish(model, inputs) for i, model in enumerate(models)}
        return list(stairs.times(finished, self.engine, self.settings, inputs).values())


def _finish(steps: Sequence[Step]) -> stairs.Finish:
    """The precision, with the quickest calibration: only the time counts here."""
    quick: dict[str, Scalar | list[str]] = {"ranges": "minmax", "bias": "kept", "overrides": []}
    plain = [
        replace(s, options={k: quick.get(k, v) for k, v in s.options.items()}) if s.name == "quantize" else s
        for s in steps
    ]

    def finish(model: Model, inputs: Feeds) -> Model:
        def stats(model: Model, names: Sequence[str], channels: Collection[str] = ()) -> Mapping[str, TensorStats]:
            return collect(model, names, lambda: iter([inputs]), channels=channels)

        context = Context(feeds=lambda: iter([inputs]), stats=stats)
        for step in plain:
            try:
                model = make_pass(step)(model, context)
            except NotApplicable:
                continue
        return model

    return finish


def _looks(model: Model, inputs: Feeds) -> tuple[object, ...]:
    """What the time of a region depends on: operators with their attributes, sizes of weights and inputs."""
    nodes = tuple(
        (
            node.op_type,
            tuple(sorted(str(a) for a in node.attributes.values())),
            tuple(None if (array := walk.constant(v)) is None else array.shape for v in node.inputs),
        )
        for node in model.graph.graph
    )
    return nodes, tuple(np.shape(a) for a in inputs.values())
