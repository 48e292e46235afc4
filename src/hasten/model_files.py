"""A network with all its files, copied into a result folder under a name that no file of ours has."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hasten import durable
from hasten.errors import InputError
from hasten.result_files import ESTIMATED, NAMES
from hasten.safety.stage import DIGESTS

if TYPE_CHECKING:
    import onnx

_SUFFIX = re.compile(r"\.[A-Za-z0-9_]{1,16}")


def copy_model(artefact: Path, folder: Path) -> str:
    """Copy a network with all its files as ``model.*``; its new name.

    A suffix of other than letters and digits is dropped. OpenVINO finds ``model.bin`` by itself. ONNX names its
    external weights inside; those keep their names, except where a name would collide with a file of ours.

    Raises:
        InputError: external weights lie elsewhere than beside the network.
    """
    if artefact.is_dir():
        for file in sorted(p for p in artefact.rglob("*") if p.is_file()):
            durable.copy(file, folder / "model" / file.relative_to(artefact))
        return "model"
    keeps = _SUFFIX.fullmatch(artefact.suffix) and artefact.suffix.lower() not in (".bin", ".data")  # those of weights
    name = "model" + (artefact.suffix if keeps else "")
    if artefact.suffix.lower() == ".onnx" or (artefact.parent / DIGESTS).is_file():  # ONNX of any name, as given
        _copy_onnx(artefact, folder, name)
        return name
    durable.copy(artefact, folder / name)
    if artefact.suffix == ".xml":
        durable.copy(artefact.with_suffix(".bin"), folder / "model.bin")
    return name


def _copy_onnx(artefact: Path, folder: Path, name: str) -> None:
    """Copy an ONNX file with its external weights; where those get other names, the copy holds the new ones."""
    import onnx

    model = onnx.load(artefact, load_external_data=False)
    entries = _locations(model)
    kept = {e.value for e in entries}
    for location in kept:
        if artefact.parent.resolve() not in (artefact.parent / location).resolve().parents:
            cause = "external weights must lie beside the network"
            raise InputError(f"the weights of {artefact.name!r} lie in {location!r}", cause=cause)
    free = (f"model.{k}.data" for k in count())
    names = {at: next(n for n in free if n not in kept) if _is_taken(at) else at for at in sorted(kept)}
    for location, new in names.items():
        durable.copy(artefact.parent / location, folder / new)
    for entry in entries:
        entry.value = names[entry.value]
    if all(location == new for location, new in names.items()):
        durable.copy(artefact, folder / name)
    else:
        durable.put(folder / name, model.SerializeToString())


def _is_taken(location: str) -> bool:
    """Can a file of external weights not have this name beside ours? Readers take ``model*`` for the network."""
    path = PurePosixPath(location)
    first = path.parts[0].casefold() if path.parts else ""
    mistaken = first.startswith("model") and not first.endswith(".data")
    return path.is_absolute() or ".." in path.parts or mistaken or first in (*NAMES, ESTIMATED)


def _locations(model: onnx.ModelProto) -> list[onnx.StringStringEntryProto]:
    """The entries of a file that name where external weights lie, those of subgraphs and attributes too."""
    found, graphs = [], [model.graph]
    while graphs:
        graph = graphs.pop()
        tensors = [*graph.initializer]
        for attribute in (a for node in graph.node for a in node.attribute):
            tensors += [attribute.t, *attribute.tensors]
            graphs += [g for g in (attribute.g, *attribute.graphs) if g.node]
        found += [e for t in tensors for e in t.external_data if e.key == "location"]
    return found
