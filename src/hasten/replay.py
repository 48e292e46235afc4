"""After a search: time networks against each other, apply a recipe to another network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hasten import artefacts, durable
from hasten.errors import InputError, UsageError
from hasten.measure.timing import ROTATING_SAMPLES, Workload, interleave, timing
from hasten.model import TensorSpec
from hasten.safety.stage import stage
from hasten.samples import load_samples
from hasten.search.prepare import inspect_file
from hasten.trial import Scalar, Step
from hasten.worker import CallFailed, Worker, WorkerDied, once

APPLY_SAMPLES = 256


@dataclass(frozen=True)
class Served:
    """A network with the engine and the settings that serve it."""

    name: str
    engine: str
    path: Path
    settings: Mapping[str, Scalar]


def served(place: Path) -> Served:
    """What a file or a result folder stands for.

    Raises:
        UsageError: it is neither a network nor a folder that ``optimize`` wrote.
    """
    if place.is_dir():
        recipe = read_recipe(place / "recipe.json")
        found = [place / name for name in ("model.xml", "model.onnx") if (place / name).exists()]
        if not found:
            raise UsageError(f"{place} holds no model.onnx or model.xml", help="name a folder that optimize wrote")
        return Served(place.name, recipe["engine"], found[0].resolve(), recipe.get("settings", {}))
    if not place.exists():
        raise UsageError(f"there is no {place}")
    if place.suffix == ".xml":
        return Served(place.stem, "openvino", place.resolve(), {"precision": "f32", "hint": "LATENCY"})
    return Served(place.name, "onnxruntime", place.resolve(), {})


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe as a dictionary with ``steps``, ``engine`` and ``settings``.

    Raises:
        UsageError: it cannot be read, or a field is missing or of the wrong type.
    """
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        msgspec.convert(recipe["steps"], list[Step])
        msgspec.convert(recipe["engine"], str)
        msgspec.convert(recipe.get("settings", {}), dict[str, Scalar])
    except OSError as fault:
        raise UsageError(f"cannot read the recipe {path}", cause=fault.strerror or str(fault)) from fault
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as fault:
        raise UsageError(f"{path} is not a recipe", cause=str(fault), help="use the recipe.json of a result") from fault
    return dict(recipe)


def bench(places: Sequence[Path], data: object, folder: Path, *, batch: int, pairs: int) -> list[dict[str, Any]]:
    """Time networks on the same samples, interleaved; the first is what the others are compared with."""
    networks = [served(p) for p in places]
    inspected = inspect_file(next((n.path for n in networks if n.engine == "onnxruntime"), networks[0].path))
    inputs = msgspec.convert(inspected["inputs"], tuple[TensorSpec, ...])
    store = load_samples(data).spool(folder / "samples", inputs)
    work = Workload(str(store.directory), tuple(range(min(len(store), ROTATING_SAMPLES * batch))), batch)
    with ExitStack() as stack:
        sides = {}
        for number, network in enumerate(networks):
            worker = stack.enter_context(Worker(name=network.name))
            load_served(worker, network, [])
            sides[f"{number} {network.name}"] = worker
        series = interleave(sides, work, rounds=pairs)
    base = next(iter(series.blocks.values()))
    rows: list[dict[str, Any]] = []
    for network, (side, blocks) in zip(networks, series.blocks.items(), strict=True):
        if side in series.lost:
            rows.append({"name": network.name, "reason": str(series.lost[side])})
            continue
        found = timing(base, blocks)
        rows.append(
            {
                "name": network.name,
                "engine": network.engine,
                "median_ms": found.median_ms,
                "speedup": found.speedup,
                "low": found.low,
                "high": found.high,
                "pairs": found.pairs,
            }
        )
    return rows


def load_served(worker: Worker, network: Served, names: list[str]) -> None:
    """Load a network into a worker; a refusal is the user's to see."""
    try:
        worker.call("load", engine=network.engine, path=str(network.path), settings=dict(network.settings), names=names)
    except (WorkerDied, CallFailed) as fault:
        raise InputError(f"{network.name} cannot be loaded by {network.engine}", cause=str(fault)) from fault


def apply(recipe_path: Path, model: Path, data: object, folder: Path, out: Path) -> dict[str, Any]:
    """Replay a recipe on another network. The result is built and compared, not certified: that takes a search."""
    recipe = read_recipe(recipe_path)
    source = stage(model, folder / "stage")
    inspected = inspect_file(source)
    inputs = msgspec.convert(inspected["inputs"], tuple[TensorSpec, ...])
    names = [o["name"] for o in inspected["outputs"]]
    store = load_samples(data).spool(folder / "samples", inputs)
    ids = list(range(min(len(store), APPLY_SAMPLES)))
    try:
        made = once(
            "hasten.search.build:build",
            {
                "source": str(source),
                "steps": recipe["steps"],
                "engine": recipe["engine"],
                "directory": str(folder / "artefact"),
                "store": str(store.directory),
                "calibrate": ids,
                "cache": str(folder / "stats.npz"),
            },
        )
    except (WorkerDied, CallFailed) as fault:
        raise InputError(f"the recipe does not fit {model.name}", cause=str(fault)) from fault
    if "not_applicable" in made:
        raise InputError(f"the recipe does not fit {model.name}", cause=made["not_applicable"])
    built = Served(model.name, recipe["engine"], Path(made["artefact"]), recipe.get("settings", {}))
    before = Served(model.name, "onnxruntime", source, {})
    error = _difference(before, built, str(store.directory), ids[:32], names)

    def fill(building: Path) -> None:
        artefacts.copy_model(built.path, building)
        durable.copy(recipe_path, building / "recipe.json")

    artefacts.publish(out, fill)
    return {
        "out": str(out),
        "bytes": made["bytes"],
        "history": made["history"],
        "difference": error,
        "certified": False,
    }


def _difference(before: Served, after: Served, store: str, ids: list[int], names: list[str]) -> float:
    """Normalised squared error of all floating outputs on a few samples."""
    answers = []
    for network in (before, after):
        with Worker(name=network.name) as worker:
            load_served(worker, network, names)
            try:
                answers.append(worker.call("run", store=store, ids=ids, batch=1, keep=None)["arrays"])
            except (WorkerDied, CallFailed) as fault:
                raise InputError(f"{network.name} does not run on this data", cause=str(fault)) from fault
    squared = total = 0.0
    for old, new in zip(*answers, strict=True):
        if old.dtype.kind == "f":
            squared += float(np.square(old.astype(np.float64) - new).sum())
            total += float(np.square(old.astype(np.float64)).sum())
    return squared / (total or 1.0)
