"""Samples on disk: written once, then read by any process, one at a time.

<k>.npy         input k of all samples, end to end
<k>.shapes.npy  [n, ndim] int64: the shape of each sample's array
labels.npy      one row a sample; or labels.flat.npy with labels.shapes.npy where the shapes differ
groups.npy      [n] int64: samples of one group stay in one split
hashes.npy      [n] uint64: equal hashes mean equal inputs
meta.json       names, dtypes, state, warnings, digest
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError

Array = NDArray[Any]
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StoredInput:
    """``once``: one array serves every sample. ``per_step``: a leading T axis; the network is run T times."""

    name: str
    dtype: str
    once: bool = False
    per_step: bool = False
    repeat: bool = False  # given once, but repeated along axis 0 to make a batch


class Ragged:
    """Arrays of different shapes in one flat file; ``self[i]`` is array ``i``, read anew.

    A memory map would stay in each process that ever looked, up to the whole file in every one of them.
    """

    def __init__(self, flat: Path, shapes: Path, dtype: np.dtype[Any] | None = None) -> None:
        mapped = _map(flat)
        self._path, self._dtype = flat, mapped.dtype if dtype is None else dtype
        self._begin = int(getattr(mapped, "offset", 0))  # bytes of the file's header; an empty array has no map
        self.shapes: NDArray[np.int64] = np.load(shapes, allow_pickle=False)
        sizes = self.shapes.prod(axis=1, dtype=np.int64)
        self._starts = np.cumsum(sizes) - sizes

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Array:
        shape = self.shapes[index]
        at = self._begin + int(self._starts[index]) * self._dtype.itemsize
        array = np.fromfile(self._path, self._dtype, int(shape.prod()), offset=at).reshape(shape)
        array.flags.writeable = False
        return array


class SampleStore:
    """The samples of one run, in the order in which they came. Cheap to open; nothing is read until asked for."""

    def __init__(self, directory: Path, meta: dict[str, Any]) -> None:
        self.directory = directory
        self.inputs = tuple(StoredInput(**entry) for entry in meta["inputs"])
        self.state: dict[str, str] = meta["state"]
        self.initial: dict[str, Array] = {
            name: np.zeros(first["shape"], numpy_dtype(first["dtype"])) for name, first in meta["initial"].items()
        }
        self.digest: str = meta["digest"]
        self.warnings: tuple[str, ...] = tuple(meta["warnings"])
        self.classes: tuple[str, ...] = tuple(meta["classes"])
        self.ids: Sequence[str] | range = meta["ids"] or range(meta["n"])
        self.batchable: bool = meta["batchable"]
        self.fixed: int = meta["fixed"]  # samples that the network takes at a time, where it takes no other number
        self.not_finite: int = meta.get("not_finite", 0)  # samples with NaN or infinities in their inputs
        self._n: int = meta["n"]

    @classmethod
    def open(cls, directory: Path) -> SampleStore:
        """Open what ``Samples.spool`` wrote.

        Raises:
            InputError: there are no complete samples in ``directory``.
        """
        try:
            meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
            if meta["schema_version"] == SCHEMA_VERSION:
                return cls(directory, meta)
            cause = f"written as version {meta['schema_version']}, this hasten reads {SCHEMA_VERSION}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            cause = f"{type(error).__name__}: {error}"
        raise InputError(f"no samples in {directory}", cause=cause, help="start the run afresh")

    def __len__(self) -> int:
        return self._n

    @property
    def sequential(self) -> bool:
        """True when each sample is a sequence of steps that carry state."""
        return bool(self.state)

    @cached_property
    def columns(self) -> dict[str, Ragged]:
        """The arrays of each input by name; an input given once has a single one."""
        return {
            entry.name: Ragged(
                self.directory / f"{k}.npy", self.directory / f"{k}.shapes.npy", numpy_dtype(entry.dtype)
            )
            for k, entry in enumerate(self.inputs)
        }

    def sample(self, index: int) -> dict[str, Array]:
        """What sample ``index`` feeds: arrays with a batch axis of one; ``per_step`` inputs as [T, ...fed shape].

        The arrays are read-only. Where the batch is fixed, the sample is repeated to fill it.
        """
        if not 0 <= index < self._n:
            raise IndexError(f"sample {index} of {self._n}")
        if self.fixed:
            return self._join([index])
        return {e.name: self._once[e.name] if e.once else self.columns[e.name][index] for e in self.inputs}

    @cached_property
    def _once(self) -> dict[str, Array]:
        """The arrays that serve every sample, read once too."""
        return {e.name: self.columns[e.name][0] for e in self.inputs if e.once}

    def batches(
        self, ids: Sequence[int] | NDArray[np.int64], batch: int = 1
    ) -> Iterator[tuple[list[int], dict[str, Array]]]:
        """Samples ``ids`` in order, up to ``batch`` at a time: (ids, feeds).

        Only neighbours of the same shapes share a batch. They are joined on axis 0, or on axis 1 of ``per_step``
        inputs. A network whose batch is fixed gets one sample at a time, or as many as ``fixed``: where fewer are
        left, the last one is repeated.
        """
        batch = min(batch, self.fixed or batch) if self.batchable else 1
        pending: list[int] = []
        for index in (int(i) for i in ids):
            if pending and (len(pending) == batch or not self._same_shapes(pending[0], index)):
                yield pending, self._join(pending)
                pending = []
            pending.append(index)
        if pending:
            yield pending, self._join(pending)

    def _same_shapes(self, a: int, b: int) -> bool:
        columns = (self.columns[e.name].shapes for e in self.inputs if not e.once)
        return all(np.array_equal(shapes[a], shapes[b]) for shapes in columns)

    def _join(self, ids: list[int]) -> dict[str, Array]:
        if len(ids) == 1 and not self.fixed:
            return self.sample(ids[0])
        ids = ids + ids[-1:] * (self.fixed - len(ids))
        feeds: dict[str, Array] = {}
        for entry in self.inputs:
            if entry.once:
                array = self._once[entry.name]
                feeds[entry.name] = np.repeat(array, len(ids), axis=0) if entry.repeat else array
            else:
                column = self.columns[entry.name]
                feeds[entry.name] = np.concatenate([column[i] for i in ids], axis=int(entry.per_step))
        return feeds

    @cached_property
    def labels(self) -> Array | Ragged | None:
        """[n, ...] memory-mapped; a column of n arrays where the labels' shapes differ; None without labels."""
        if (self.directory / "labels.npy").exists():
            return _map(self.directory / "labels.npy")
        flat, shapes = self.directory / "labels.flat.npy", self.directory / "labels.shapes.npy"
        return Ragged(flat, shapes) if shapes.exists() else None

    def relabel(self, change: Callable[[Array], Array]) -> None:
        """Write every label anew as ``change`` makes it of the old one."""
        from hasten.samples.files import Labels

        assert self.labels is not None
        with tempfile.TemporaryDirectory(dir=self.directory) as building:
            writer = Labels(Path(building))
            for i in range(self._n):
                writer.append(change(np.asarray(self.labels[i])), str(self.ids[i]))
            writer.close()
            del self.__dict__["labels"]
            for old in self.directory.glob("labels.*"):
                old.unlink()
            for made in Path(building).iterdir():
                made.rename(self.directory / made.name)

    @cached_property
    def groups(self) -> NDArray[np.int64] | None:
        """[n] group numbers, or None when every sample stands alone."""
        path = self.directory / "groups.npy"
        return _map(path) if path.exists() else None

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """[n]: samples with equal hashes have equal inputs."""
        return _map(self.directory / "hashes.npy")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's dtype for a ``TensorSpec.dtype``, with the narrow floats that numpy itself does not know."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found


def _map(path: Path) -> Array:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except ValueError:  # an empty array cannot be mapped
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
