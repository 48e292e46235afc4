"""Data sets of Hugging Face, by what they can do: named columns, rows that are dictionaries, features with classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hasten.errors import InputError, UsageError, did_you_mean
from hasten.model import TensorSpec
from hasten.samples.images import PRESETS, Prepare, fed, geometry, preset
from hasten.samples.pixels import fitted
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

LABELS = ("labels", "label", "targets", "target", "y")
MAP = "map the data set to columns of numbers named for the inputs, or give a dict of arrays"
Column = tuple[str, str, TensorSpec | None]  # of the data set, the input that it makes, and what that takes


def is_dataset(data: object) -> bool:
    """True for a data set with named columns and features."""
    return hasattr(data, "column_names") and hasattr(data, "features")


def read_dataset(data: Any, wanted: Wanted, preprocess: str | Prepare | None) -> Opener:
    """A row a sample; images become what the network takes, as those of a folder do."""
    if isinstance(data.column_names, Mapping):
        found = list(map(str, data.column_names))
        what = "the data set has several parts"
        raise UsageError(what, cause=", ".join(found), help=f"give one: dataset[{found[0]!r}]")
    names = [str(name) for name in data.column_names]
    label = _label(names, wanted)
    if wanted.groups is not None and wanted.groups not in names:
        raise UsageError(f"no column {wanted.groups!r} in the data set", help=did_you_mean(wanted.groups, names))
    left = [name for name in names if name not in (label, wanted.groups)]

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        classes = getattr(data.features.get(label), "names", None) if label else None
        stream = Stream(iter(()), classes=tuple(classes or ()))

        def items() -> Iterator[Item]:
            taken: list[Column] = []
            for i in (int(k) for k in wanted.rows(len(data))):
                row = data[i]
                taken = taken or _columns(left, row, inputs)
                arrays = {to: _array(row[name], spec, preprocess, i) for name, to, spec in taken}
                yield Item(arrays, str(i), row.get(label), row.get(wanted.groups) if wanted.groups else None)
            rest = [name for name in left if name not in {name for name, _, _ in taken}]
            stream.warnings += [f"not read, since the network takes no such input: {', '.join(rest)}"] if rest else []

        stream.items = items()
        return stream

    return start


def _label(names: list[str], wanted: Wanted) -> str | None:
    if wanted.labels in names:
        return wanted.labels
    if wanted.labels != "labels":
        raise UsageError(f"no column {wanted.labels!r} in the data set", help=did_you_mean(wanted.labels, names))
    return next((name for name in LABELS if name in names), None)


def _columns(left: list[str], row: Mapping[str, Any], inputs: tuple[TensorSpec, ...]) -> list[Column]:
    """By name, or the only column of numbers or images for the only input."""
    if inputs and all(spec.name in left for spec in inputs):
        return [(spec.name, spec.name, spec) for spec in inputs]
    able = [name for name in left if _is_image(row[name]) or np.asarray(row[name]).dtype.kind in "fiub"]
    if not inputs:
        return [(name, name, None) for name in able]
    if len(inputs) == 1 and len(able) == 1:
        return [(able[0], ONLY, inputs[0])]
    cause = f"columns: {', '.join(left)}; the network takes {', '.join(map(str, inputs))}"
    raise InputError("the columns of the data set do not fit the network's inputs", cause=cause, help=MAP)


def _is_image(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "getbands")


def _array(value: Any, spec: TensorSpec | None, preprocess: str | Prepare | None, index: int) -> Array:
    if _is_image(value) and spec is not None:
        shape = geometry(spec)
        prepare = preprocess if callable(preprocess) else PRESETS[preset(preprocess, shape)]
        return fed(prepare(fitted(value, shape)), shape)
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"sample {index} holds a {type(value).__name__}, not numbers", help=MAP)
    return array
