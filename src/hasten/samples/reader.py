"""Data at a path, read in a process of its own. The worker calls these functions; ``hasten.search.reading`` asks."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hasten.errors import EnvironmentFault
from hasten.model import TensorSpec
from hasten.samples.feedback import telling_of_state
from hasten.samples.guard import out_of_memory
from hasten.samples.load import load_samples
from hasten.samples.peek import peek

Specs = tuple[TensorSpec, ...]
_steps: list[Generator[int]] = []  # the reading under way; a process has one


def begin(
    place: str,
    data: str,
    directory: str,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    raw: bool = False,
    memory: int = 0,
) -> dict[str, Any]:
    """Recognise the data and get ready to write its samples to ``directory``; ``advance`` does it.

    ``raw`` images stay bytes, because a function of the caller prepares them. Returns ``{"images": bool}``.
    """
    os.chdir(place)  # so that messages show the path as the user wrote it
    limit_memory(memory)
    try:
        samples = load_samples(data, **options)
    except MemoryError:
        raise out_of_memory(data) from None
    specs, made = _specs(inputs), _specs(outputs)
    if raw and samples.images:
        specs = tuple(TensorSpec(s.name, s.shape, "uint8") for s in specs)
    _steps[:] = [_writing(samples.spooling(Path(directory), specs), data, specs, made)]
    return {"images": samples.images}


def advance(seconds: float) -> dict[str, Any]:
    """Read on for so long. Returns ``{"done": samples written, "finished": bool}``."""
    until, done = time.monotonic() + seconds, 0
    for done in _steps[0]:
        if time.monotonic() > until:
            return {"done": done, "finished": False}
    return {"done": done, "finished": True}


def example(place: str, data: str, target: str, most: int, labels: str, groups: str | None, memory: int = 0) -> bool:
    """Write the first ``most`` samples to the ``.npz`` file ``target``; False where they cannot be had."""
    os.chdir(place)
    limit_memory(memory)
    found = peek(data, most, labels, groups)
    if found is None:
        return False
    np.savez(target, **found)  # type: ignore[arg-type]
    return True


def limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes beyond what it has; an allocation past that fails instead of swapping."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        held = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if more:
            resource.setrlimit(resource.RLIMIT_DATA, (held + more, hard))


def _writing(steps: Generator[int], data: str, inputs: Specs, outputs: Specs) -> Generator[int]:
    try:
        with telling_of_state(inputs, outputs):
            yield from steps
    except MemoryError:
        raise out_of_memory(data) from None
    except OSError as error:
        raise EnvironmentFault("cannot write the samples", cause=str(error), help="free some disk") from error


def _specs(given: Sequence[Mapping[str, Any]]) -> Specs:
    return msgspec.convert(list(given), Specs)
