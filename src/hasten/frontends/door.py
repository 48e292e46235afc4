"""Which front door a file comes through, and what happens behind it in a worker: the file becomes ``model.onnx``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnx_ir as ir

from hasten import registry
from hasten.frontends.onnx import load
from hasten.graph import walk, wide
from hasten.model import Model
from hasten.passes import clean, opsets
from hasten.protocols import Door

BFLOAT16_SINCE = 13  # the operator set in which Cast has it
NOT_THERE = (
    "the network is in {}, in which ONNX Runtime cannot compute: it is computed in float32; inputs and outputs keep "
    "their types"
)


def pick(path: Path) -> str:
    """The name of the front door whose format the content is; ``onnx``, which explains itself, when nobody's is."""
    for name in registry.names("frontends"):
        if name != "onnx" and registry.find("frontends", name).accepts(path):
            return name
    return "onnx"


def in_float32(model: Model, folder: Path) -> tuple[Model, list[str]]:
    """A network in a float in which ONNX Runtime cannot compute in float32, and a sentence; any other as it is."""
    types = wide.other_types(model.graph)
    if not types or (ir.DataType.BFLOAT16 not in types and _loads(model, types, folder)):
        return model, []
    graph = wide.widened(model.graph)
    if graph is None:
        return model, []
    if walk.opset(graph) < BFLOAT16_SINCE:
        graph = opsets.converted(graph, clean.MODERN, BFLOAT16_SINCE) or graph
    return replace(model, graph=graph), [NOT_THERE.format(" and ".join(wide.NAMES[t] for t in types))]


def _loads(model: Model, types: Sequence[ir.DataType], folder: Path) -> bool:
    """Does ONNX Runtime take the network as it is? Its float64 lacks convolutions; its float16 lacks nothing."""
    if ir.DataType.DOUBLE not in types:
        return True
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            model.save(Path(place) / "model.onnx")
            registry.find("engines", "onnxruntime").load(Path(place) / "model.onnx", {}).close()
    except Exception:  # the runtime has no common exception class
        return False
    return True


def computable(path: Path, folder: Path) -> tuple[Path, list[str]]:
    """The ONNX file ``path``, or a copy in ``folder`` that computes in float32, with a sentence about it."""
    model = load(path)
    made, told = in_float32(model, path.parent)
    if made is model:
        return path, []
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder / path.name)
    return folder / path.name, told


def convert(name: str, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Load ``path`` through the front door ``name`` and write the graph to the door's folder. Runs in a worker.

    Returns ``{"onnx": path of the graph, "origin": an Origin as JSON values, "told": sentences on what changed}``.
    """
    door = msgspec.convert(dict(options), Door, dec_hook=lambda kind, text: kind(text))
    model, told = in_float32(registry.find("frontends", name).load(Path(path), door), door.folder)
    onnx = door.folder / "model.onnx"
    model.save(onnx)
    return {"onnx": str(onnx), "origin": msgspec.to_builtins(model.origin), "told": told}
