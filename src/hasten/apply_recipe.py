"""A recipe on another network: built with the same steps, compared, not certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hasten import artefacts, compare, replies
from hasten.deaths import blamed
from hasten.errors import InputError
from hasten.machine import machine
from hasten.measure.timing import Workload
from hasten.model import TensorSpec
from hasten.protocols import Door
from hasten.read_result import Served, load_served, present, read_recipe
from hasten.result_files import Recipe, Source
from hasten.safety.stage import given_digest
from hasten.samples import SampleStore
from hasten.samples.sequence import common_sizes, fed_shapes
from hasten.search import forms
from hasten.search.enter import Entered, enter
from hasten.search.findings import Built, built_in
from hasten.search.folder import RunFolder
from hasten.search.interrupts import undisturbed
from hasten.search.reading import read
from hasten.search.wording import step_in_words
from hasten.trial import SCHEMA_VERSION, Candidate, Scalar, plain
from hasten.worker import CallFailed, Worker, WorkerDied, once

APPLY_SAMPLES = 256
OWN_KIND = "use the recipe of a network of its own kind"
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
    recipe = read_recipe(recipe_path, trust=door.trust)
    present(recipe.engine)
    given = reading or {}
    entered = enter(model, folder, door, data, given.get("labels", "labels"), given.get("groups"))
    store = read(data, folder / "samples", entered.inputs, entered.outputs, **given)
    recipe = replace(recipe, settings=fitted(recipe.settings, store, entered.inputs, recipe.batch))
    ids = list(range(min(len(store), APPLY_SAMPLES)))
    made = _built(recipe, entered, store, ids, model.name, folder)
    built = Served(model.name, recipe.engine, Path(made["artefact"]), recipe.settings)
    before = Served(model.name, "onnxruntime", entered.graph, {})
    work = Workload(str(store.directory), tuple(ids[: max(COMPARED, recipe.batch)]), recipe.batch)
    error = _difference(before, built, work, [o.name for o in entered.outputs])
    with undisturbed():
        artefacts.write_applied(
            out,
            run_folder.building,
            recipe=recipe,
            artefact=built.path,
            schema_version=SCHEMA_VERSION,
            source=Source(model=model.name, sha256=given_digest(entered.staged), data_sha256=store.digest),
            machine=machine(),
            inputs=entered.inputs,
            outputs=tuple(o.name for o in entered.outputs),
            batch=recipe.batch,
            state=dict(store.state),
            shapes=fed_shapes(store, work.ids, recipe.batch),
        )
    return {
        "out": str(out),
        "bytes": made["bytes"],
        "history": made["history"],
        "steps": [*map(step_in_words, recipe.steps), f"on {recipe.engine}"],
        "difference": error,
        "certified": False,
    }


def _built(recipe: Recipe, entered: Entered, store: SampleStore, ids: Sequence[int], name: str, folder: Path) -> Built:
    """What ``build`` made of the network by the recipe, in a process of its own.

    Raises:
        InputError: the recipe does not fit the network.
    """
    form = forms.form_of(recipe.engine, recipe.steps, entered.forms)
    if form is None:
        cause = f"{recipe.engine} takes {', '.join(forms.takes(recipe.engine))}"
        raise InputError(f"the recipe does not fit {name}", cause=cause, help=OWN_KIND)
    try:
        made = once(
            "hasten.search.build:build",
            {
                "source": str(entered.forms[form]),
                "form": form,
                "baked": forms.baked(Candidate(steps=(), engine=recipe.engine, settings=recipe.settings)),
                "steps": plain(recipe.steps),
                "engine": recipe.engine,
                "directory": str(folder / "artefact"),
                "store": str(store.directory),
                "calibrate": list(ids),
                "cache": str(folder / "stats.npz"),
            },
            Built,
            check=built_in(folder / "artefact"),
        )
    except (WorkerDied, CallFailed) as fault:
        raise blamed(fault, f"the recipe does not fit {name}", process="the builder", help=OWN_KIND) from fault
    if "not_applicable" in made:
        raise InputError(f"the recipe does not fit {name}", cause=made["not_applicable"], help=OWN_KIND)
    return made


def fitted(
    settings: Mapping[str, Scalar], store: SampleStore, inputs: Sequence[TensorSpec], batch: int
) -> dict[str, Scalar]:
    """The settings of a recipe, with the sizes of this network's samples in the place of those of its own."""
    rest = {name: value for name, value in settings.items() if name != "sizes"}
    sizes = common_sizes(store, inputs, batch) if "sizes" in settings else ""
    return {**rest, "sizes": sizes} if sizes else rest


def _difference(before: Served, after: Served, work: Workload, names: list[str]) -> float:
    """Normalised squared error of the worst output on a few samples; of integers and text the share that differs."""
    answers = []
    for network in (before, after):
        with Worker(name=network.name) as worker:
            load_served(worker, network, names)
            try:
                answers.append(replies.run(worker, work.store, work.ids, batch=work.batch).arrays)
            except (WorkerDied, CallFailed) as fault:
                what = f"{network.name} does not run on this data"
                raise blamed(fault, what, process="its process") from fault
    width = len(names)
    per_call = [[arrays[k : k + width] for k in range(0, len(arrays), width)] for arrays in answers]
    found = compare.outputs(per_call[0], per_call[1], names)
    return max((max(one.mean_relative**2, one.share) for one in found.values()), default=0.0)
