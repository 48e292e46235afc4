"""What a long-lived builder process keeps between requests: networks read once, tidied once, statistics at hand."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from hasten import registry
from hasten.frontends.onnx import load
from hasten.graph import walk
from hasten.graph.taps import collect
from hasten.machine import instruction_sets
from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.protocols import Array, Context, Feeds, NotApplicable
from hasten.quant import histogram
from hasten.quant.histogram import TensorStats
from hasten.samples import SampleStore
from hasten.samples.sequence import unroll

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
    """What a builder works on: the network's file, spooled samples, the calibrate split, and a file for statistics."""

    source: str
    store: str
    calibrate: tuple[int, ...]
    cache: str

    @classmethod
    def read(cls, source: str, store: str, calibrate: Sequence[int], cache: str) -> Material:
        """From what JSON brings."""
        return cls(source, store, tuple(calibrate), cache)


@lru_cache(KEPT)
def opened(source: str) -> Model:
    """The network in ``source``, checked and read once."""
    return load(Path(source))


@lru_cache(KEPT)
def calibration(of: Material) -> Calibration:
    """The calibrate split, opened once."""
    return Calibration(SampleStore.open(Path(of.store)), of.calibrate, Path(of.cache))


@lru_cache(KEPT)
def tidied(of: Material) -> Model:
    """The network after the default clean-up; as it is where there is nothing to tidy."""
    model = opened(of.source)
    try:
        return Clean()(model, calibration(of).context())
    except NotApplicable:
        return model


@lru_cache(KEPT)
def inferred(of: Material) -> Model:
    """The tidied network with shapes and types of its inner tensors: what placements are made on, in copies."""
    model = tidied(of)
    graph = model.clone_graph()
    walk.infer(graph)
    return replace(model, graph=graph)


def first_feeds(of: Material, count: int) -> list[Feeds]:
    """The first ``count`` of what the network is fed on the calibrate split."""
    return [dict(feeds) for feeds in islice(calibration(of).steps(tidied(of)), count)]
