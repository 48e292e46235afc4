"""From a recipe to an artefact on disk. Runs inside a worker: a pass that crashes takes nobody with it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hasten import durable, registry
from hasten.frontends.onnx import describe, load
from hasten.graph.taps import collect
from hasten.machine import instruction_sets
from hasten.model import Model, file_digest
from hasten.protocols import Array, Context, Feeds, NotApplicable
from hasten.quant import histogram
from hasten.quant.histogram import TensorStats
from hasten.samples import SampleStore
from hasten.samples.sequence import unroll
from hasten.trial import Step


@dataclass(frozen=True)
class Calibration:
    """The calibrate split as a pass sees it, with the statistics of inner tensors kept on disk between workers."""

    store: SampleStore
    ids: tuple[int, ...]
    cache: Path

    def feeds(self) -> Iterator[Feeds]:
        """Each sample once, as a batch of one; of a sequence its first step."""
        for i in self.ids:
            yield unroll(self.store, self.store.sample(i))[0]

    def steps(self, model: Model) -> Iterator[Feeds]:
        """Every step of every sample, with the state that the float network itself carried there."""
        return carried(model, self.store, self.ids) if self.store.sequential else self.feeds()

    def stats(self, model: Model, names: Sequence[str]) -> Mapping[str, TensorStats]:
        """Statistics of the tensors ``names``; only those not seen before cost a run of the network."""
        known = histogram.load(self.cache) if self.cache.exists() else {}
        wanted = [n for n in names if n not in known]
        if wanted:
            known = {**known, **collect(model, wanted, lambda: self.steps(model))}
            histogram.save(self.cache, known)
        return {n: known[n] for n in names if n in known}


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


def inspect(path: str) -> dict[str, Any]:
    """Check a file and tell what it holds: ``{"inputs", "outputs", "opset", ...}``. Runs in a worker."""
    model = load(Path(path))
    return {
        **describe(model),
        "inputs": msgspec.to_builtins(model.inputs),
        "outputs": msgspec.to_builtins(model.outputs),
    }


def build(
    source: str, steps: Sequence[Mapping[str, Any]], engine: str, directory: str, store: str, calibrate: Sequence[int]
) -> dict[str, Any]:
    """Apply ``steps`` to the network ``source`` and export it for ``engine`` into ``directory``.

    Returns ``{"artefact", "bytes", "seconds", "history"}``, or ``{"not_applicable": reason}``.
    """
    start = time.perf_counter()
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    model = load(Path(source))
    calibration = Calibration(SampleStore.open(Path(store)), tuple(calibrate), folder.parent / "stats.npz")
    context = Context(feeds=calibration.feeds, stats=calibration.stats, instruction_sets=instruction_sets())
    for step in msgspec.convert(list(steps), list[Step]):
        try:
            model = make_pass(step)(model, context)
        except NotApplicable as reason:
            if step.name != "clean":  # a network with nothing to tidy is as good as a tidied one
                return {"not_applicable": str(reason)}
    onnx = folder / "model.onnx"
    with durable.disk("a candidate"):
        model.save(onnx)
        artefact = registry.find("engines", engine).export(onnx, folder)
    written = [path for path in (onnx, onnx.with_suffix(".data")) if path.exists()]
    digest = "".join(map(file_digest, written))
    for path in written if artefact != onnx else ():
        path.unlink()  # an engine's own format holds all of it
    return {
        "artefact": str(artefact),
        "bytes": artefact_bytes(artefact),
        "digest": digest,
        "seconds": time.perf_counter() - start,
        "history": list(model.history),
    }


def make_pass(step: Step) -> Any:
    """The pass behind a step. Raises ``UsageError`` for an unknown name, ``TypeError`` for an unknown option."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in step.options.items()}
    return registry.find("passes", step.name)(**options)


def artefact_bytes(artefact: Path) -> int:
    """Bytes of a served network: the file with its weights."""
    beside = [artefact.with_suffix(".data"), artefact.with_suffix(".bin")]
    return artefact.stat().st_size + sum(p.stat().st_size for p in beside if p.exists())


def divergences(
    reference: str, artefacts: Sequence[str], engine: str, store: str, ids: Sequence[int], output: int
) -> list[float]:
    """How far each artefact's answers lie from the float network's on one output; inf on failure.

    This is how a calibration method is chosen: by what the network answers, not by how well a tensor is covered.
    """
    samples = SampleStore.open(Path(store))
    runtime = registry.find("engines", engine)

    def answers(path: str) -> list[Array]:
        runner = runtime.load(Path(path), {})
        found = [
            np.asarray(runner.run(feed)[output], np.float64)
            for i in ids
            for feed in unroll(samples, samples.sample(i))[:4]
        ]
        runner.close()
        return found

    wanted = answers(reference)
    found = []
    for path in artefacts:
        try:
            found.append(float(np.mean([divergence(w, a) for w, a in zip(wanted, answers(path), strict=True)])))
        except Exception:  # an artefact that does not run is not chosen; its trial will say why
            found.append(float("inf"))
    return [f if np.isfinite(f) else float("inf") for f in found]


def divergence(wanted: Array, got: Array) -> float:
    """Kullback-Leibler divergence in nats where the last axis holds probabilities, else squared error over variance."""
    if wanted.ndim > 1 and wanted.shape[-1] > 1 and wanted.min() >= 0 and np.allclose(wanted.sum(-1), 1, atol=1e-3):
        safe = np.clip(got, 1e-9, None)
        return float(np.mean(np.sum(np.where(wanted > 0, wanted * np.log(np.clip(wanted, 1e-9, None) / safe), 0), -1)))
    return float(np.mean(np.square(got - wanted)) / (np.var(wanted) or 1.0))
