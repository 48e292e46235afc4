"""After a search: what a result folder holds, and networks timed against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hasten import registry
from hasten.errors import EnvironmentFault, InputError, UsageError, did_you_mean
from hasten.measure.timing import ROTATING_SAMPLES, Workload, interleave, timing
from hasten.model import TensorSpec
from hasten.protocols import Door
from hasten.samples.sequence import read_sizes
from hasten.search.enter import enter
from hasten.search.reading import read
from hasten.trial import Scalar, Step
from hasten.worker import CallFailed, Worker, WorkerDied

RESULTS_OWN = "use the recipe.json of a result"


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What ``recipe.json`` holds."""

    steps: list[Step]
    engine: str
    settings: dict[str, Scalar] = field(default_factory=dict)
    batch: Annotated[int, msgspec.Meta(ge=1)] = 1  # samples a request; older recipes do not say


@dataclass(frozen=True)
class Served:
    """A network with the engine and the settings that serve it."""

    name: str
    engine: str
    path: Path
    settings: Mapping[str, Scalar]
    inputs: tuple[TensorSpec, ...] | None = None  # None: ask the file
    outputs: tuple[TensorSpec, ...] = ()  # as far as known


def served(place: Path, *, trust: bool = False) -> Served:
    """What a result folder stands for.

    Raises:
        UsageError: it is no folder that ``optimize`` wrote. InputError: as ``read_recipe``.
    """
    recipe = read_recipe(place / "recipe.json", trust=trust)
    present(recipe["engine"])
    found = sorted(p for p in place.glob("model*") if p.suffix not in (".bin", ".data"))
    if not found:
        raise UsageError(f"{place} holds no network", help="name a folder that optimize wrote")
    return Served(place.name, recipe["engine"], found[0].resolve(), recipe["settings"], _recorded(place))


def _recorded(place: Path) -> tuple[TensorSpec, ...] | None:
    """The inputs that the manifest of a result names, if it does."""
    try:
        found = json.loads((place / "manifest.json").read_bytes())["inputs"]
        return msgspec.convert(found, tuple[TensorSpec, ...])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError):
        return None


def network(place: Path, folder: Path, door: Door) -> Served:
    """What a file or a result folder stands for; a file is served by its own framework where that is installed.

    Raises:
        UsageError: there is none. InputError: it is no network, or an unsafe one.
    """
    if not place.exists():
        raise UsageError(f"there is no {place}")
    if (place / "recipe.json").is_file():
        return served(place, trust=door.trust)
    if place.suffix == ".xml":
        return Served(place.stem, "openvino", place.resolve(), {"precision": "f32", "hint": "LATENCY"})
    entered = enter(place.resolve(), folder, door)
    origin = entered.origin
    return Served(place.name, origin.engine, Path(origin.path), origin.settings, entered.inputs, entered.outputs)


def read_recipe(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """A recipe as a dictionary with ``steps``, ``engine``, ``settings`` and ``batch``.

    Raises:
        UsageError: it cannot be read, a field is missing or of the wrong type, or a name is unknown.
        InputError: it names code by a dotted path, and nobody said ``trust``; or it fixes sizes that are none.
    """
    try:
        recipe = msgspec.json.decode(path.read_bytes(), type=_Recipe)
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise UsageError(f"cannot read the recipe {path}", cause=why.lower(), help=RESULTS_OWN) from fault
    except (RecursionError, msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise UsageError(f"{path} is not a recipe", cause=str(fault), help=RESULTS_OWN) from fault
    for group, name in [("engines", recipe.engine), *(("passes", step.name) for step in recipe.steps)]:
        only_known(group, name, path, trust=trust)
    if "sizes" in recipe.settings:
        read_sizes(recipe.settings["sizes"], path)
    return asdict(recipe)


def present(name: str) -> None:
    """Raises ``EnvironmentFault`` with the pip line when an engine cannot be used here."""
    reason = registry.engine(name)[1]
    if reason:
        raise EnvironmentFault(f"{name} cannot be used here", cause=reason, help="hasten doctor shows what can")


def only_known(group: str, name: str, path: Path, *, trust: bool) -> None:
    """Files of others name what is registered; a dotted path could import and call anything.

    Raises:
        InputError: a dotted path without ``trust``. UsageError: a name that is not registered.
    """
    known = registry.names(group)
    if name in known:
        return
    if not {".", ":"} & set(name):
        raise UsageError(
            f"{path} names no {registry.ONE[group]} that is known: {name!r}", help=did_you_mean(name, known)
        )
    if not trust:
        cause = "importing it would run whatever it is"
        raise InputError(f"{path} names code: {name!r}", cause=cause, help="--trust, if the file is yours")


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
    base = next(iter(series.blocks.values()))
    rows: list[dict[str, Any]] = []
    for one, (name, blocks) in zip(networks, series.blocks.items(), strict=True):
        if name in series.lost:
            rows.append({"name": one.name, "reason": str(series.lost[name])})
            continue
        found = timing(base, blocks)
        rows.append(
            {
                "name": one.name,
                "engine": one.engine,
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
