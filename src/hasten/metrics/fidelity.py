"""How much of what a network answers is kept: one minus the squared error over the variance, without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hasten.errors import InputError
from hasten.metrics.pick import Array, Rows, chosen

COLUMNS = 64  # an output with more columns is one quantity
LEAST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """R2 of the answers against the network's own, the mean over its columns: 1 for the same answers.

    ``spread`` has the variance of each column, from a few samples (``fidelity``). A sample's score is 1 minus the mean
    over the columns of squared error over variance.
    """

    name: str = "fidelity"
    output: str | None = None
    spread: tuple[float, ...] = ()
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = False

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] of 1 or less. ``labels`` come from ``reference``."""
        name, values = chosen(outputs, self.output)
        wanted = np.asarray(labels)
        if values.shape != wanted.shape:
            raise InputError(f"output {name!r} {list(values.shape)} is compared with {list(wanted.shape)}")
        wide, other = (np.asarray(a, np.float64).reshape(len(values), -1) for a in (values, wanted))
        table = np.square(np.where(np.isfinite(other), wide - other, 0.0))
        spread = np.asarray(self.spread or (1.0,))
        each = table.reshape(len(table), -1, len(spread)).mean(1) if table.shape[1] % len(spread) == 0 else table
        return np.asarray(1 - (each / np.maximum(spread, LEAST)).mean(1))

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own answers."""
        return chosen(outputs, self.output)[1]


def fidelity(outputs: Mapping[str, Array], output: str | None = None) -> Fidelity:
    """The metric for these answers of the network as given [b, ...]; a column that is constant counts by its size."""
    name, values = chosen(outputs, output)
    wide = np.asarray(values, np.float64)
    several = wide.ndim in (2, 3) and 1 < wide.shape[-1] <= COLUMNS
    table = wide.reshape(-1, wide.shape[-1]) if several else wide.reshape(-1, 1)
    usable = np.where(np.isfinite(table), table, np.nan)
    with np.errstate(all="ignore"):
        spread, size = np.nanvar(usable, axis=0), np.nanmean(np.square(usable), axis=0)
    still = ~(spread > 1e-6 * size)
    return Fidelity(output=name, spread=tuple(np.where(still, np.maximum(size, LEAST), spread).tolist()))


FIDELITY = Fidelity()
