"""Gram matrices of the inputs of linear layers over the calibrate split, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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
        readers: dict[str, list[tuple[list[Linear], Gram]]] = {}
        for alike, total in found:
            readers.setdefault(alike[0].input.name or "", []).append((alike, total))
        taps.stream(model, list(readers), feeds, _taker(readers, columns))
        yield from (pair for pair in found if pair[1].count)


def _taker(readers: Mapping[str, list[tuple[list[Linear], Gram]]], columns: int) -> Callable[[str, Any], None]:
    """What adds an array of a tensor to the matrices of its readers."""
    seen = dict.fromkeys(readers, 0)

    def take(name: str, x: Any) -> None:
        seen[name] += 1
        for alike, total in readers[name]:
            total.update(alike[0].columns(x, seen[name], columns))

    return take


def _parts(layers: Sequence[Linear], memory_bytes: int) -> list[list[list[Linear]]]:
    """Layers that share a matrix together, and those that fit the memory together, in order."""
    shared: dict[Any, list[Linear]] = {}
    for layer in layers:
        way = [str(a) for n, a in sorted(layer.node.attributes.items()) if layer.kernel]
        shared.setdefault((layer.input, layer.groups, layer.k, layer.kernel, *way), []).append(layer)
    parts: list[list[list[Linear]]] = []
    free = 0
    for alike in shared.values():
        size = 8 * alike[0].groups * alike[0].k ** 2
        if not parts or size > free:
            parts.append([])
            free = memory_bytes
        parts[-1].append(alike)
        free -= size
    return parts
