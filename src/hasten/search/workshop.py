"""What a long-lived builder process keeps between requests: networks read once, tidied once, statistics at hand."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import msgspec

from hasten import registry
from hasten.frontends.onnx import load
from hasten.graph import edit
from hasten.graph.taps import collect
from hasten.graph.wide import widened
from hasten.machine import instruction_sets
from hasten.model import Model
from hasten.passes.clean import FLOAT_ONLY, Clean
from hasten.protocols import Array, Context, Feeds
from hasten.quant import histogram
from hasten.quant.histogram import TensorStats
from hasten.samples import SampleStore
from hasten.samples.sequence import unroll
from hasten.search.space import CLEAN, FOR_INT8
from hasten.trial import Step

KEEPING = (
    "equalize",
    "scale_inputs",
    "smooth",
)  # passes that change what narrowing does, and not what the network computes
KEPT = 4  # networks, and sets of statistics, held at once


@dataclass(frozen=True)
class Calibration:
    """The calibrate split as a pass sees it, with the statistics of inner tensors kept on disk between processes."""

    store: SampleStore
    ids: tuple[int, ...]
    cache: Path
    kept: MutableMapping[object, Any] = field(default_factory=dict, compare=False)

    def feeds(self) -> Iterator[Feeds]:
        """Each sample once, as a batch of one; of a sequence its first step."""
        for i in self.ids:
            yield unroll(self.store, self.store.sample(i))[0]

    def steps(self, model: Model) -> Iterator[Feeds]:
        """Every step of every sample, with the state that the float network itself carried there."""
        return carried(model, self.store, self.ids) if self.store.sequential else self.feeds()

    def stats(self, model: Model, names: Sequence[str], channels: Collection[str] = ()) -> Mapping[str, TensorStats]:
        """Statistics of the tensors ``names``; only what was not seen before costs a run of the network.

        A pass may change tensors and keep their names, so each history has a file of its own.
        """
        cache = self.cache.with_stem(f"{self.cache.stem}-{sha256(repr(model.history).encode()).hexdigest()[:12]}")
        known = histogram.load(cache) if cache.exists() else {}
        wanted = [n for n in names if n not in known or (n in channels and known[n].channel_count == 0)]
        if wanted:
            known = {**known, **collect(model, wanted, lambda: self.steps(model), channels=channels)}
            cache.parent.mkdir(parents=True, exist_ok=True)
            histogram.save(cache, known)
        return {n: known[n] for n in names if n in known}

    def context(self) -> Context:
        """What passes are given."""
        return Context(feeds=self.feeds, stats=self.stats, instruction_sets=instruction_sets(), kept=self.kept)


def carried(model: Model, store: SampleStore, ids: Sequence[int]) -> Iterator[Feeds]:
    """Run the float network through the sequences ``ids`` and yield what each step was fed."""
    names = [output.name for output in model.outputs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        model.save(path)
        runner = registry.find("engines", "onnxruntime").load(path, {})
        for i in ids:
            held: dict[str, Array] = {}
            for step in unroll(store, store.sample(i)):
                feeds = {**step, **held}
                yield feeds
                outputs = dict(zip(names, runner.run(feeds), strict=True))
                held = {to: outputs[source] for to, source in store.state.items()}


@dataclass(frozen=True)
class Material:
    """What a builder works on: the network's file, spooled samples, the calibrate split, and a file for statistics.

    ``before`` holds the steps, as JSON, that prepare the tidied network for narrowing and keep what it computes. When
    the first is a clean-up, it replaces the default one.
    """

    source: str
    store: str
    calibrate: tuple[int, ...]
    cache: str
    before: bytes = b"[]"

    @classmethod
    def read(
        cls, source: str, store: str, calibrate: Sequence[int], cache: str, before: Sequence[Any] = ()
    ) -> Material:
        """From what JSON brings."""
        return cls(source, store, tuple(calibrate), cache, msgspec.json.encode(before))


@lru_cache(KEPT)
def opened(source: str) -> Model:
    """The network in ``source``, checked and read once."""
    return load(Path(source))


@lru_cache(KEPT)
def in_float32(source: str) -> Model:
    """The network in ``source`` as passes take it: where it is in another float, computed in float32."""
    model = opened(source)
    graph = widened(model.graph)
    return model if graph is None else model.with_graph(graph, "float32")


def calibration(of: Material) -> Calibration:
    """The calibrate split, opened once, whatever was done to the network before."""
    return _calibration(of.store, of.calibrate, of.cache)


@lru_cache(KEPT)
def _calibration(store: str, ids: tuple[int, ...], cache: str) -> Calibration:
    return Calibration(SampleStore.open(Path(store)), ids, Path(cache))


@lru_cache(KEPT)
def tidied(of: Material, for_: str) -> tuple[Model, frozenset[str]]:
    """The network after the clean-up, as it is where there is nothing to tidy; and the rewrites that were applied."""
    model, clean = in_float32(of.source), Clean(for_=for_)
    found = clean.settled(model, calibration(of).context())
    if found.graph is None:
        return model, frozenset()
    return clean.told(model, found), frozenset(site.rewrite for site in found.done)


def make_pass(step: Step) -> Any:
    """The pass behind a step. Raises ``UsageError`` for an unknown name, ``TypeError`` for an unknown option."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in step.options.items()}
    return registry.find("passes", step.name)(**options)


@lru_cache(KEPT)
def prepared(of: Material) -> Model:
    """The tidied network after the steps ``before``. Raises ``NotApplicable`` where one of them finds nothing to do."""
    todo = msgspec.json.decode(of.before, type=list[Step])
    form = "int8" if todo[:1] == [FOR_INT8] else "float"
    model, _ = tidied(replace(of, before=b"[]"), form)
    for step in todo[form == "int8" :]:
        model = make_pass(step)(model, calibration(of).context())
    return model


def forms_differ(of: Material) -> bool:
    """Did the clean-up do anything that suits float alone?"""
    _, applied = tidied(replace(of, before=b"[]"), "float")
    return bool(applied & FLOAT_ONLY)


def begun(of: Material, steps: list[Step]) -> tuple[Model, list[Step]]:
    """The network after the leading steps that keep what it computes, held for the next recipe, and the other steps."""
    if steps[:1] not in ([CLEAN], [FOR_INT8]):
        return in_float32(of.source) if steps else opened(of.source), steps
    kept = list(takewhile(lambda step: step.name in KEEPING, steps[1:]))
    before = [*(steps[:1] if steps[0] == FOR_INT8 else []), *kept]
    return prepared(replace(of, before=msgspec.json.encode(before))), steps[1 + len(kept) :]


@lru_cache(KEPT)
def inferred(of: Material) -> Model:
    """The prepared network with shapes and types of its inner tensors: what placements are made on, in copies."""
    model = prepared(of)
    graph = model.clone_graph()
    edit.infer(graph)
    return replace(model, graph=graph)


def first_feeds(of: Material, count: int) -> list[Feeds]:
    """The first ``count`` of what the network is fed on the calibrate split."""
    return [dict(feeds) for feeds in islice(calibration(of).steps(prepared(of)), count)]
