"""What a child replies about the network that it has loaded: a checked value for each operation of ``hasten.serve``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hasten.protocols import Array, Layer
from hasten.trial import Scalar
from hasten.worker import Worker

Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, lt=1e12)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
Text = Annotated[str, msgspec.Meta(max_length=20_000)]


@dataclass(frozen=True)
class Loaded:
    """A network is loaded; its cold start took so long."""

    load_seconds: Seconds


@dataclass(frozen=True)
class Outputs:
    """The outputs of several batches, one after another, and how many samples each batch held."""

    sizes: list[Count]
    arrays: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class Times:
    """Times of single inferences."""

    milliseconds: list[Milliseconds]


@dataclass(frozen=True)
class Profiled:
    """The kernels that an engine ran."""

    layers: list[Layer]


@dataclass(frozen=True)
class Executed:
    """What an engine reports that it ran."""

    executed: Text


@dataclass(frozen=True)
class Memory:
    """Peak resident bytes of a process above an empty one's."""

    peak_bytes: Count


def load_arguments(engine: str, path: str, settings: Mapping[str, Scalar], names: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``load``."""
    return {"engine": engine, "path": path, "settings": dict(settings), "names": list(names)}


def load(
    worker: Worker, engine: str, path: Path | str, settings: Mapping[str, Scalar], names: Sequence[str] = ()
) -> float:
    """Load a network whose outputs are called ``names``; returns the seconds that it took.

    Raises as ``Worker.call``.
    """
    return worker.call("load", Loaded, **load_arguments(engine, str(path), settings, names)).load_seconds


def run(
    worker: Worker, store: Path | str, ids: Sequence[int], *, batch: int = 1, keep: Sequence[int] | None = None,
    seconds: float = 600.0,
) -> Outputs:  # fmt: skip
    """The outputs for ``ids``, all of them or those at the positions ``keep``. Raises as ``Worker.call``."""

    def wrong(found: Outputs) -> str:
        if sum(found.sizes) != len(ids) or not all(0 < size <= max(batch, 1) for size in found.sizes):
            return f"{len(found.sizes)} batches of {sum(found.sizes)} samples for {len(ids)} samples"
        width = len(found.arrays) // max(len(found.sizes), 1) if keep is None else len(keep)
        if len(found.arrays) != width * len(found.sizes):
            return f"{len(found.arrays)} arrays for {len(found.sizes)} batches"
        return ""

    asked: dict[str, Any] = {
        "store": str(store),
        "ids": list(ids),
        "batch": batch,
        "keep": None if keep is None else list(keep),
    }
    return worker.call("run", Outputs, seconds=seconds, check=wrong, **asked)


def times(
    worker: Worker, store: str, ids: Sequence[int], *, batch: int, inner: int, warm: bool = True,
    start: int = 0, seconds: float = 600.0,
) -> list[float]:  # fmt: skip
    """Milliseconds of ``inner`` inferences from sample ``start`` on, after one untimed call where ``warm``.

    Raises as ``Worker.call``.
    """

    def wrong(found: Times) -> str:
        count = len(found.milliseconds)
        return "" if count == inner else f"{count} times for {inner} inferences"

    asked: dict[str, Any] = {"store": store, "ids": list(ids), "batch": batch, "inner": inner, "warm": warm}
    asked["start"] = start
    return worker.call("time", Times, seconds=seconds, check=wrong, **asked).milliseconds


def profile(worker: Worker, store: str, ids: Sequence[int], *, batch: int, lasting: float) -> list[Layer]:
    """The kernels of the loaded network with their times. Raises as ``Worker.call``."""

    def wrong(found: Profiled) -> str:
        return "" if all(0 <= layer.ms < 1e12 for layer in found.layers) else "a kernel with a negative time"

    asked: dict[str, Any] = {"store": store, "ids": list(ids), "batch": batch, "lasting": lasting}
    return worker.call("profile", Profiled, check=wrong, **asked).layers


def executed(worker: Worker) -> str:
    """What the engine reports that it ran. Raises as ``Worker.call``."""
    return worker.call("executed", Executed).executed


def memory(worker: Worker) -> int:
    """Peak resident bytes of the loaded network. Raises as ``Worker.call``."""
    return worker.call("memory", Memory).peak_bytes
