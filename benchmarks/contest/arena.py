"""One network's folder of splits, and the question whether a contestant is inside the budget on the confirm split."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import feeds as fed
from benchmarks.contest.feeds import Array, Outputs
from benchmarks.contest.workers import Worker
from benchmarks.networks.bundle import Bundle
from hasten.budget import Budget, parse_budget
from hasten.metrics.classes import IGNORED
from hasten.model import TensorSpec
from hasten.protocols import Metric
from hasten.trial import Quality

SPLITS = ("calibrate", "search", "confirm")
CHUNK = 64  # samples whose outputs are held at a time


@dataclass(frozen=True)
class Arena:
    """``folder`` holds ``calibrate``, ``search`` and ``confirm``; ``job`` is what builders and workers are told."""

    bundle: Bundle
    folder: Path
    job: dict[str, Any]
    budget: Budget

    @property
    def confirm(self) -> Path:
        return self.folder / "confirm"


def specs(model: Path) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """Inputs, and the names of the outputs, of an ONNX file."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = []
    for value in graph.input:
        if value.name not in constants:
            kind = value.type.tensor_type
            shape = tuple(d.dim_value if d.dim_value > 0 else (d.dim_param or None) for d in kind.shape.dim)
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
            inputs.append(TensorSpec(value.name, shape, dtype))
    return tuple(inputs), [value.name for value in graph.output]


def split_ids(bundle: Bundle, inputs: tuple[TensorSpec, ...], scratch: Path) -> dict[str, Array]:
    """The same cut that ``hasten optimize`` makes: same data, same code, same default seed."""
    from hasten.samples import load_samples
    from hasten.search.prepare import cut

    meta = bundle.meta
    store = load_samples(bundle.data, groups=meta.groups or None, state=meta.state).spool(scratch, inputs)
    splits = cut(store)
    return {name: getattr(splits, name) for name in SPLITS}


def build(bundle: Bundle, folder: Path, ids: Mapping[str, Array] | None = None) -> Arena:
    """Write the three splits of a network: the samples ``ids``, or cut as hasten cuts them."""
    inputs, outputs = specs(bundle.model)
    if ids is None:
        scratch = folder / "spool"
        ids = split_ids(bundle, inputs, scratch)
        shutil.rmtree(scratch)
    with np.load(bundle.data, allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files if name != bundle.meta.groups}
        groups = stored[bundle.meta.groups] if bundle.meta.groups else None
    state = bundle.meta.state
    shapes = {s.name: [d if isinstance(d, int) else 1 for d in s.shape] for s in inputs if s.name in state}
    for name in SPLITS:
        fed.write(folder / name, columns, ids[name], state, shapes)
        if groups is not None:
            np.save(folder / name / "groups.npy", groups[ids[name]])
    meta, budget = bundle.meta, parse_budget(bundle.meta.budget)
    job = {
        "model": str(bundle.model), "outputs": outputs, "keep": [meta.output] if meta.output else [],
        "batch": meta.batch, "transformer": meta.transformer, "per_tensor": meta.per_tensor,
        "metric": meta.metric, "metric_output": meta.output,
        "max_drop": budget.max_drop, **{name: str(folder / name) for name in SPLITS},
    }  # fmt: skip
    return Arena(bundle, folder, {**job, "split": str(folder / "confirm")}, budget)


def outputs(worker: Worker, split: Path, scratch: Path) -> Iterator[tuple[slice, Outputs]]:
    """A worker's outputs for all of a split, in pieces."""
    count = len(fed.read(split))
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        request = {"do": "answer", "ids": list(range(count))[part], "split": str(split), "save": str(scratch)}
        worker.ask(request)
        with np.load(scratch, allow_pickle=False) as saved:
            yield part, {name: saved[name] for name in saved.files}


def references(arena: Arena, baseline: Worker) -> None:
    """Without labels the float network's own answers take their place, in the search and confirm splits."""
    if fed.read(arena.confirm).labels is not None:
        return
    for split in (arena.folder / "search", arena.confirm):
        pieces = outputs(baseline, split, arena.folder / "answers.npz")
        metric, labels = None, []
        for _, piece in pieces:
            metric = metric or resolved(arena, piece, None)
            labels.append(metric.reference(piece))
        np.save(split / "labels.npy", np.concatenate(labels))


def resolved(arena: Arena, piece: Outputs, labels: Array | None) -> Metric:
    from hasten.metrics import resolve

    meta = arena.bundle.meta
    return resolve(meta.metric, output=meta.output or None, sample=(piece, labels))


def frames(arena: Arena, piece: Outputs, labels: Array) -> tuple[Outputs, Array]:
    """Of a network with state, each labelled step is a row; of others, each sample."""
    if not arena.bundle.meta.state:
        return piece, labels
    known = labels != IGNORED
    return {name: a[known] for name, a in piece.items() if a.shape[:2] == labels.shape}, labels[known]


def confirm_groups(arena: Arena) -> Array | None:
    """The groups of the confirm split's rows: those given, or the sequence that a step belongs to."""
    if arena.bundle.meta.state:
        known = np.asarray(fed.read(arena.confirm).labels) != IGNORED
        return np.repeat(np.arange(len(known)), known.sum(1))
    path = arena.confirm / "groups.npy"
    return np.load(path) if path.exists() else None


def rows(arena: Arena, worker: Worker) -> tuple[Metric, Array]:
    """The metric, and a contestant's rows of it on the confirm split."""
    labels = fed.read(arena.confirm).labels
    assert labels is not None
    metric, found = None, []
    for part, piece in outputs(worker, arena.confirm, arena.folder / "answers.npz"):
        seen, truth = frames(arena, piece, np.asarray(labels[part]))
        metric = metric or resolved(arena, seen, truth)
        found.append(metric.rows(seen, truth))
    assert metric is not None
    return metric, np.concatenate(found)


def judged(arena: Arena, metric: Metric, baseline: Array, candidate: Array, groups: Array | None = None) -> Quality:
    """The drop on the confirm split, with the bound that hasten itself uses."""
    from hasten.measure.quality import assess

    return assess(metric, arena.budget, baseline, candidate, split="confirm", groups=groups)
