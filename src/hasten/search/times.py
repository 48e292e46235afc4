"""Where the time goes: kernels that an engine reports, added up by region of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from hasten.graph.regions import OUTSIDE, located
from hasten.protocols import Layer


@dataclass(frozen=True)
class Spent:
    """Milliseconds by region, outside of all, and for converting between formats or layouts."""

    regions: tuple[float, ...]
    outside: float
    converting: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.regions) + self.outside + self.converting

    def scaled(self, share: float) -> Spent:
        """The same shares of another total."""
        return Spent(tuple(share * r for r in self.regions), share * self.outside, share * self.converting)

    def at_most(self, wide: Spent) -> Spent:
        """No region slower than in ``wide``: which kernels are slower in int8 differs from engine to engine."""
        return replace(self, regions=tuple(min(pair) for pair in zip(self.regions, wide.regions, strict=True)))


def by_region(layers: Sequence[Layer], known: Mapping[str, int], count: int) -> Spent:
    """Each kernel's time to the region of what it computes, or, when it has no name of the network, of what it reads.

    ``known`` maps names of operators and tensors to regions (``graph.regions.places``).
    """
    regions, outside, converting = np.zeros(count), 0.0, 0.0
    carried: dict[str, int] = {}
    for layer in layers:
        place = located(layer.names, known)
        if place is None:
            own = [r for n in layer.reads if (r := known.get(n, carried.get(n, OUTSIDE))) != OUTSIDE]
            place = max(own, default=OUTSIDE)
            carried.update(dict.fromkeys(layer.names, place))
        if layer.boundary:
            converting += layer.ms
        elif place == OUTSIDE:
            outside += layer.ms
        else:
            regions[place] += layer.ms
    return Spent(tuple(regions.tolist()), outside, converting)


def typical(several: Sequence[Spent]) -> Spent:
    """The median of repeated profiles, region by region: one disturbed round changes nothing."""
    return Spent(
        tuple(np.median([s.regions for s in several], axis=0).tolist()),
        median(s.outside for s in several),
        median(s.converting for s in several),
    )
