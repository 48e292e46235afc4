"""A metric for a user who names none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hasten.errors import InputError
from hasten.metrics.classes import IGNORED, Agreement, TopK, is_binary_head
from hasten.metrics.multilabel import F1_MULTILABEL
from hasten.metrics.pick import Array, chosen
from hasten.metrics.values import Cosine, ErrorMean, Iou
from hasten.protocols import Metric

Outputs = Mapping[str, Array]  # of the float network, on a few samples


def auto_metric(outputs: Outputs, labels: Array | None) -> tuple[Metric, str]:
    """A metric for these outputs [b, ...] and labels [b, ...] (or none), and a sentence that says why."""
    name, scores = chosen(outputs, None)
    if labels is None:
        return _without_labels(name, scores)
    labels = np.asarray(labels)
    per_class = scores.ndim > 1 and any(
        scores.shape[:a] + scores.shape[a + 1 :] == labels.shape and scores.shape[a] > 1 for a in range(1, scores.ndim)
    )
    whole = labels.dtype.kind in "iub"
    if whole and scores.dtype.kind in "iu" and scores.squeeze().shape == labels.squeeze().shape:
        return TopK(), f"labels and output {name!r} are class numbers"
    squeezed = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if whole and (per_class or (scores.ndim == 2 and scores.shape[1] > 1 and squeezed.ndim == 1)):
        return TopK(), f"labels are class numbers, and output {name!r} has one score a class"
    if whole and is_binary_head(scores) and squeezed.ndim == 1 and set(np.unique(squeezed)) <= {0, 1}:
        threshold = _threshold(scores)
        return TopK(threshold=threshold), f"labels are 0 or 1, and output {name!r} decides from {threshold} on"
    same = [d for d in scores.shape if d != 1] == [d for d in labels.shape if d != 1]
    flags = bool(np.isin(labels, (0, 1, IGNORED)).all())
    if whole and same and scores.ndim == 2 and flags and (labels.sum(axis=1) != 1).any():
        threshold = _threshold(scores, several=True)
        why = f"labels are 0 or 1 for each column of output {name!r}, which decides from {threshold} on"
        return replace(F1_MULTILABEL, threshold=threshold), why
    if same and scores.ndim > 2 and flags:
        threshold = _threshold(scores, several=True)
        return Iou(threshold=threshold), f"labels are masks of output {name!r}'s shape, a mask from {threshold} on"
    if same:
        return ErrorMean(), f"labels are numbers of output {name!r}'s shape"
    raise InputError(
        f"no metric fits output {name!r} {list(scores.shape)} and labels {list(labels.shape)} {labels.dtype}",
        help="choose one: --metric NAME, or name the output to score: --output NAME",
    )


def _without_labels(name: str, scores: Array) -> tuple[Metric, str]:
    if scores.dtype.kind in "iub":
        return Agreement(), f"no labels, and output {name!r} holds whole numbers"
    if _looks_like_classes(scores):
        return Agreement(threshold=_threshold(scores)), f"no labels, and output {name!r} looks like class scores"
    return Cosine(), f"no labels, and output {name!r} does not look like class scores"


def _threshold(scores: Array, several: bool = False) -> float:
    """0.5 for probabilities, 0.0 when a binary head (or ``several``) leaves [0, 1] and so gives logits."""
    return 0.0 if (several or is_binary_head(scores)) and bool((scores < 0).any() or (scores > 1).any()) else 0.5


def _looks_like_classes(scores: Array) -> bool:
    """Two to 100,000 scores a sample, as probabilities (sum 1) or as logits with both signs; not images or vectors
    of length 1, whose direction says more than their largest entry."""
    if scores.ndim != 2 or not 2 <= scores.shape[1] <= 100_000:
        return False
    sums, lengths = scores.sum(axis=1), np.linalg.norm(scores, axis=1)
    if (scores >= 0).all():
        return bool(np.allclose(sums, 1, atol=1e-2))
    return not np.allclose(lengths, 1, atol=1e-3)
