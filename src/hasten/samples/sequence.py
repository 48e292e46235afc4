"""A sample of a network with state is a sequence; here it becomes one feed a step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from hasten.errors import InputError
from hasten.model import TensorSpec
from hasten.samples.store import Array, SampleStore
from hasten.trial import Scalar

SIZES_HELP = 'write {"x": [1, 3, 224, 224]}, or leave the setting "sizes" out: without it any size runs'
MOST_AXES, MOST_ELEMENTS = 64, 1 << 34


def unroll(store: SampleStore, feeds: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """The steps of a sequence, [T, ...] inputs cut along T; anything else is a single step.

    State inputs start at zero; who runs the network replaces them by what it carries.
    """
    if not store.sequential:
        return [feeds]
    moving = [entry.name for entry in store.inputs if entry.per_step]
    length = len(feeds[moving[0]])
    return [{**store.initial, **{n: a[t] if n in moving else a for n, a in feeds.items()}} for t in range(length)]


def fed_shapes(store: SampleStore, ids: Sequence[int], batch: int) -> dict[str, list[int]]:
    """The shapes that the first inference over ``ids`` is fed, by input."""
    feeds = unroll(store, next(store.batches(ids, batch))[1])[0]
    return {name: list(array.shape) for name, array in feeds.items()}


def common_sizes(store: SampleStore, inputs: Sequence[TensorSpec], batch: int) -> str:
    """``{"x": [1, 3, 224, 224]}``, as JSON: what every full batch feeds, where ``inputs`` leave sizes open.

    Empty where they leave none, or the samples differ.
    """
    opened = any(not isinstance(size, int) or size < 1 for spec in inputs for size in spec.shape)
    if not opened or not len(store):
        return ""
    for entry in store.inputs:
        shapes = store.columns[entry.name].shapes[:, int(entry.per_step) :]
        if (shapes != shapes[:1]).any():
            return ""
    return json.dumps(fed_shapes(store, range(min(batch, len(store))), batch))


def check_sizes(sizes: Scalar) -> None:
    """Refuse sizes that no memory holds. Raises as ``read_sizes``."""
    for name, size in read_sizes(sizes, "the settings").items():
        if len(size) > MOST_AXES or math.prod(size) > MOST_ELEMENTS:
            what = f"the sizes of {name!r:.80} are beyond all memory"
            raise InputError(what, cause=f"{size[:8]}", help=SIZES_HELP)


def read_sizes(sizes: Scalar, where: object) -> dict[str, list[int]]:
    """The setting ``sizes`` of ``where``, as ``common_sizes`` writes it.

    Raises:
        InputError: it is something else.
    """
    try:
        return msgspec.json.decode(str(sizes), type=dict[str, list[Annotated[int, msgspec.Meta(ge=0)]]])
    except msgspec.MsgspecError as fault:
        what = f"the sizes in {where} cannot be read: {str(sizes)!r:.80}"
        raise InputError(what, cause=str(fault), help=SIZES_HELP) from fault
