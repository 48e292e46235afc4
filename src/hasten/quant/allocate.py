"""How much to take from which layer: the same price everywhere.

Each layer offers options, each with a loss and a measured time. To lose as little as possible in a given time, every
layer must lose the same for the next millisecond; otherwise one could give where it is dear and take where it is
cheap. Along each layer's lower convex hull that is a walk: always the move that loses least per millisecond saved
(Everett, Operations Research 1963: exact on the hulls; in between it is never more than one move away).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf


@dataclass(frozen=True)
class Option:
    """One way to run a layer: ``size`` (channels or rank that are left), its loss and its time."""

    size: int
    loss: float
    ms: float


@dataclass(frozen=True)
class Allocation:
    """What each layer gets, with the sums."""

    chosen: Mapping[str, Option]
    loss: float
    ms: float


def hull(options: Sequence[Option]) -> list[Option]:
    """Options worth having, slowest first: none is beaten by another or by a mix of two others.

    It begins with the option that loses least (the fastest of those).
    """
    ranked = sorted(options, key=lambda o: (o.loss, o.ms))
    path: list[Option] = []
    for option in ranked:
        if path and option.ms >= path[-1].ms:
            continue
        while len(path) > 1 and _price(path[-2], path[-1]) >= _price(path[-1], option):
            path.pop()
        path.append(option)
    return path


def _price(a: Option, b: Option) -> float:
    """Loss for each millisecond saved by going from ``a`` to ``b``."""
    return (b.loss - a.loss) / (a.ms - b.ms) if a.ms > b.ms else inf


def walk(layers: Mapping[str, Sequence[Option]]) -> Iterator[Allocation]:
    """Every stop on the way from the least loss to the least time, cheapest milliseconds first."""
    hulls = {name: hull(options) for name, options in layers.items()}
    at = dict.fromkeys(hulls, 0)
    queue = [(_price(path[0], path[1]), name) for name, path in hulls.items() if len(path) > 1]
    heapify(queue)
    while True:
        chosen = {name: hulls[name][i] for name, i in at.items()}
        yield Allocation(chosen, sum(o.loss for o in chosen.values()), sum(o.ms for o in chosen.values()))
        if not queue:
            return
        _, name = heappop(queue)
        at[name] += 1
        path, i = hulls[name], at[name]
        if i + 1 < len(path):
            heappush(queue, (_price(path[i], path[i + 1]), name))


def allocate(layers: Mapping[str, Sequence[Option]], ms: float) -> Allocation:
    """The least loss whose time is within ``ms``; the fastest of all where nothing is."""
    for found in walk(layers):
        if found.ms <= ms:
            break
    return found
