"""Samples from Python: any iterable of dicts, arrays or (inputs, label) pairs, or a callable that starts one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError, UsageError
from hasten.model import TensorSpec
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

FORMS = "yield a dict of arrays, an array, or a pair (dict or array, label)"


def read_iterable(data: object, wanted: Wanted) -> Opener:
    """Items one at a time. Batches that come with as many labels as they have rows are taken apart."""
    used = False

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        nonlocal used
        iterator = _start(data)
        if iterator is data and used:
            raise InputError(
                "the data is an iterator that has been read", help="give a list, or a function that starts one"
            )
        used = True

        def items() -> Iterator[Item]:
            count, several = 0, False
            for found in _guarded(iterator):
                parts = _apart(_item(found, str(count), wanted), inputs, least=1 if several else 2)
                several = several or len(parts) > 1
                for item in parts:
                    yield Item(item.inputs, str(count), item.label, item.group)
                    count += 1
                    if count == wanted.limit:
                        return

        return Stream(items())

    return start


def _start(data: object) -> Iterator[Any]:
    try:
        return iter(data)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        pass
    if not callable(data):
        raise UsageError(f"cannot read samples from a {type(data).__name__}", help=FORMS)
    try:
        return iter(data())
    except Exception as error:
        raise InputError("the data's function failed", cause=f"{type(error).__name__}: {error}", help=FORMS) from error


def _guarded(iterator: Iterator[Any]) -> Iterator[Any]:
    """The user's code may raise anything: say at which sample."""
    count = 0
    while True:
        try:
            found = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise InputError(
                f"the data failed at sample {count}", cause=cause, help="mend it, or leave the sample out"
            ) from error
        yield found
        count += 1


def _item(found: Any, index: str, wanted: Wanted) -> Item:
    label = group = None
    pair = isinstance(found, tuple) or (
        isinstance(found, list) and not isinstance(found[0] if found else 0, (int, float))
    )
    if pair:
        if len(found) != 2:
            raise InputError(f"sample {index} is a {type(found).__name__} of {len(found)}", help=FORMS)
        found, label = found
    if isinstance(found, Mapping):
        inputs = dict(found)
        label = inputs.pop(wanted.labels, label)
        group = inputs.pop(wanted.groups, None) if wanted.groups else None
        return Item({str(k): _array(v, index) for k, v in inputs.items()}, index, label, group)
    return Item({ONLY: _array(found, index)}, index, label, group)


def _array(value: Any, index: str) -> Array:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"sample {index} is not an array", cause=str(error).split("\n")[0], help=FORMS) from error
    if array.dtype.kind in "OUS":
        raise InputError(f"sample {index} is a {type(value).__name__}, not an array of numbers", help=FORMS)
    return array


def _apart(item: Item, inputs: tuple[TensorSpec, ...], least: int) -> list[Item]:
    """A loader's batch [B, ...] with B labels becomes B samples; ``least`` is the smallest B that is a batch.

    An array of one label is one sample's label, unless batches came before: then it is the last, smaller batch.
    """
    size = len(item.label) if np.ndim(item.label) else 0
    ranks = {s.name: len(s.shape) for s in inputs} | ({ONLY: len(inputs[0].shape)} if len(inputs) == 1 else {})
    batch = size >= least and all(
        np.ndim(a) == ranks.get(k) and np.ndim(a) > 1 and len(a) == size for k, a in item.inputs.items()
    )
    if not batch:
        return [item]
    return [
        Item(
            {k: a[i] for k, a in item.inputs.items()},
            item.id,
            item.label[i],
            item.group[i] if np.ndim(item.group) else item.group,
        )
        for i in range(size)
    ]


def read_folder(files: list[Path], wanted: Wanted, read: Callable[[Path], Mapping[str, Array]]) -> Opener:
    """One file a sample; its arrays by input name, its label and group under their names."""

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        def items() -> Iterator[Item]:
            for i in wanted.rows(len(files)):
                found = _item(read(files[i]), files[i].name, wanted)
                yield found

        return Stream(items(), named=True)

    return start
