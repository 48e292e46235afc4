"""Answers of a network as decisions: from a threshold on for one number, the highest of several scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.metrics.classes import IGNORED, ROUNDING, check_labels, is_binary_head
from hasten.metrics.pick import Array, Rows, chosen, one_a_sample

VOID = 255  # the label of positions without a class in 8-bit masks
Flags = NDArray[np.bool_]


def check_probabilities(name: str, scores: Array, threshold: float, metric: str) -> None:
    """Refuse logits where a decision falls at a probability of one half.

    Raises:
        InputError: a score is outside [0, 1].
    """
    if threshold != 0.5 or not scores.size or scores.dtype.kind in "iub":
        return
    low, high = float(scores.min()), float(scores.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise InputError(
            f"output {name!r} gives {low if low < 0 else high:.3g}: not a probability",
            cause=f"{metric} decides from 0.5 on",
            help="use the metric with threshold=0.0 when these are logits",
        )


def two_classes(outputs: Mapping[str, Array], output: str | None, labels: Array, metric: str) -> tuple[Rows, Rows, str]:
    """(score, label) of each sample [b], and the output's name, for two classes.

    Scores are [b], [b, 1], or [b, 2], where the second minus the first is used.

    Raises:
        InputError: the output has another shape, or a label is not 0 or 1.
    """
    name, scores = chosen(outputs, output)
    if not (is_binary_head(scores) or (scores.ndim == 2 and scores.shape[1] == 2)):
        several = scores.ndim == 2
        raise InputError(
            f"{metric} needs a score for two classes; output {name!r} is {list(scores.shape)}",
            help="use balanced_accuracy, f1, auc_macro or ap_macro" if several else "use dice, miou or pixel_f1",
        )
    wide = scores.astype(np.float64)
    flat = wide.reshape(-1) if is_binary_head(scores) else wide[:, 1] - wide[:, 0]
    whole = check_labels(one_a_sample(labels, len(flat), metric), 2, None)
    return flat, whole.astype(np.float64), name


def flags(outputs: Mapping[str, Array], output: str | None, labels: Array, metric: str) -> tuple[Array, Array, str]:
    """Scores and labels [b, L] of several yes-or-no answers a sample; a label of -100 does not count.

    Labels [b] of class numbers become one column a class.

    Raises:
        InputError: the shapes do not fit, or a label is not 0 or 1.
    """
    name, scores = chosen(outputs, output)
    labels = np.asarray(labels)
    if scores.ndim == 2 and scores.shape[1] > 1 and labels.ndim in (1, 2) and labels[0:1].size == 1:
        whole = check_labels(labels.reshape(-1), scores.shape[1])
        table = (whole[:, None] == np.arange(scores.shape[1])).astype(np.int64)
        labels = np.where(whole[:, None] == IGNORED, IGNORED, table)
    elif scores.ndim == 1:
        scores = scores[:, None]
    if labels.ndim == 1:
        labels = labels[:, None]
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise InputError(
            f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {metric}",
            help="give a 0 or 1 for each of the output's columns: labels [b, L]",
        )
    return scores, check_labels(labels, 2), name
