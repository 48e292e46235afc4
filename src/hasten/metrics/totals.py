"""Corpus values that are a formula of sums: a row holds a sample's sums, and a resample adds rows up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hasten.metrics.pick import Rows

Formula = Callable[[Rows], Rows]  # sums [resamples, k] to values [resamples]


def of_all(rows: Rows, formula: Formula) -> float:
    """The value of all rows [n, k]."""
    return float(formula(rows.sum(axis=0, keepdims=True))[0])


def of_resamples(rows: Rows, formula: Formula) -> Callable[[Rows], Rows]:
    """Counts [resamples, n] of each row to values [resamples]."""
    return lambda counts: formula(np.asarray(counts @ rows, dtype=np.float64))


def ratio(above: Rows, below: Rows, empty: float = np.nan) -> Rows:
    """``above / below``, and ``empty`` where ``below`` is 0."""
    return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1), empty), dtype=np.float64)


def mean_of_defined(values: Rows) -> Rows:
    """The mean over the last axis of the values that are not NaN; NaN where none is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
