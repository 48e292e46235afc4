"""Which front door a file comes through, and what happens behind it in a worker: the file becomes ``model.onnx``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hasten import registry
from hasten.protocols import Door


def pick(path: Path) -> str:
    """The name of the front door whose format the content is; ``onnx``, which explains itself, when nobody's is."""
    for name in registry.names("frontends"):
        if name != "onnx" and registry.find("frontends", name).accepts(path):
            return name
    return "onnx"


def convert(name: str, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Load ``path`` through the front door ``name`` and write the graph to the door's folder. Runs in a worker.

    Returns ``{"onnx": path of the graph, "origin": an Origin as JSON values}``.
    """
    door = msgspec.convert(dict(options), Door, dec_hook=lambda kind, text: kind(text))
    model = registry.find("frontends", name).load(Path(path), door)
    onnx = door.folder / "model.onnx"
    model.save(onnx)
    return {"onnx": str(onnx), "origin": msgspec.to_builtins(model.origin)}
