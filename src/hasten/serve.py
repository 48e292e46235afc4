"""One process a candidate: the child's side. Started by ``hasten.worker``, never by hand."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hasten import registry
from hasten.errors import HastenError
from hasten.machine import peak_bytes, resident_bytes
from hasten.protocols import Array, Runner
from hasten.samples import SampleStore
from hasten.samples.sequence import unroll
from hasten.wire import HEADER, pack

LONGEST = 20_000  # characters of a text that the parent takes
MOST_READY = 64  # feeds held in memory for timing
MOST_PROFILED = 8  # of them run in a round of a profile


class Child:
    """What a child knows between requests: at most one loaded network."""

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.empty_bytes = resident_bytes(os.getpid())
        self.names: list[str] = []
        self.ready: list[dict[str, Array]] = []
        self.ready_for: object = None
        self.loaded: tuple[str, Path, dict[str, Any]] = ("", Path(), {})

    def call(self, function: str, keywords: dict[str, Any]) -> tuple[Any, list[Array]]:
        """Run a function of ours that takes and returns plain JSON values."""
        module, _, name = function.partition(":")
        if not module.startswith("hasten."):
            raise ValueError(f"{function} is not one of ours")
        try:
            return getattr(import_module(module), name)(**keywords), []
        finally:
            _give_back()

    def load(self, engine: str, path: str, settings: dict[str, Any], names: list[str]) -> tuple[Any, list[Array]]:
        """Load a network whose outputs are called ``names``; cold start is measured here."""
        self.names, self.loaded = names, (engine, Path(path), settings)
        before = time.perf_counter()
        self.runner = registry.find("engines", engine).load(Path(path), settings)
        return {"load_seconds": time.perf_counter() - before}, []

    def run(self, store: str, ids: list[int], batch: int, keep: list[int] | None) -> tuple[Any, list[Array]]:
        """Outputs for ``ids``, a batch after another; ``keep`` selects outputs by position."""
        samples, arrays, sizes = _store(store), [], []
        for members, feeds in samples.batches(ids, batch):
            results = self._forward(samples, feeds)
            if self.names and len(results) != len(self.names):
                raise ValueError(f"the engine returns {len(results)} outputs, the network has {len(self.names)}")
            kept = results if keep is None else [results[k] for k in keep]
            arrays += [_without_fill(a, len(members), samples.fixed) for a in kept]
            sizes.append(len(members))
        return {"sizes": sizes}, arrays

    def time(
        self, store: str, ids: list[int], batch: int, inner: int, warm: bool = True, start: int = 0
    ) -> tuple[Any, list[Array]]:
        """Milliseconds of ``inner`` inferences over rotating samples, from ``start`` on. Copies included.

        ``warm``: after one untimed call.
        """
        assert self.runner is not None
        self._make_ready(store, ids, batch)
        took = []
        if warm:
            self.runner.run(self.ready[start % len(self.ready)])
        for k in range(start, start + inner):
            feeds = self.ready[k % len(self.ready)]
            before = time.perf_counter_ns()
            self.runner.run(feeds)
            took.append((time.perf_counter_ns() - before) / 1e6)
        return {"milliseconds": took}, []

    def profile(self, store: str, ids: list[int], batch: int, lasting: float) -> tuple[Any, list[Array]]:
        """Milliseconds of each kernel of the loaded network, compiled anew with its counters on."""
        self._make_ready(store, ids, batch)
        engine, path, settings = self.loaded
        layers = registry.find("engines", engine).profile(path, settings, self.ready[:MOST_PROFILED], lasting)
        return {"layers": msgspec.to_builtins(list(layers))}, []

    def _make_ready(self, store: str, ids: list[int], batch: int) -> None:
        """Feeds in memory, so that reading them is not timed."""
        if self.ready_for != (store, ids, batch):
            samples = _store(store)
            steps = (unroll(samples, feeds) for _, feeds in samples.batches(ids, batch))
            self.ready = [_in_memory(feeds) for several in steps for feeds in several][:MOST_READY]
            self.ready_for = (store, ids, batch)

    def _forward(self, samples: SampleStore, feeds: Mapping[str, Array]) -> list[Array]:
        """One batch; a sequence is run step by step with its state carried over, its outputs joined on axis 0."""
        assert self.runner is not None
        if not samples.sequential:
            return [_plain(np.asarray(a)) for a in self.runner.run(feeds)]
        carried = {to: self.names.index(source) for to, source in samples.state.items()}
        collected: list[list[Array]] = []
        held: dict[str, Array] = {}
        for step in unroll(samples, feeds):
            results = self.runner.run({**step, **held})
            held = {to: results[k] for to, k in carried.items()}
            collected.append([np.array(a) for a in results])
        return [np.concatenate(column) for column in zip(*collected, strict=True)]

    def executed(self) -> tuple[Any, list[Array]]:
        """What the engine says that it ran."""
        assert self.runner is not None
        return {"executed": str(self.runner.executed())[:LONGEST]}, []

    def memory(self) -> tuple[Any, list[Array]]:
        """Peak resident bytes above those of an empty worker."""
        return {"peak_bytes": max(0, peak_bytes() - self.empty_bytes)}, []


def _plain(array: Array) -> Array:
    """Texts, which runtimes answer as Python objects, as an array of texts; others as they are."""
    texts = array.dtype.hasobject and all(isinstance(one, str) for one in array.flat)
    return array.astype(np.str_) if texts else array


def _without_fill(array: Array, members: int, fixed: int) -> Array:
    """The rows of ``members`` samples, of an output for a batch that was filled to ``fixed``."""
    if members >= fixed or not array.ndim or array.shape[0] % fixed:
        return array
    return array[: array.shape[0] // fixed * members]


def _in_memory(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in feeds.items()}


@cache
def _store(folder: str) -> SampleStore:
    return SampleStore.open(Path(folder))


def _give_back() -> None:
    """Return to the system what a piece of work has freed; glibc keeps it otherwise while the process lives."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _die_with_parent(parent: int) -> None:
    """Linux kills us with the parent (prctl PR_SET_PDEATHSIG = 1); no core files anywhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Answer requests from the pipe until it closes."""
    commands, replies, parent = (int(a) for a in sys.argv[1:4])
    _die_with_parent(parent)
    child = Child()
    with os.fdopen(commands, "rb") as requests, os.fdopen(replies, "wb") as answers:
        while len(header := requests.read(HEADER.size)) == HEADER.size:
            number, size, _ = HEADER.unpack(header)
            request = msgspec.json.decode(requests.read(size))
            for piece in _answer(child, request, number):
                answers.write(piece)
            answers.flush()


def _answer(child: Child, request: dict[str, Any], number: int) -> list[bytes | memoryview]:
    try:
        value, arrays = getattr(child, request["operation"])(**request["arguments"])
        return pack({"value": value}, arrays, number)
    except HastenError as fault:
        told = {
            k: str(v)[:LONGEST] for k, v in (("message", fault.message), ("cause", fault.cause), ("help", fault.help))
        }
        return pack({"error": type(fault).__name__, "told": told}, [], number)
    except Exception as fault:  # the parent decides what a failure means
        return pack({"error": type(fault).__name__, "text": _told(fault)}, [], number)


def _told(fault: Exception) -> str:
    """A fault's text on a few lines at most: runtimes like to print their sources."""
    text = str(fault).strip() or type(fault).__name__
    return "\n".join(text.splitlines()[:12])[:2000]
