"""What every source of data turns into: one pass of items, checked later."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.model import TensorSpec

Array = NDArray[Any]
ONLY = ""  # stands for the name of the only input, where the data names none


@dataclass(frozen=True)
class Item:
    """One sample as it came: arrays by input name, its label and group, and a name for messages."""

    inputs: Mapping[str, Array]
    id: str
    label: Any = None
    group: Any = None


@dataclass
class Stream:
    """Samples on their way in; ``once`` holds arrays that serve every sample. Warnings may grow while it runs."""

    items: Iterator[Item]
    once: dict[str, Array] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    named: bool = False  # the items' ids say more than their position
    warnings: list[str] = field(default_factory=list)


Opener = Callable[[tuple[TensorSpec, ...]], Stream]


@dataclass(frozen=True)
class Wanted:
    """Which parts of the data are not inputs, and how much of it to take."""

    labels: str = "labels"
    groups: str | None = None
    limit: int | None = None
    columns: Mapping[str, Sequence[str]] | None = None  # of a table: which make which input

    def rows(self, n: int) -> NDArray[np.int64]:
        """The rows to take of ``n``: all, or ``limit`` spread evenly (data is often sorted by class)."""
        if self.limit is None or self.limit >= n:
            return np.arange(n)
        return np.linspace(0, n - 1, self.limit).round().astype(np.int64)

    def chosen(self, n: int) -> Container[int]:
        """``rows``, to test membership; takes no memory where all are taken."""
        return range(n) if self.limit is None or self.limit >= n else frozenset(self.rows(n).tolist())
