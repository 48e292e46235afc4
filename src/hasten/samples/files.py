"""The files that samples are written to: arrays end to end, and labels of any kind."""

from __future__ import annotations

import os
from array import array as packed
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.samples.stream import Array

HEADER = 128  # bytes; room for any length, filled in at the end


class FlatFile:
    """Arrays end to end in ``<stem>.npy``, their shapes in ``<stem>.shapes.npy``."""

    def __init__(self, flat: Path, shapes: Path, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")
        self._file = flat.open("wb")
        self._file.write(_npy_header(self.dtype, 0))
        self._shapes_path, self._shapes = shapes, packed("q")
        self.ndim: int | None = None
        self.values = 0

    def append(self, array: Array) -> bytes:
        """Write ``array``; returns the bytes written, for hashing."""
        self.ndim = array.ndim if self.ndim is None else self.ndim
        data = np.ascontiguousarray(array).tobytes()
        self._file.write(data)
        self._shapes.extend(array.shape)
        self.values += array.size
        return data

    def close(self, n: int) -> None:
        """Fill the header in and force everything to disk."""
        self._file.seek(0)
        self._file.write(_npy_header(self.dtype, self.values))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        shapes = np.frombuffer(self._shapes, np.int64) if self._shapes else np.empty(0, np.int64)
        np.save(self._shapes_path, shapes.reshape(n, self.ndim or 0))

    def abandon(self) -> None:
        self._file.close()


def _npy_header(dtype: np.dtype[Any], length: int) -> bytes:
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)})
    padded = text.ljust(HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode("latin1")


class Labels:
    """Labels as they come: scalars and texts are kept, arrays go to disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._scalars: list[Any] = []
        self._flat: FlatFile | None = None
        self._shapes: set[tuple[int, ...]] = set()
        self.count = 0
        self.missing: list[str] = []

    def append(self, label: Any, index: str) -> bytes:
        """Keep one label; None and NaN count as missing."""
        value = np.asarray(label)
        if label is None or value.dtype.hasobject or (value.ndim == 0 and value.dtype.kind == "f" and np.isnan(value)):
            self.missing.append(index)
            return b"none"
        self.count += 1
        if value.ndim == 0:
            if self._flat:
                raise InputError(
                    f"the label of sample {index} is a single value, others are arrays", help="give all alike"
                )
            self._scalars.append(value[()])
            return f"{value.dtype.kind}{value.tolist()!r}".encode()
        return self._append_array(value, index)

    def _append_array(self, value: Array, index: str) -> bytes:
        if self._flat is None:
            self._flat = FlatFile(
                self._directory / "labels.flat.npy", self._directory / "labels.shapes.npy", value.dtype
            )
        if (
            self._scalars
            or value.ndim != (self._flat.ndim or value.ndim)
            or not np.can_cast(value.dtype, self._flat.dtype, "same_kind")
        ):
            raise InputError(
                f"the label of sample {index} is {value.dtype.name} of rank {value.ndim}, unlike those before",
                help="give all labels of one kind and rank",
            )
        self._shapes.add(value.shape)
        return self._flat.append(value.astype(self._flat.dtype, copy=False))

    def close(self) -> list[str]:
        """Write what was kept; returns warnings."""
        if self.missing and self.count:
            listed = ", ".join(self.missing[:10])
            raise InputError(
                f"{len(self.missing)} samples have no label",
                cause=f"samples {listed}",
                help="label them, or leave them out",
            )
        if self._flat:
            self._flat.close(self.count)
            if len(self._shapes) == 1:
                self._as_one(next(iter(self._shapes)))
        elif self._scalars:
            values = np.asarray(self._scalars)
            if values.dtype.kind == "U" and any(not isinstance(s, str) for s in self._scalars):
                raise InputError("the labels mix numbers and text", help="give all labels of one kind")
            np.save(self._directory / "labels.npy", values)
            if len(values) > 1 and (values == values[0]).all():
                return [f"all labels are {values[0]}: accuracy says nothing about the other classes"]
        return []

    def _as_one(self, shape: tuple[int, ...]) -> None:
        """All shapes are equal: only the header of the flat file has to change."""
        path = self._directory / "labels.flat.npy"
        values = np.load(path, mmap_mode="r+", allow_pickle=False)
        text = repr(
            {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": (self.count, *shape)}
        )
        del values
        with path.open("r+b") as file:
            file.seek(10)
            file.write((text.ljust(HEADER - 11) + "\n").encode("latin1"))
        path.rename(self._directory / "labels.npy")
        (self._directory / "labels.shapes.npy").unlink()

    def abandon(self) -> None:
        if self._flat:
            self._flat.abandon()
