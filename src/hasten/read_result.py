"""Result folders and recipes, which may come from anybody, as networks that can be run; and races between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from hasten import bounded, durable, registry, replies
from hasten.deaths import blamed
from hasten.engines.allowed import check_settings
from hasten.errors import EnvironmentFault, HastenError, InputError, UsageError, did_you_mean
from hasten.measure.timing import ROTATING_SAMPLES, Series, Workload, interleave, timing
from hasten.model import TensorSpec
from hasten.protocols import Door
from hasten.result_files import ITS_OUT, RECIPE, Manifest, Recipe, read_manifest, read_recipe_file
from hasten.search.enter import enter
from hasten.search.own_paths import own_paths
from hasten.search.reading import read
from hasten.trial import Scalar
from hasten.worker import CallFailed, Worker, WorkerDied, once

CHECK_SECONDS = 300.0


@dataclass(frozen=True)
class Served:
    """A network with the engine and the settings that serve it."""

    name: str
    engine: str
    path: Path
    settings: Mapping[str, Scalar]
    inputs: tuple[TensorSpec, ...] | None = None  # None: ask the file
    outputs: tuple[TensorSpec, ...] = ()  # as far as known
    shown: Path | None = None  # the user's own path, for messages; None where ``path`` is


def served(place: Path, folder: Path, *, trust: bool = False) -> Served:
    """The network of the result folder ``place``: a copy below ``folder`` that passed the check of its format.

    Raises:
        UsageError: it is no folder that ``optimize`` or ``apply`` wrote. InputError: as ``read_recipe``, or the
        network is not the one that the manifest lists, is damaged, or could run code.
    """
    recipe = read_recipe(place / RECIPE, trust=trust)
    present(recipe.engine)
    manifest = read_manifest(place)
    wrong = copy_network(place, manifest, folder / "copy")
    if wrong:
        cause = f"changed or missing: {', '.join(wrong)}"
        raise InputError(f"the network in {place} is not the one that its manifest lists", cause=cause, help=ITS_OUT)
    shown = place / manifest.network
    path = safe_copy(recipe, folder / "copy" / manifest.network, folder / "checked", shown, trust=trust)
    return Served(place.name, recipe.engine, path, recipe.settings, manifest.inputs, shown=shown)


def copy_network(place: Path, manifest: Manifest, target: Path) -> list[str]:
    """Copy the files of the network that the manifest lists; the names of those that are not what it says."""
    wrong = []
    for name, digest in manifest.network_files.items():
        source = bounded.inside(place, name)
        kind, size = bounded.kind_of(source), bounded.size(source)
        other = not kind or (kind == bounded.FILE and size != manifest.sizes.get(name))
        if other or _copied(source, target / name) != digest:
            wrong.append(name)
    return wrong


def _copied(source: Path, target: Path) -> str:
    """Copy a regular file; the sha256 of what was written, so that nobody can change it between check and use."""
    found = sha256()
    with bounded.opened(source) as file, durable.disk("a copy of the network"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            while piece := file.read(bounded.PIECE):
                found.update(piece)
                out.write(piece)
    target.chmod(0o400)
    return found.hexdigest()


def safe_copy(recipe: Recipe, copy: Path, folder: Path, shown: Path, *, trust: bool) -> Path:
    """The file that the engine of ``recipe`` may load, checked in a process of its own; messages name ``shown``.

    Raises:
        InputError: it is damaged, or could run code and nobody said ``trust``.
    """
    asked = {"engine": recipe.engine, "path": str(copy), "directory": str(folder), "settings": recipe.settings}
    try:
        function, own = "hasten.frontends.artefact:checked", (copy, folder)
        return Path(once(function, {**asked, "trust": trust}, str, seconds=CHECK_SECONDS, check=partial(_outside, own)))
    except (WorkerDied, CallFailed) as fault:
        raise blamed(fault, f"{shown} cannot be read", process="its check", help=ITS_OUT) from fault
    except HastenError as fault:
        raise _about(fault, copy, shown) from fault


def _outside(own: Sequence[Path], found: str) -> str:
    """What is wrong with a checked file: it is neither one of ``own`` nor below it."""
    inside = any(Path(found).resolve().is_relative_to(one.resolve()) for one in own)
    return "" if inside else "a file that is not the copy"


def network(place: Path, folder: Path, door: Door) -> Served:
    """What a file or a result folder stands for; a file is served by its own framework where that is installed.

    Raises:
        UsageError: there is none. InputError: it is no network, or an unsafe one.
    """
    if not place.exists():
        raise UsageError(f"there is no {place}", help="check the path")
    if place.is_dir() and bounded.kind_of(place / RECIPE):
        return served(place, folder, trust=door.trust)
    if place.suffix == ".xml":
        return _openvino(place.resolve(), folder)
    with own_paths(folder, place):  # several may have one name
        entered = enter(place, folder, door)
    origin = entered.origin
    return Served(place.name, origin.engine, Path(origin.path), origin.settings, entered.inputs, entered.outputs)


def _openvino(place: Path, folder: Path) -> Served:
    """A user's own file of OpenVINO: copied with its weights, and checked."""
    present("openvino")
    recipe = Recipe(steps=[], engine="openvino", settings={"precision": "f32", "hint": "LATENCY"})
    for source in (place, place.with_suffix(".bin")):
        _copied(source, folder / "copy" / source.name)
    path = safe_copy(recipe, folder / "copy" / place.name, folder / "checked", place, trust=False)
    return Served(place.stem, recipe.engine, path, recipe.settings, shown=place)


def read_recipe(path: Path, *, trust: bool = False) -> Recipe:
    """A recipe whose engine and passes are registered, and whose settings the engine takes from a file.

    Raises:
        UsageError: it cannot be read, a field is missing, unknown or of the wrong type, or a name is unknown.
        InputError: it names code by a dotted path, and nobody said ``trust``; or a setting is none of the engine's.
    """
    recipe = read_recipe_file(path)
    for group, name in [("engines", recipe.engine), *(("passes", step.name) for step in recipe.steps)]:
        only_known(group, name, path, trust=trust)
    check_settings(recipe.engine, recipe.settings, path, trust=trust)
    return recipe


def present(name: str) -> None:
    """Raises ``EnvironmentFault`` with the pip line when an engine cannot be used here."""
    reason = registry.engine(name)[1]
    if reason:
        raise EnvironmentFault(f"{name} cannot be used here", cause=reason, help="hasten doctor shows what can")


def only_known(group: str, name: str, path: Path, *, trust: bool) -> None:
    """Refuse, in a file of others, a name that is not registered: a dotted path could import and call anything.

    Raises:
        InputError: a dotted path without ``trust``. UsageError: a name that is not registered.
    """
    known = registry.names(group)
    if name in known:
        return
    if not {".", ":"} & set(name):
        raise UsageError(
            f"{path} names no {registry.ONE[group]} that is known: {name!r:.120}", help=did_you_mean(name, known)
        )
    if not trust:
        cause = "importing it would run whatever it is"
        raise InputError(f"{path} names code: {name!r:.120}", cause=cause, help="--trust, if the file is yours")


def bench(
    places: Sequence[Path], data: object, folder: Path, *, batch: int, pairs: int, door: Door = Door(),  # noqa: B008
    reading: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Time networks on the same samples, interleaved; the first is what the others are compared with.

    ``reading`` holds keywords of ``search.reading.read``.
    """
    networks = [network(p, folder / f"network{k}", door) for k, p in enumerate(places)]
    told = next((n for n in networks if n.inputs is not None), None)
    if told is None or told.inputs is None:
        raise UsageError("no network says what it takes", help="name an .onnx file or a folder that optimize wrote")
    store = read(data, folder / "samples", told.inputs, told.outputs, **(reading or {}))
    work = Workload(str(store.directory), tuple(range(min(len(store), ROTATING_SAMPLES * batch))), batch)
    with ExitStack() as stack:
        sides = {}
        for number, side in enumerate(networks):
            worker = stack.enter_context(Worker(name=side.name))
            load_served(worker, side, [])
            sides[f"{number} {side.name}"] = worker
        series = interleave(sides, work, rounds=pairs, rested=True)
    living = [name for name in series.blocks if name not in series.lost and series.blocks[name]]
    if not living:
        what, help_ = "none of these networks ran to the end", "check that the data fits them: hasten inspect"
        raise blamed(next(iter(series.lost.values())), what, process="the first one", help=help_)
    return [_row(one, name, series, living[0]) for one, name in zip(networks, series.blocks, strict=True)]


def _row(one: Served, name: str, series: Series, first: str) -> dict[str, Any]:
    """A network's speed beside ``first``, or why it has none."""
    if name in series.lost:
        is_first = name == next(iter(series.blocks))
        instead = f"; the others are compared with {first.partition(' ')[2]}" if is_first else ""
        return {"name": one.name, "reason": f"{series.lost[name]}{instead}"}
    found = timing(series.blocks[first], series.blocks[name])
    return {
        "name": one.name,
        "engine": one.engine,
        "median_ms": found.median_ms,
        "speedup": found.speedup,
        "low": found.low,
        "high": found.high,
        "pairs": found.pairs,
    }


def load_served(worker: Worker, network: Served, names: list[str]) -> None:
    """Load a network into a worker; a refusal is the user's to see, with the user's own path in it."""
    try:
        replies.load(worker, network.engine, network.path, network.settings, names)
    except (WorkerDied, CallFailed) as fault:
        what = f"{network.name} cannot be loaded by {network.engine}"
        error = blamed(fault, what, process="its process", help=ITS_OUT)
        raise _about(error, network.path, network.shown or network.path) from fault


def _about(fault: HastenError, copy: Path, shown: Path) -> HastenError:
    """The same error with the user's own path in the place of that of a copy."""

    def named(text: str) -> str:
        return text.replace(str(copy), str(shown)).replace(str(copy.parent), str(shown.parent))

    message, cause = named(fault.message), named(fault.cause)
    return type(fault)(message, cause=cause, help=fault.help)
