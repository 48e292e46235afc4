"""A named metric fitted to the answers at hand: its threshold, and its form for several labels or positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from hasten.metrics.boxes import BoxPrecision, fitted_boxes
from hasten.metrics.classes import ROUNDING, TopK, is_binary_head, squeezed
from hasten.metrics.corpus import Auc, MacroF1
from hasten.metrics.ctc import CtcCer
from hasten.metrics.curves import AP_MACRO, AP_POOLED, AUC_MACRO, AUC_POOLED, AveragePrecision
from hasten.metrics.dense import PIXEL_F1, Regions, RegionsPerSample
from hasten.metrics.multilabel import ACCURACY_MULTILABEL, F1_MULTILABEL
from hasten.metrics.pick import Array, chosen
from hasten.metrics.retrieval import Ranked, RankedByQuery
from hasten.metrics.sequences import ErrorRate
from hasten.protocols import Metric


def fitted(metric: Metric, outputs: Mapping[str, Array], labels: Array | None) -> tuple[Metric, str]:
    """``metric`` in the form that answers and labels of a few samples need, and a sentence where that changes it."""
    if isinstance(metric, BoxPrecision) and labels is not None and np.ndim(labels) == 3:
        box, how = fitted_boxes(
            metric, outputs if metric.output is None else {metric.output: outputs[metric.output]}, labels
        )
        return cast(Metric, box), how
    output = getattr(metric, "output", None)
    if not type(metric).__module__.startswith("hasten.metrics.") or not hasattr(metric, "output"):
        return metric, ""
    if output is None and not any(np.asarray(a).dtype.kind == "f" for a in outputs.values()):
        return metric, ""
    name, scores = chosen(outputs, output)
    truth = None if labels is None else np.asarray(labels)
    said: list[str] = []
    if truth is not None:
        form = _form(metric, scores, truth)
        if form is not metric:
            how = " by query" if isinstance(form, RankedByQuery) else ""
            said.append(
                f"metric: {form.name}{how}, since labels are {list(truth.shape)} for output {list(scores.shape)}"
            )
            metric = cast(Metric, replace(cast(Any, form), output=output))
        if _is_mask_of_255(metric, scores, truth):
            said.append("labels are 0 and 255: 255 is the mask")
            metric = cast(Metric, replace(cast(Any, metric), void=None))
    if _decides(metric, scores, truth) and bool((scores < -ROUNDING).any() or (scores > 1 + ROUNDING).any()):
        said.append(f"output {name!r} leaves [0, 1] and so holds logits: {metric.name} decides from 0 on")
        metric = cast(Metric, replace(cast(Any, metric), threshold=0.0))
    return metric, "; ".join(said)


def _form(metric: Metric, scores: Array, labels: Array) -> Metric:
    """The metric of the same idea for several labels a sample, for positions, or for (query, relevance)."""
    several = scores.ndim == 2 and scores.shape == labels.shape and scores.shape[1] > 1
    classes = scores.ndim == 2 and scores.shape[1] > 2 and labels[0:1].size == 1
    zero_one = bool(np.isin(labels, (0, 1, -100)).all())
    if isinstance(metric, Auc | AveragePrecision) and scores.ndim > 2 and zero_one:
        return cast(Metric, AUC_POOLED if isinstance(metric, Auc) else AP_POOLED)
    if isinstance(metric, Auc | AveragePrecision) and ((several and zero_one) or classes):
        return cast(Metric, AUC_MACRO if isinstance(metric, Auc) else AP_MACRO)
    if isinstance(metric, MacroF1) and several and zero_one:
        return cast(Metric, F1_MULTILABEL)
    if isinstance(metric, MacroF1) and scores.ndim > 2:
        return cast(Metric, PIXEL_F1)
    if isinstance(metric, TopK) and metric.k == 1 and several and zero_one:
        return cast(Metric, ACCURACY_MULTILABEL)
    if isinstance(metric, ErrorRate) and metric.name == "cer" and _is_ctc(scores, labels):
        return cast(Metric, CtcCer())
    if isinstance(metric, Ranked) and is_binary_head(scores) and labels.shape == (len(scores), 2):
        return cast(Metric, RankedByQuery(name=metric.name, score=metric.score, k=metric.k))
    return metric


def _is_ctc(scores: Array, labels: Array) -> bool:
    """More frames with a score a symbol than the labels have symbols."""
    fits = scores.ndim == 3 and labels.ndim == 2 and len(scores) == len(labels) and labels.dtype.kind in "iu"
    return fits and scores.shape[1] > labels.shape[1]


def _decides(metric: Metric, scores: Array, labels: Array | None) -> bool:
    """Whether the metric's threshold of one half is applied to these scores."""
    if getattr(metric, "threshold", None) != 0.5:
        return False
    same = labels is not None and len(labels) == len(scores) and squeezed(scores.shape) == squeezed(labels.shape)
    return is_binary_head(scores) or same


def _is_mask_of_255(metric: Metric, scores: Array, labels: Array) -> bool:
    if not isinstance(metric, Regions | RegionsPerSample) or squeezed(scores.shape) != squeezed(labels.shape):
        return False
    return set(np.unique(labels).tolist()) in ({0, 255}, {255})
