"""A recipe on another network: built with the same steps, compared, not certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hasten import artefacts, compare, durable, replay
from hasten.errors import InputError
from hasten.measure.timing import Workload
from hasten.model import TensorSpec
from hasten.protocols import Door
from hasten.samples import SampleStore
from hasten.samples.sequence import common_sizes
from hasten.search import forms
from hasten.search.enter import enter
from hasten.search.folder import RunFolder
from hasten.search.interrupts import undisturbed
from hasten.search.reading import read
from hasten.trial import Candidate, Scalar, Step, encode
from hasten.worker import CallFailed, Worker, WorkerDied, once

APPLY_SAMPLES = 256
COMPARED = 32  # or a whole batch, where that is more


def apply(
    recipe_path: Path,
    model: Path,
    data: object,
    run_folder: RunFolder,
    out: Path,
    door: Door = Door(),  # noqa: B008 - frozen
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Replay a recipe on another network. The result is built and compared, not certified: that takes a search.

    ``reading`` holds keywords of ``search.reading.read``.
    """
    folder = run_folder.path
    recipe = replay.read_recipe(recipe_path, trust=door.trust)
    replay.present(recipe["engine"])
    given = reading or {}
    entered = enter(model, folder, door, data, given.get("labels", "labels"), given.get("groups"))
    steps = msgspec.convert(recipe["steps"], list[Step])
    form = forms.form_of(recipe["engine"], steps, entered.forms)
    if form is None:
        cause = f"{recipe['engine']} takes {', '.join(forms.takes(recipe['engine']))}"
        raise InputError(f"the recipe does not fit {model.name}", cause=cause, help="use the recipe of its own kind")
    names = [o.name for o in entered.outputs]
    store = read(data, folder / "samples", entered.inputs, entered.outputs, **given)
    batch: int = recipe["batch"]
    settings = fitted(recipe["settings"], store, entered.inputs, batch)
    ids = list(range(min(len(store), APPLY_SAMPLES)))
    try:
        made = once(
            "hasten.search.build:build",
            {
                "source": str(entered.forms[form]),
                "form": form,
                "baked": forms.baked(Candidate(steps=(), engine=recipe["engine"], settings=settings)),
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
    built = replay.Served(model.name, recipe["engine"], Path(made["artefact"]), settings)
    before = replay.Served(model.name, "onnxruntime", entered.graph, {})
    work = Workload(str(store.directory), tuple(ids[: max(COMPARED, batch)]), batch)
    error = _difference(before, built, work, names)

    def fill(building: Path) -> None:
        artefacts.copy_model(built.path, building)
        told = {**msgspec.json.decode(recipe_path.read_bytes()), "settings": settings}
        durable.put(building / "recipe.json", encode(told))
        durable.put(building / "manifest.json", encode({**artefacts.described(building), "verdict": "applied"}))

    with undisturbed():
        artefacts.publish(out, fill, run_folder.building)
    return {
        "out": str(out),
        "bytes": made["bytes"],
        "history": made["history"],
        "difference": error,
        "certified": False,
    }


def fitted(
    settings: Mapping[str, Scalar], store: SampleStore, inputs: Sequence[TensorSpec], batch: int
) -> dict[str, Scalar]:
    """The settings of a recipe, with the sizes of this network's samples in the place of those of its own."""
    rest = {name: value for name, value in settings.items() if name != "sizes"}
    sizes = common_sizes(store, inputs, batch) if "sizes" in settings else ""
    return {**rest, "sizes": sizes} if sizes else rest


def _difference(before: replay.Served, after: replay.Served, work: Workload, names: list[str]) -> float:
    """Normalised squared error of the worst output on a few samples; of integers and text the share that differs."""
    answers = []
    asked: dict[str, Any] = {"store": work.store, "ids": list(work.ids), "batch": work.batch, "keep": None}
    for network in (before, after):
        with Worker(name=network.name) as worker:
            replay.load_served(worker, network, names)
            try:
                answers.append(worker.call("run", **asked)["arrays"])
            except (WorkerDied, CallFailed) as fault:
                raise InputError(f"{network.name} does not run on this data", cause=str(fault)) from fault
    width = len(names)
    per_call = [[arrays[k : k + width] for k in range(0, len(arrays), width)] for arrays in answers]
    found = compare.outputs(per_call[0], per_call[1], names)
    return max((max(one.mean_relative**2, one.share) for one in found.values()), default=0.0)
