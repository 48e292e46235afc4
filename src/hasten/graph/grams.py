"""What linear layers read over the calibrate split: Gram matrices and means, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.graph import taps
from hasten.graph.linear import Linear
from hasten.model import Model
from hasten.protocols import Feeds
from hasten.quant.gram import COLUMNS, Gram

MEMORY = 512 << 20  # bytes of Gram matrices alive at once


def grams(
    model: Model,
    layers: Sequence[Linear],
    feeds: Callable[[], Iterator[Feeds]],
    *,
    columns: int = COLUMNS,
    memory_bytes: int = MEMORY,
) -> Iterator[tuple[list[Linear], Gram]]:
    """Each Gram matrix with the layers that read those columns, in the order of execution.

    Layers that read one tensor in one way (queries, keys and values) share a matrix. As many are gathered in one run
    over ``feeds()`` as fit ``memory_bytes``; one that is larger than all of it gets a run of its own. Up to ``columns``
    columns of each sample enter. Layers whose input is never computed are left out.

    Raises:
        InputError: as ``graph.taps.collect``.
    """
    for part in _parts(layers, memory_bytes):
        found = [(alike, Gram(alike[0].groups, alike[0].k)) for alike in part]
        taps.stream(model, _names(found), feeds, _taker(found, columns))
        yield from (pair for pair in found if pair[1].count)


def means(
    model: Model, layers: Sequence[Linear], feeds: Callable[[], Iterator[Feeds]], *, columns: int = COLUMNS
) -> Iterator[tuple[Linear, NDArray[np.float64]]]:
    """Each layer with the mean of the columns that it reads, float64[groups, k]; cheaper than a Gram.

    Raises:
        InputError: as ``graph.taps.collect``.
    """
    found = [(alike, Mean(alike[0].groups, alike[0].k)) for alike in _alike(layers)]
    taps.stream(model, _names(found), feeds, _taker(found, columns))
    for alike, mean in found:
        yield from ((layer, mean.sums / mean.count) for layer in alike if mean.count)


@dataclass(eq=False)
class Mean:
    """The sum of columns, float64[groups, k], and their number."""

    groups: int
    k: int
    count: int = 0
    sums: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((self.groups, self.k))

    def update(self, x: Any) -> None:
        """Take in columns, float32[n, groups, k]."""
        self.count += len(x)
        self.sums += x.sum(axis=0, dtype=np.float64)


def _names(found: Sequence[tuple[list[Linear], Any]]) -> list[str]:
    return list(dict.fromkeys(alike[0].input.name or "" for alike, _ in found))


def _taker(found: Sequence[tuple[list[Linear], Any]], columns: int) -> Callable[[str, Any], None]:
    """What adds an array of a tensor to the sums of its readers."""
    seen = dict.fromkeys(_names(found), 0)

    def take(name: str, x: Any) -> None:
        seen[name] += 1
        for alike, total in found:
            if alike[0].input.name == name:
                total.update(alike[0].columns(x, seen[name], columns))

    return take


def _alike(layers: Sequence[Linear]) -> list[list[Linear]]:
    """Layers that read the same columns together, in order."""
    shared: dict[Any, list[Linear]] = {}
    for layer in layers:
        way = [str(a) for _, a in sorted(layer.node.attributes.items()) if layer.kernel]
        shared.setdefault((layer.input, layer.groups, layer.k, layer.kernel, *way), []).append(layer)
    return list(shared.values())


def _parts(layers: Sequence[Linear], memory_bytes: int) -> list[list[list[Linear]]]:
    """Layers that share a matrix together, and those that fit the memory together, in order."""
    parts: list[list[list[Linear]]] = []
    free = 0
    for alike in _alike(layers):
        size = 8 * alike[0].groups * alike[0].k ** 2
        if not parts or size > free:
            parts.append([])
            free = memory_bytes
        parts[-1].append(alike)
        free -= size
    return parts
