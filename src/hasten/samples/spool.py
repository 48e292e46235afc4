"""Writing samples to disk, one at a time: all of them, or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from array import array as packed
from collections.abc import Generator, Iterator, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import EnvironmentFault, InputError
from hasten.model import TensorSpec
from hasten.samples.files import FlatFile, Labels
from hasten.samples.fit import ANY_RANK, Fit, is_float
from hasten.samples.store import SCHEMA_VERSION, StoredInput, numpy_dtype
from hasten.samples.stream import Array, Item, Stream


class Spool:
    """One pass over a stream into ``directory``."""

    def __init__(
        self, directory: Path, inputs: tuple[TensorSpec, ...], state: Mapping[str, str], stream: Stream
    ) -> None:
        self.directory, self.state, self.stream = directory, dict(state), stream
        self.inputs = tuple(s for s in inputs if s.name not in state)
        self.initial = {s.name: _first_state(s) for s in inputs if s.name in state}
        self.once = frozenset(self._once_name(k) for k in stream.once)
        self.fit = Fit(self.inputs, stepped=bool(state))
        self.files = {
            s.name: FlatFile(directory / f"{k}.npy", directory / f"{k}.shapes.npy", numpy_dtype(s.dtype))
            for k, s in enumerate(self.inputs)
        }
        self.labels = Labels(directory)
        self.digest = sha256()
        self.hashes, self.ids = packed("Q"), list[str]()
        self.groups: list[Any] = []
        self.unbatched = False
        self.fixed = 0  # samples at a time, where the network takes no other number and the data has single ones
        self.not_finite: list[str] = []

    def _once_name(self, name: str) -> str:
        return self.inputs[0].name if name == "" else name

    def run(self) -> Iterator[int]:
        """Write every item, then the small files; yields the items written. Leaves closing on error to ``abandon``."""
        once: dict[str, Array] = {}
        for item in self.stream.items:
            if not self.ids:
                once = self._first(item)
            self._write(item)
            yield len(self.ids)
        if not self.ids:
            raise InputError("the data has no samples", help="check the path of the data")
        for name, file in self.files.items():
            file.close(1 if name in once else len(self.ids))
        self._finish()

    def _first(self, item: Item) -> dict[str, Array]:
        """The arrays that serve all samples are checked with the first, whose names complete theirs."""
        given = {**self.stream.once, **item.inputs}
        self.fixed = self.fit.fixed_batch(given, item.id, self._scalars(item))
        if self.fixed:
            self.inputs = tuple(_row(s) if s.name not in self._scalars(item) else s for s in self.inputs)
            self.fit.inputs = self.inputs
            self.fit.notes[
                f"the network's batch is fixed at {self.fixed}: it is fed {self.fixed} samples at a time"
            ] = None
        once = self.fit.feeds(given, item.id, self._scalars(item))
        once = {name: once[name] for name in once if name in self._scalars(item)}
        for name, array in once.items():
            self.digest.update(f"{name} {array.dtype} {array.shape}".encode() + self.files[name].append(array))
        self.once = frozenset(once)
        return once

    def _scalars(self, item: Item) -> frozenset[str]:
        """Inputs given once: by the source, or as a bare scalar to a scalar input of a stateful network."""
        bare = {s.name for s in self.inputs if not s.shape and s.name in item.inputs and item.inputs[s.name].ndim == 0}
        return frozenset(map(self._once_name, self.stream.once)) | (frozenset(bare) if self.state else frozenset())

    def _write(self, item: Item) -> None:
        given = {k: a for k, a in item.inputs.items() if k not in self.once}
        each = Fit(tuple(s for s in self.inputs if s.name not in self.once), self.fit.stepped, self.fit.notes)
        fed = each.feeds(given, item.id)
        content = blake2b(digest_size=32)
        for spec in each.inputs:
            array, file = fed[spec.name], self.files[spec.name]
            if file.ndim not in (None, array.ndim):
                raise InputError(
                    f"sample {item.id}: input {spec} changes its rank to {array.ndim}", help="give all samples one rank"
                )
            self._look(array, spec, item)
            content.update(f"{spec.name}{array.shape}".encode() + file.append(array))
        if self.state:
            self._check_steps(fed, item)
        self.hashes.append(int.from_bytes(content.digest()[:8], "little"))
        self.digest.update(content.digest() + self.labels.append(item.label, item.id) + str(item.group).encode())
        self.ids.append(item.id)
        self.groups.append(item.group)

    def _look(self, array: Array, spec: TensorSpec, item: Item) -> None:
        axis = int(bool(self.state))
        free = spec.shape == (ANY_RANK,) or (len(spec.shape) > 0 and not isinstance(spec.shape[0], int))
        self.unbatched |= not (free or self.fixed) or array.shape[axis] != 1
        if is_float(array.dtype) and not np.isfinite(array).all() and item.id not in self.not_finite[-1:]:
            self.not_finite.append(item.id)

    def _check_steps(self, fed: Mapping[str, Array], item: Item) -> None:
        steps = {name: array.shape[0] for name, array in fed.items()}
        if np.ndim(item.label):
            steps["labels"] = len(item.label)
        if len(set(steps.values())) > 1:
            listed = ", ".join(f"{k}: {v}" for k, v in steps.items())
            raise InputError(
                f"sequence {item.id} has inputs of different lengths", cause=listed, help="give each a leading axis T"
            )

    def _finish(self) -> None:
        n = len(self.ids)
        notes = [*self.stream.warnings, *self.fit.notes, *self._finite(n), *self.labels.close()]
        hashes = np.frombuffer(self.hashes, np.uint64)
        distinct = len(np.unique(hashes))
        if n > 1 and distinct == 1:
            notes.append(f"all {n} samples have the same inputs")
        elif distinct < n:
            notes.append(f"{n - distinct} samples repeat the inputs of another; copies stay in one split")
        np.save(self.directory / "hashes.npy", hashes)
        if any(g is not None for g in self.groups):
            if None in self.groups:
                raise InputError(
                    f"sample {self.ids[self.groups.index(None)]} has no group", help="give every sample a group"
                )
            np.save(self.directory / "groups.npy", np.unique([str(g) for g in self.groups], return_inverse=True)[1])
        self._write_meta(n, notes)

    def _finite(self, n: int) -> list[str]:
        if not self.not_finite:
            return []
        listed = ", ".join(self.not_finite[:10]) + (", ..." if len(self.not_finite) > 10 else "")
        return [f"{len(self.not_finite):,} of {n:,} samples hold NaN or infinities in their inputs: {listed}"]

    def _write_meta(self, n: int, notes: list[str]) -> None:
        for spec in self.inputs:
            self.digest.update(str((spec.name, spec.dtype)).encode())
        meta = {
            "schema_version": SCHEMA_VERSION,
            "n": n,
            "inputs": [vars(self._stored(spec)) for spec in self.inputs],
            "state": self.state,
            "initial": self.initial,
            "batchable": not self.unbatched,
            "fixed": self.fixed,
            "not_finite": len(self.not_finite),
            "digest": self.digest.hexdigest(),
            "classes": list(self.stream.classes),
            "warnings": list(dict.fromkeys(notes)),
            "ids": self.ids if self.stream.named else None,
        }
        with (self.directory / "meta.json").open("w", encoding="utf-8") as file:
            json.dump(meta, file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    def _stored(self, spec: TensorSpec) -> StoredInput:
        once = spec.name in self.once
        repeat = once and bool(spec.shape) and not isinstance(spec.shape[0], int)
        return StoredInput(spec.name, numpy_dtype(spec.dtype).name, once, bool(self.state) and not once, repeat)

    def abandon(self) -> None:
        """Close what is open; the folder is the caller's to remove."""
        for file in self.files.values():
            file.abandon()
        self.labels.abandon()


def _row(spec: TensorSpec) -> TensorSpec:
    """What one sample of a fixed batch is."""
    return TensorSpec(spec.name, (1, *spec.shape[1:]), spec.dtype)


def _first_state(spec: TensorSpec) -> dict[str, Any]:
    """A state starts at zero; its free dimensions are the batch, which is one."""
    shape = [d if isinstance(d, int) else 1 for d in spec.shape]
    return {"dtype": numpy_dtype(spec.dtype).name, "shape": shape}


@contextlib.contextmanager
def all_or_nothing(directory: Path) -> Iterator[Path]:
    """A folder to build in; it takes the place of ``directory`` at the end, or vanishes."""
    building = directory.with_name(f".{directory.name}.{os.getpid()}")
    try:
        building.mkdir(parents=True)
        yield building
        if directory.exists():
            shutil.rmtree(directory)
        building.rename(directory)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write the samples to {directory}", cause=str(error), help="free some disk"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def spooling(
    directory: Path, inputs: tuple[TensorSpec, ...], state: Mapping[str, str], stream: Stream
) -> Generator[int]:
    """Write ``stream`` to ``directory``; yields the number of samples written, after each."""
    names = [s.name for s in inputs]
    if unknown := [k for k in state if k not in names]:
        raise InputError(
            f"no input is called {unknown[0]!r}",
            cause=f"named as state; inputs: {', '.join(names)}",
            help="--state input=output",
        )
    if texts := [s for s in inputs if s.dtype == "object"]:
        what = f"input {texts[0].name!r} takes text"
        raise InputError(what, cause="hasten feeds numbers", help="cut the tokenizer off the network")
    with all_or_nothing(directory) as building:
        writer = Spool(building, inputs, state, stream)
        try:
            yield from writer.run()
        finally:
            writer.abandon()
