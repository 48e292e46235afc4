"""Whether samples that are neighbours in the file resemble each other more than chance explains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 200  # permutations, whose mean and standard deviation are compared with
SURE = 4.0  # standard deviations (chosen): a false alarm in some 30,000 files
LEAST = 30  # samples


def alike(scores: NDArray[np.float64], strata: NDArray[Any] | None = None) -> tuple[float, float]:
    """(correlation of neighbours, standard deviations above what a random order has) of scores in file order.

    Scores are compared within ``strata`` (classes) only: a file sorted by class is no sign of dependence.
    """
    kind = np.zeros(len(scores), np.int64) if strata is None else np.unique(strata, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(kind)
    rest = scores - (np.bincount(kind, weights=scores) / sizes)[kind]
    total = float((rest**2).sum())
    if len(scores) < LEAST or total <= 1e-12:
        return 0.0, 0.0
    random, order = np.random.default_rng(0), np.argsort(kind, kind="stable")
    drawn = np.empty(DRAWS)
    for k in range(DRAWS):
        shuffled = np.empty_like(rest)
        shuffled[order] = rest[order[np.lexsort((random.random(len(rest)), kind[order]))]]
        drawn[k] = _products(shuffled)
    seen = _products(rest)
    return seen / total, float((seen - drawn.mean()) / (drawn.std() or 1.0))


def _products(rest: NDArray[np.float64]) -> float:
    return float(rest[:-1] @ rest[1:])


def dependence(scores: NDArray[np.float64], strata: NDArray[Any] | None = None) -> str:
    """A sentence where neighbours in the file are alike; empty where they are not."""
    correlation, far = alike(scores, strata)
    if far < SURE:
        return ""
    return (
        f"neighbours in the file have similar scores (correlation {correlation:.2f}): if they belong together, as "
        "frames of a film do, name the groups with --groups; the test counts them as independent"
    )
