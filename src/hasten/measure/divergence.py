"""How far the answers of a changed network lie from those of the float one: smooth, so that few samples rank well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hasten.compare import compare
from hasten.protocols import Array

F64 = NDArray[np.float64]
DECIDES = frozenset({"top1", "top5", "agreement", "f1", "ctc_exact", "ctc_cer"})  # metrics that pick a class
_LEAST = 1e-9  # a probability below this counts as this


def divergence(wanted: Array, got: Array, *, classes: bool = False) -> float:
    """Kullback-Leibler divergence in nats of class outputs, else squared error over variance.

    Class outputs are those whose last axis holds probabilities, or, with ``classes``, scores that a softmax turns
    into them. Infinite when shapes differ, or a NaN or an infinity is on one side only; where both have the same, that
    number (and of classes all scores beside it) is left out.
    """
    if np.asarray(got).dtype.kind not in "biuf":  # text, where the network answers numbers
        return float("inf")
    a, b = np.asarray(wanted, np.float64), np.asarray(got, np.float64)
    if a.shape != b.shape or compare(a, b).broken:
        return float("inf")
    finite = np.isfinite(a)
    several = a.ndim > 1 and a.shape[-1] > 1
    if several:
        given = a.max(-1) < np.inf  # not where a score is NaN; a class that is ruled out scores minus infinity
        p, q = a[given], b[given]
        if len(p) and p.min() >= 0 and np.allclose(p.sum(-1), 1, atol=1e-3):
            return _kl(p, q)
        if classes:
            return _kl(_softmax(p), _softmax(q))
    a, b = a[finite], b[finite]
    return float(np.mean(np.square(b - a)) / (np.var(a) or 1.0)) if a.size else 0.0


def mean_divergence(
    wanted: Sequence[Sequence[Array]], got: Sequence[Sequence[Array]], *, classes: bool = False
) -> float:
    """The mean over samples and outputs; each output counts the same, whatever its scale."""
    found = [
        divergence(a, b, classes=classes)
        for one, other in zip(wanted, got, strict=True)
        for a, b in zip(one, other, strict=True)
        if a.dtype.kind == "f"
    ]
    return float(np.mean(found)) if found else 0.0


def _kl(p: F64, q: F64) -> float:
    """Of measures that need not sum to 1: p log(p/q) - p + q, which is 0 or more in every class; the mean over rows."""
    if not len(p):
        return 0.0
    p, size = np.maximum(p, _LEAST), np.maximum(np.abs(q), _LEAST)  # one below 0 is as wrong as it is large
    return float(np.mean(np.sum(p * np.log(p / np.maximum(q, _LEAST)) - p + size, axis=-1)))


def _softmax(scores: F64) -> F64:
    top = scores.max(axis=-1, keepdims=True)
    shifted = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    return np.asarray(shifted / np.maximum(shifted.sum(axis=-1, keepdims=True), _LEAST))
