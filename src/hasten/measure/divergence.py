"""How far the answers of a changed network lie from those of the float one: smooth, so that few samples rank well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hasten.protocols import Array

F64 = NDArray[np.float64]
DECIDES = frozenset({"top1", "top5", "agreement", "f1", "ctc_exact", "ctc_cer"})  # metrics that pick a class
_LEAST = 1e-9  # a probability below this counts as this


def divergence(wanted: Array, got: Array, *, classes: bool = False) -> float:
    """Kullback-Leibler divergence in nats of class outputs, else squared error over variance.

    Class outputs are those whose last axis holds probabilities, or, with ``classes``, scores that a softmax turns
    into them. Infinite when shapes differ or an answer is not finite.
    """
    if np.asarray(got).dtype.kind not in "biuf":  # text, where the network answers numbers
        return float("inf")
    a, b = np.asarray(wanted, np.float64), np.asarray(got, np.float64)
    if a.shape != b.shape or not np.isfinite(b[np.isfinite(a)]).all():
        return float("inf")
    several = a.ndim > 1 and a.shape[-1] > 1
    if several and a.min() >= 0 and np.allclose(a.sum(-1), 1, atol=1e-3):
        return _kl(a, b)
    if several and classes:
        return _kl(_softmax(a), _softmax(b))
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    return float(np.mean(np.square(b - a)) / (np.var(a) or 1.0))


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
    logs = np.log(np.maximum(p, _LEAST)) - np.log(np.maximum(q, _LEAST))
    return max(0.0, float(np.mean(np.sum(p * logs, axis=-1))))


def _softmax(scores: F64) -> F64:
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
