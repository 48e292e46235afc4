"""From the file that the user gave to a graph: through the front door of its format, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hasten.deaths import blamed
from hasten.errors import InputError, UsageError
from hasten.frontends.door import pick
from hasten.model import Origin, TensorSpec
from hasten.protocols import Door
from hasten.safety.stage import stage_original
from hasten.search.findings import Admitted, Converted, Facts
from hasten.search.reading import example
from hasten.worker import CallFailed, WorkerDied, once

T = TypeVar("T")
CONVERT_SECONDS = 900.0
EXAMPLES = 2


@dataclass(frozen=True)
class Entered:
    """A network inside: its graph, where it came from, and every form in which it is at hand."""

    graph: Path
    staged: Path  # the copy of what the user gave
    origin: Origin
    facts: Facts
    forms: Mapping[str, Path] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""
        return tuple(self.facts["inputs"])

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return tuple(self.facts["outputs"])


def enter(
    model: Path, folder: Path, options: Door = Door(),  # noqa: B008 - frozen
    data: object = None, labels: str = "labels", groups: str | None = None,
) -> Entered:  # fmt: skip
    """Stage ``model`` below ``folder``, convert it if it is not ONNX, and say what it holds.

    ``data`` lends two samples to networks that only say what they take when they are run.

    Raises:
        UsageError, InputError, EnvironmentFault: it is no network, is unsafe or damaged, or lacks something.
    """
    if "\0" in str(model):
        raise UsageError("a path holds a NUL character", help="check the paths")
    name = pick(model)
    if name == "onnx":
        place = (folder / "stage").resolve()
        asked = {"place": str(Path.cwd()), "path": str(model), "directory": str(place)}
        taken = _in_worker("hasten.search.build:admit", asked, Admitted, model, place / model.name)
        staged, graph = Path(taken["staged"]), Path(taken["graph"])
        return Entered(graph, staged, Origin("onnx", str(graph)), taken["facts"], {"onnx": graph})
    original = stage_original(model, folder / "original")
    place = folder / "stage"
    place.mkdir(parents=True, exist_ok=True)
    door = Door(
        folder=place,
        trust=options.trust,
        module=options.module,
        signature=options.signature,
        example=_example(options, data, place, labels, groups),
    )
    reply = _in_worker(
        "hasten.frontends.door:convert",
        {"name": name, "path": str(original), "options": msgspec.to_builtins(door, enc_hook=str)},
        Converted,
        model,
        original,
    )
    graph, origin = Path(reply["onnx"]), reply["origin"]
    forms = {"onnx": graph, origin.format: Path(origin.path), **{k: Path(v) for k, v in origin.forms.items()}}
    return Entered(graph, original, origin, inspect_graph(graph, model, reply["told"]), forms)


def inspect_graph(graph: Path, named: Path, told: Sequence[str] = ()) -> Facts:
    """What an ONNX file holds, read in a process of its own; messages speak of the file ``named``."""
    return _in_worker("hasten.search.build:inspect", {"path": str(graph), "told": list(told)}, Facts, named, graph)


def _in_worker(function: str, arguments: Mapping[str, Any], kind: type[T], model: Path, copy: Path) -> T:
    """Call ``function`` in a process of its own; its errors name the user's ``model``, not the ``copy`` it reads."""
    try:
        return once(function, arguments, kind, seconds=CONVERT_SECONDS)
    except InputError as fault:
        texts = (fault.message, fault.cause, fault.help)
        fault.message, fault.cause, fault.help = (text.replace(str(copy), str(model)) for text in texts)
        raise
    except (WorkerDied, CallFailed) as fault:
        raise blamed(fault, f"{model} cannot be read", process="the reader") from fault


def _example(options: Door, data: object, folder: Path, labels: str, groups: str | None) -> Path | None:
    """Two samples in a file, for what only says what it takes when it is run: of one, a tracer makes a constant."""
    if not (options.trust or options.module):
        return None
    return example(data, folder / "example.npz", EXAMPLES, labels, groups)
