"""Batches, as training code yields them, taken apart into samples: tensors of any framework, with or without labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.samples.stream import Array

FORMS = "yield (inputs, labels), with inputs an array, a tuple of arrays in order, or a dict of arrays by name"
LABELS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class Batches:
    """The samples in ``loader``, one after another, as ``(inputs by name, label)``, or without the label.

    ``names`` are the network's inputs in order. May be walked again as often as the loader may.
    """

    loader: Iterable[Any]
    names: Sequence[str]

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self.loader):
            inputs, labels = apart(batch, len(self.names), number)
            named = inputs if isinstance(inputs, dict) else dict(zip(self.names, inputs, strict=False))
            if set(named) != set(self.names):
                cause = f"it has {', '.join(named)}; the network takes {', '.join(self.names)}"
                raise InputError(f"batch {number} does not fit the network", cause=cause, help=FORMS)
            for i in range(len(next(iter(named.values())))):
                sample = {k: a[i] for k, a in named.items()}
                yield sample if labels is None else (sample, labels[i])


def apart(batch: Any, takes: int, number: int = 0) -> tuple[list[Array] | dict[str, Array], Array | None]:
    """The inputs (in order, or by name) and the labels of a batch; ``takes`` is how many inputs the network has.

    Raises:
        InputError: it is none of the forms in ``FORMS``.
    """
    inputs, labels = batch, None
    if isinstance(batch, Mapping):
        inputs = dict(batch)
        found = [name for name in LABELS if name in inputs]
        labels = inputs.pop(found[0]) if found and len(inputs) > takes else None
    elif isinstance(batch, tuple | list):
        if len(batch) == 2 and (takes == 1 or isinstance(batch[0], tuple | list | Mapping)):
            inputs, labels = batch
        elif len(batch) == takes + 1:
            inputs, labels = batch[:-1], batch[-1]
    arrays: list[Array] | dict[str, Array]
    if isinstance(inputs, Mapping):
        arrays = {str(k): as_array(a, number) for k, a in inputs.items()}
    else:
        parts = inputs if isinstance(inputs, tuple | list) else [inputs]
        arrays = [as_array(a, number) for a in parts]
    truth = None if labels is None else as_array(labels, number)
    sizes = {
        len(a)
        for a in (*(arrays.values() if isinstance(arrays, dict) else arrays), *([] if truth is None else [truth]))
    }
    if len(sizes) != 1:
        raise InputError(f"batch {number} has parts of different lengths", cause=str(sorted(sizes)), help=FORMS)
    return arrays, truth


def as_array(value: Any, number: int) -> Array:
    """A tensor or array with a batch axis as numpy's."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"batch {number} holds no arrays", cause=str(error).split("\n")[0], help=FORMS) from error
    if array.dtype.kind in "OUS" or not array.ndim:
        raise InputError(f"batch {number} holds a {type(value).__name__}, not an array", help=FORMS)
    return array


def first(loader: Iterable[Any], most: int) -> list[Any]:
    """The first batches, to see what they look like.

    Raises:
        InputError: there are none, or the data can be walked only once.
    """
    if iter(loader) is loader:
        raise InputError(
            "the data is an iterator, which can be read only once", help="give the loader itself, or a list"
        )
    found = list(islice(iter(loader), most))
    if not found:
        raise InputError("the data has no batches", help="give a loader with samples")
    return found
