"""The conversion is proven, not assumed: the original in its own runtime against the graph, on the user's samples.

When they differ, the inner tensors of both are compared where their names map, and the first that differs is named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hasten import compare, registry, replies
from hasten.compare import Difference
from hasten.deaths import blamed
from hasten.errors import InputError
from hasten.frontends.onnx import load
from hasten.graph import ends
from hasten.graph.numpyless import able
from hasten.protocols import Array, Feeds
from hasten.samples import SampleStore
from hasten.samples.sequence import unroll
from hasten.search import findings
from hasten.search.enter import Entered
from hasten.search.field import Run, first_line
from hasten.trial import Scalar
from hasten.worker import CallFailed, Worker, WorkerDied, once

SAMPLES = 32
CONFIDENT = 0.1  # where all probabilities of a sigmoid are below it, nothing says how large they may be
GRAPH_ENGINE = "onnxruntime"


def prove_conversion(run: Run, entered: Entered) -> float:
    """Compare the original with its graph on the first search samples. Returns the largest error found.

    The error is the largest absolute difference as a share of the output's largest value over all these samples.

    Raises:
        InputError: the answers differ; the first node that differs is named where it can be.
    """
    origin = entered.origin
    ids = [int(i) for i in run.splits.search[:SAMPLES]]
    with ExitStack() as stack:
        answers = []
        for engine, path, settings in (
            (origin.engine, origin.path, origin.settings),
            (GRAPH_ENGINE, entered.graph, {}),
        ):
            worker = stack.enter_context(Worker(name=f"{engine} (conversion)"))
            answers.append(_answers(worker, engine, str(path), settings, run, ids))
    tolerance = compare.QUANTIZED if entered.facts.get("quantized") else compare.CONVERTED
    found = compare.outputs(answers[0], answers[1], run.names)
    if compare.first_problem(found, tolerance):
        found = with_range(found, _bounded(entered))
    if told := compare.first_problem(found, tolerance):
        raise InputError(
            f"the conversion of {run.title} changes its answers",
            cause=f"{told}; {_where(entered, run, ids[0], tolerance.relative)}",
            help="export it to ONNX by another way and give that file, or report this network",
        )
    return max((one.relative for one in found.values()), default=0.0)


def with_range(found: Mapping[str, Difference], bounded: Collection[str]) -> dict[str, Difference]:
    """The same differences, where the size of a probability is 1 however small all those compared are."""
    small = {n for n, d in found.items() if n in bounded and d.scale < CONFIDENT}
    return {n: replace(d, scale=1.0, energy=float(d.elements)) if n in small else d for n, d in found.items()}


def bounded_outputs(path: str) -> list[str]:
    """The outputs of an ONNX file that are made by a sigmoid. Runs in a worker."""
    return sorted(ends.bounded(load(Path(path)).graph))


def _bounded(entered: Entered) -> list[str]:
    try:
        return once("hasten.search.conversion:bounded_outputs", {"path": str(entered.graph)}, list[str])
    except (WorkerDied, CallFailed):
        return []


def _answers(
    worker: Worker, engine: str, path: str, settings: Mapping[str, Scalar], run: Run, ids: Sequence[int]
) -> list[list[Array]]:
    """All outputs for ``ids``, a list for each sample."""
    try:
        replies.load(worker, engine, path, settings, run.names)
        arrays = replies.run(worker, run.evaluator.store.directory, ids).arrays
        width = max(1, len(arrays) // max(1, len(ids)))
        return [list(arrays[k : k + width]) for k in range(0, len(arrays), width)]
    except (WorkerDied, CallFailed) as fault:
        what, help_ = f"{run.title} does not run in {engine}", "check that the data fits the network"
        raise blamed(fault, what, process="its process", help=help_) from fault


def _where(entered: Entered, run: Run, sample: int, limit: float) -> str:
    """The first node that differs, in words; never the reason for another failure."""
    origin = entered.origin
    engine, path, settings = origin.engine, origin.path, dict(origin.settings)
    if "torch" in entered.forms:  # the graph was written from this program
        engine, path, settings = "torch", str(entered.forms["torch"]), {}
    arguments = {
        "engine": engine, "path": path, "settings": settings, "graph": str(entered.graph),
        "store": str(run.evaluator.store.directory), "sample": sample, "limit": limit,
    }  # fmt: skip
    try:
        found = once("hasten.search.conversion:first_difference", arguments, findings.Difference)
    except (WorkerDied, CallFailed) as fault:
        return f"its inner tensors could not be compared ({first_line(fault)})"
    if found["node"] is None:
        return f"none of the {found['compared']} inner tensors whose names map differs before it"
    return f"the first node that differs is {found['node']!r}, by {found['error']:.1e}"


def first_difference(
    engine: str, path: str, settings: Mapping[str, Scalar], graph: str, store: str, sample: int, limit: float
) -> dict[str, Any]:
    """Walk the inner tensors of the original in the order in which they are computed, beside the graph's.

    Returns ``{"node": name or None, "error", "compared"}``. Runs in a worker.
    """
    samples = SampleStore.open(Path(store))
    feeds = {k: np.array(a) for k, a in unroll(samples, samples.sample(sample))[0].items()}
    inner = getattr(registry.find("engines", engine), "inner", None)
    if inner is None:
        return {"node": None, "error": 0.0, "compared": 0}
    wanted = dict(inner(Path(path), settings, feeds))
    compared = 0
    seen = dict(graph_tensors(Path(graph), list(wanted), feeds))
    for name, old in wanted.items():
        new = seen.get(name)
        if new is None or new.shape != old.shape:
            continue  # the exporter fused or reordered it
        compared += 1
        seen_here = compare.compare(old, new)
        if seen_here.relative > limit or seen_here.share > compare.CONVERTED.share:
            error = max(min(seen_here.relative, 1e9), seen_here.share)
            return {"node": name, "error": error, "compared": compared}
    return {"node": None, "error": 0.0, "compared": compared}


def graph_tensors(graph: Path, names: Sequence[str], feeds: Feeds) -> Iterator[tuple[str, Array]]:
    """Inner tensors of an ONNX file by name on one sample."""
    import onnx_ir as ir
    import onnxruntime as ort

    wanted = set(names)
    model = load(graph).graph
    outputs = {v.name for v in model.graph.outputs}
    extra = [v for node in model.graph for v in node.outputs if v.name in wanted and v.name not in outputs]
    model.graph.outputs.extend(v for v in extra if v.dtype is not None)
    data = ir.to_proto(model).SerializeToString()
    session = able(ort.InferenceSession(data, providers=["CPUExecutionProvider"]))
    kept = [o.name for o in session.get_outputs() if o.name in wanted]
    yield from zip(kept, session.run(kept, dict(feeds)), strict=True)
