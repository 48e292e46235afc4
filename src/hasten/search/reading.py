"""Data at a path is read in a worker with limits of memory and time; Python objects are the caller's own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from hasten.deaths import blamed, short_of_memory
from hasten.errors import EnvironmentFault, InputError
from hasten.machine import memory_bytes
from hasten.model import TensorSpec
from hasten.samples import Samples, SampleStore, load_samples
from hasten.samples.feedback import telling_of_state
from hasten.samples.guard import AGAIN, LESS, out_of_memory
from hasten.samples.images import prepared
from hasten.samples.peek import peek
from hasten.samples.stream import Array
from hasten.search.findings import Advanced, Begun
from hasten.worker import CallFailed, Worker, WorkerDied

T = TypeVar("T")
Specs = tuple[TensorSpec, ...]
MEMORY = 4 << 30  # bytes of a reader, or most of what the machine has free
TURN_SECONDS = 1.0  # between two lines that say how far
SAMPLE_SECONDS = 300.0  # without a single new sample
WHOLE_SECONDS = 4 * 3600.0


def read(
    data: object,
    directory: Path,
    inputs: Specs,
    outputs: Specs = (),
    *,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | Callable[[Array], Array] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> SampleStore:
    """The samples of ``data`` checked against ``inputs`` and written to ``directory``; ``tell`` gets their number.

    Raises:
        UsageError, InputError: the data cannot be read or does not fit; an input that ``outputs`` could feed is named.
        EnvironmentFault: the reader needs more memory than it may have, or the disk is full.
    """
    options: dict[str, Any] = {"labels": labels, "groups": groups, "preprocess": preprocess, "columns": columns}
    if isinstance(data, Samples) and data.given:
        options, state = dict(data.given), {**data.state, **(state or {})}
        data = options.pop("data")
    if not isinstance(data, str | Path):
        with telling_of_state(inputs, outputs):
            return load_samples(data, state=state, **options).spool(directory, inputs, tell)
    options["state"] = dict(state or {})
    own = options["preprocess"] if callable(options["preprocess"]) else None
    if own is None:
        _twice(data, lambda: _read_path(data, directory, inputs, outputs, options, tell))
        return SampleStore.open(directory)
    raw = directory.with_name(f"{directory.name}-raw")
    try:
        plain = {**options, "preprocess": "none"}
        if not _twice(data, lambda: _read_path(data, raw, inputs, outputs, plain, tell, raw=True)):
            raw.replace(directory)
            return SampleStore.open(directory)
        stream = prepared(SampleStore.open(raw), inputs[0], own)
        return Samples(open=lambda _: stream, source=str(data)).spool(directory, inputs, tell)
    finally:
        shutil.rmtree(raw, ignore_errors=True)


def _read_path(
    data: str | Path, directory: Path, inputs: Specs, outputs: Specs, options: Mapping[str, Any],
    tell: Callable[[int], None], *, raw: bool = False,
) -> bool:  # fmt: skip
    """Spool the file or folder in a worker; True where it holds images."""
    begun, done = time.monotonic(), 0
    asked = {
        **_asked(data),
        "directory": str(directory.resolve()),
        "inputs": msgspec.to_builtins(inputs),
        "outputs": msgspec.to_builtins(outputs),
        "options": dict(options),
        "raw": raw,
    }
    try:
        with _reader(data) as call:
            images = call("begin", Begun, asked)["images"]
            while not (answer := call("advance", Advanced, {"seconds": TURN_SECONDS}))["finished"]:
                now = time.monotonic()
                if answer["done"] != done:
                    done = answer["done"]
                    tell(done)
                if now - begun > WHOLE_SECONDS:
                    cause = f"{done} samples in {now - begun:.0f} s, over the limit of {WHOLE_SECONDS:.0f} s"
                    raise InputError(f"reading {data} takes too long", cause=cause, help="give a part of the data")
            return images
    finally:
        for building in directory.parent.glob(f".{directory.name}.*"):  # of a reader that died
            shutil.rmtree(building, ignore_errors=True)


def example(data: object, target: Path, most: int, labels: str = "labels", groups: str | None = None) -> Path | None:
    """The first samples in the ``.npz`` file ``target``; None where they cannot be had."""
    if isinstance(data, Samples) and data.given:
        data = data.given["data"]
    if not isinstance(data, str | Path):
        found = peek(data, most, labels, groups)
        if found is not None:
            np.savez(target, **found)  # type: ignore[arg-type]
        return None if found is None else target
    asked = {"target": str(target.resolve()), "most": most, "labels": labels, "groups": groups}

    def work() -> bool:
        with _reader(data) as call:
            return call("example", bool, {**_asked(data), **asked})

    return target if _twice(data, work) else None


def look(
    data: object, most: int, folder: Path, labels: str = "labels", groups: str | None = None
) -> dict[str, Array] | None:
    """The first samples as arrays by name; None where they cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    path = example(data, folder / "look.npz", most, labels, groups)
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _asked(data: str | Path) -> dict[str, Any]:
    try:
        str(data).encode()
        return {"place": str(Path.cwd()), "data": str(data), "memory": _limit()}
    except UnicodeEncodeError as fault:
        raise InputError("the path of the data is not UTF-8", cause=ascii(str(data)), help="rename it") from fault
    except OSError:
        return {"place": "/", "data": str(data), "memory": _limit()}


def _limit() -> int:
    free = memory_bytes()[1]
    return min(MEMORY, int(free * 0.8)) if free else MEMORY


def _twice(data: str | Path, work: Callable[[], T]) -> T:
    """What ``work`` returns; where somebody kills the reader, it is done once more."""
    try:
        return work()
    except WorkerDied:
        try:
            return work()
        except WorkerDied as fault:
            raise blamed(fault, f"cannot read {data}", process="the reader", help=AGAIN) from fault


class _Call(Protocol):
    def __call__(self, function: str, kind: type[T], keywords: Mapping[str, Any]) -> T: ...


@contextmanager
def _reader(data: str | Path) -> Iterator[_Call]:
    """A worker that answers calls of ``hasten.samples.reader``; its death is a sentence about ``data``.

    Raises:
        WorkerDied: somebody killed it.
    """
    limit = _limit()

    with Worker(name="reader", memory_limit=limit + (256 << 20)) as worker:

        def call(function: str, kind: type[T], keywords: Mapping[str, Any]) -> T:
            name = f"hasten.samples.reader:{function}"
            return worker.call("call", kind, seconds=SAMPLE_SECONDS, function=name, keywords=dict(keywords))

        try:
            yield call
        except WorkerDied as fault:
            if fault.killed and not fault.memory:
                raise
            if fault.memory:
                raise EnvironmentFault(
                    f"there is too little memory to read {data}", cause=f"the reader {fault}", help=LESS
                ) from fault
            if fault.status == "timeout":
                cause = f"no new sample within {SAMPLE_SECONDS:.0f} s"
                raise InputError(f"reading {data} takes too long", cause=cause, help=LESS) from fault
            raise InputError(f"cannot read {data}", cause=f"the reader {fault}", help=AGAIN) from fault
        except CallFailed as fault:
            if short_of_memory(fault):
                raise out_of_memory(data, f"the reader may take {limit >> 20:,} MiB") from fault
            cause = f"{fault.kind}: {str(fault).splitlines()[0]}"
            raise InputError(f"cannot read {data}", cause=cause, help=AGAIN) from fault
