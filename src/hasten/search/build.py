"""From a recipe to an artefact on disk. Runs inside a worker: a pass that crashes takes nobody with it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from hasten import durable, registry
from hasten.frontends.door import computable
from hasten.frontends.maps import without_maps
from hasten.frontends.onnx import describe, load
from hasten.model import Model, file_digest
from hasten.protocols import NotApplicable
from hasten.safety.stage import stage
from hasten.samples.guard import readable
from hasten.search.forms import artefact_bytes
from hasten.search.workshop import Material, begun, calibration, make_pass
from hasten.trial import Step

LESSENING = ("prune", "factorize", "sparsify")  # passes that take something out


def admit(place: str, path: str, directory: str) -> dict[str, Any]:
    """Copy the ONNX file ``path`` with its data to ``directory``, check the copy and describe it. Runs in a worker.

    A relative path is meant from ``place``, so that messages name the file as the user does.
    """
    os.chdir(place)
    gc.disable()  # a graph is many small objects that all stay; this process ends soon
    staged = stage(Path(path), Path(directory))
    told = without_maps(staged)
    graph, changed = computable(staged, staged.parent / "float32")
    return {"staged": str(staged), "graph": str(graph), "facts": inspect(str(graph), [*told, *changed])}


def inspect(path: str, told: Sequence[str] = ()) -> dict[str, Any]:
    """Check a file and list what it holds: ``{"inputs", "outputs", "opset", ...}``. Runs in a worker.

    ``told`` are sentences about what was changed at the door.
    """
    model = load(Path(path))
    with readable(path, help="export it again with a current exporter"):
        facts = describe(model, told)
    return {**facts, "inputs": msgspec.to_builtins(model.inputs), "outputs": msgspec.to_builtins(model.outputs)}


def build(
    source: str, store: str, calibrate: Sequence[int], cache: str,
    steps: Sequence[Mapping[str, Any]], engine: str, directory: str,
    form: str = "onnx", baked: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Apply ``steps`` to the network ``source`` and export it for ``engine`` into ``directory``.

    A ``form`` other than the graph takes no steps: the engine makes its file from the owner's, with the settings
    ``baked`` into it. Returns ``{"artefact", "bytes", "seconds", "history"}``, or ``{"not_applicable": reason}``.
    """
    start = time.perf_counter()
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    if form != "onnx":
        with durable.disk("a candidate"):
            return _made(registry.find("engines", engine).export(Path(source), folder, **(baked or {})), start)
    of = Material.read(source, store, calibrate, cache)
    try:
        model = _applied(of, msgspec.convert(list(steps), list[Step]))
    except NotApplicable as reason:
        return {"not_applicable": str(reason)}
    onnx = folder / "model.onnx"
    with durable.disk("a candidate"):
        model.save(onnx)
        artefact = registry.find("engines", engine).export(onnx, folder, **(baked or {}))
    written = [path for path in (onnx, onnx.with_suffix(".data")) if path.exists()]
    digest = "".join(map(file_digest, written))
    for path in written if artefact != onnx else ():
        path.unlink()  # an engine's own format holds all of it
    return {**_made(artefact, start), "digest": digest, "history": list(model.history)}


def _applied(of: Material, steps: list[Step]) -> Model:
    """The network after ``steps``. Leading ones that only prepare it were perhaps taken before, for another recipe."""
    context = calibration(of).context()
    model, todo = begun(of, steps)
    for step in todo:
        if step.name == "quantize" and context.reference is None:
            context = replace(context, reference=model)
        if step.name in LESSENING and context.original is None:
            context = replace(context, original=model)
        with suppress(NotApplicable) if step.name == "clean" else nullcontext():  # tidy is as good as tidied
            model = make_pass(step)(model, context)
    return model


def _made(artefact: Path, start: float) -> dict[str, Any]:
    """What is known of every artefact, however it was made."""
    return {
        "artefact": str(artefact),
        "bytes": artefact_bytes(artefact),
        "digest": file_digest(artefact),
        "seconds": time.perf_counter() - start,
        "history": [],
    }
