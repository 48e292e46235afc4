"""Detections against labelled boxes: mean average precision over overlaps from 0.5 to 0.95, and recall.

A label is [boxes, 5]: the class and the corners x1, y1, x2, y2, in the unit of the network's boxes; a class of -1 is
padding. Answers are boxes, scores and classes, in one output or in several, before or after non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.metrics import totals
from hasten.metrics.pick import Array, Rows

OVERLAPS = np.arange(0.5, 1.0, 0.05).round(2)
KEPT = 100  # detections of a sample that count, the highest scores first, as for COCO
RECALLS = np.linspace(0, 1, 101)
SUPPRESSED = 0.6  # the overlap from which the lower of two boxes of a class goes, where the network does not decide it
LIKELY = 0.001  # the least score of a detection before suppression
HELP = "outputs: boxes [n, 4] with scores and classes [n], or one [n, 4 + classes], [n, 5 + classes] or [n, 6]"
F64 = NDArray[np.float64]


def overlap(a: F64, b: F64) -> F64:
    """Intersection over union of each box [n, 4] with each other [m, 4], as corners."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(one[:, 2:] - one[:, :2], 0, None).prod(axis=1) for one in (a, b)]
    union = areas[0][:, None] + areas[1][None] - inside
    return np.asarray(np.where(union > 0, inside / np.where(union > 0, union, 1), 0.0))


def suppress(boxes: F64, scores: F64, classes: F64, most: float = SUPPRESSED) -> NDArray[np.int64]:
    """The places of the boxes that stay, the highest score first: none overlaps a higher one of its class by more."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    for place in order.tolist():
        same = [k for k in kept if classes[k] == classes[place]]
        if not same or float(overlap(boxes[place : place + 1], boxes[same]).max()) <= most:
            kept.append(place)
        if len(kept) == KEPT:
            break
    return np.asarray(kept, np.int64)


def corners(boxes: F64, form: str) -> F64:
    """Boxes as corners: from ``xyxy``, or from ``cxcywh``, the middle with width and height."""
    if form == "xyxy":
        return boxes
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def detections(outputs: Mapping[str, Array], sample: int, form: str, classes: int) -> tuple[F64, F64, F64]:
    """Boxes [n, 4], scores and classes [n] of one sample, after suppression.

    Raises:
        InputError: the outputs hold none in a known form.
    """
    arrays = {n: np.asarray(a[sample], np.float64).squeeze() for n, a in outputs.items() if np.ndim(a) > 1}
    tables = [a for a in arrays.values() if a.ndim == 2]
    alone = [a for a in tables if 4 not in a.shape]
    boxed = [a for a in tables if 4 in a.shape]
    if boxed:
        box = boxed[0] if boxed[0].shape[1] == 4 else boxed[0].T
        scored = [a if len(a) == len(box) else a.T for a in alone if len(box) in a.shape]
        flat = [a for a in arrays.values() if a.shape == (len(box),)]
        if scored:
            score, kind = scored[0].max(axis=1), scored[0].argmax(axis=1).astype(np.float64)
        elif flat:
            whole = [a for a in flat if (a == np.round(a)).all() and a.max(initial=0) >= 1]
            rest = [a for a in flat if not any(a is b for b in whole[:1])]
            score, kind = (rest or flat)[0], whole[0] if whole and rest else np.zeros(len(box))
        else:
            raise InputError("no output holds a score for each box", help=HELP)
    elif alone:
        box, score, kind = _of_one(alone[0], classes)
    else:
        raise InputError("no output holds boxes", help=HELP)
    likely = np.flatnonzero(score >= LIKELY)
    likely = likely[np.argsort(-score[likely], kind="stable")][: 10 * KEPT]
    box, score, kind = corners(box[likely], form), score[likely], kind[likely]
    kept = suppress(box, score, kind)
    return box[kept], score[kept], kind[kept]


def _of_one(table: F64, classes: int) -> tuple[F64, F64, F64]:
    """Boxes, scores and classes that lie in one table [n, columns] or [columns, n]."""
    widths = {4 + classes: 4, 5 + classes: 5}
    able = [axis for axis in (1, 0) if table.shape[axis] in (*widths, 6)]
    turned = bool(able) and min(able, key=lambda axis: table.shape[axis]) == 0
    rows = table.T if turned else table
    width = rows.shape[1]
    ends = rows[:, 5] if width == 6 else np.zeros(1)
    if width == 6 and (width not in widths or (bool((ends == np.round(ends)).all()) and classes != 2)):
        return rows[:, :4], rows[:, 4], rows[:, 5]
    if width not in widths:
        what = f"an output of {width} columns is no detection of {classes} classes"
        raise InputError(what, cause="4 for the box, perhaps 1 for an object, 1 a class", help=HELP)
    scores = rows[:, widths[width] :]
    sure = rows[:, 4] if widths[width] == 5 else np.ones(len(rows))
    return rows[:, :4], sure * scores.max(axis=1), scores.argmax(axis=1).astype(np.float64)


def matched(box: F64, kind: F64, truth: F64) -> NDArray[np.bool_]:
    """[detections, overlaps]: is each detection, the highest score first, the first to hit a box of its class?"""
    hit = np.zeros((len(box), len(OVERLAPS)), bool)
    shared = overlap(box, truth[:, 1:]) * (kind[:, None] == truth[None, :, 0])
    for t, least in enumerate(OVERLAPS):
        free = np.ones(len(truth), bool)
        for d in range(len(box)):
            able = np.where(free, shared[d], -1.0)
            best = int(able.argmax()) if len(able) else -1
            if best >= 0 and able[best] >= least:
                hit[d, t], free[best] = True, False
    return hit


@dataclass(frozen=True, kw_only=True)
class BoxPrecision:
    """Mean average precision over classes and overlaps (``recall`` false), or the mean share of labelled boxes found.

    A row holds, for each of at most 100 detections, its score, class and hits at ten overlaps; then the number of
    labelled boxes of each class.
    """

    name: str = "map"
    recall: bool = False
    classes: int = 1
    form: str = "xyxy"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 100 (2 + overlaps) + classes]."""
        labels = np.asarray(labels, np.float64)
        if labels.ndim != 3 or labels.shape[2] != 5:
            raise InputError(f"labels {list(labels.shape)} are no boxes", help="give [boxes, 5]: class, x1, y1, x2, y2")
        used = outputs if self.output is None else {self.output: outputs[self.output]}
        found = []
        for i, label in enumerate(labels):
            truth = label[label[:, 0] >= 0]
            if truth[:, 0].max(initial=0) >= self.classes:
                what = f"class {int(truth[:, 0].max())} of a box is outside the {self.classes} classes"
                raise InputError(what, help="count classes from 0")
            box, score, kind = detections(used, i, self.form, self.classes)
            table = np.zeros((KEPT, 2 + len(OVERLAPS)))
            table[:, 0], table[: len(box), 0], table[: len(box), 1] = -1, score, kind
            table[: len(box), 2:] = matched(box, kind, truth)
            counts = np.bincount(truth[:, 0].astype(int), minlength=self.classes)
            found.append(np.concatenate([table.reshape(-1), counts]))
        return np.asarray(found)

    def value(self, rows: Rows) -> float:
        """The mean over the classes that occur; NaN without a labelled box."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the score [resamples]."""
        size = KEPT * (2 + len(OVERLAPS))
        table = rows[:, :size].reshape(-1, 2 + len(OVERLAPS))
        sample = np.repeat(np.arange(len(rows)), KEPT)
        real = table[:, 0] >= 0
        table, sample = table[real], sample[real]
        order = np.argsort(-table[:, 0], kind="stable")
        table, sample = table[order], sample[order]
        boxes = rows[:, size:]

        def counted(counts: Rows) -> Rows:
            known = counts @ boxes  # [resamples, classes]
            parts = np.full((len(counts), boxes.shape[1]), np.nan)
            for k in np.flatnonzero(boxes.sum(axis=0) > 0).tolist():
                mine = table[:, 1] == k
                weight, hits = counts[:, sample[mine]], table[mine, 2:]
                for r in range(len(counts)):
                    if known[r, k] > 0:
                        parts[r, k] = self._class(weight[r], hits, known[r, k])
            return totals.mean_of_defined(parts)

        return counted

    def _class(self, weight: F64, hits: F64, known: float) -> float:
        """One class of one resample, the mean over overlaps."""
        right = np.cumsum(weight[:, None] * hits, axis=0)
        if self.recall:
            return float((right[-1] / known).mean()) if len(right) else 0.0
        if not len(right):
            return 0.0
        seen = np.cumsum(weight)[:, None]
        precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        at = [np.searchsorted(right[:, t] / known, RECALLS, side="left") for t in range(hits.shape[1])]
        padded = np.concatenate([precision, np.zeros((1, hits.shape[1]))])
        return float(np.mean([padded[places, t] for t, places in enumerate(at)]))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own detections as labels."""
        used = outputs if self.output is None else {self.output: outputs[self.output]}
        found = np.full((len(next(iter(used.values()))), KEPT, 5), -1.0)
        for i in range(len(found)):
            box, score, kind = detections(used, i, self.form, self.classes)
            sure = score >= 0.5
            found[i, : sure.sum()] = np.concatenate([kind[sure, None], box[sure]], axis=1)
        return found


def fitted_boxes(metric: BoxPrecision, outputs: Mapping[str, Array], labels: Array) -> tuple[BoxPrecision, str]:
    """The metric for as many classes as the labels have, and the form of boxes that finds more of them."""
    classes = max(metric.classes, int(np.max(labels[..., 0], initial=0)) + 1)
    forms = [replace(metric, classes=classes, form=form) for form in ("xyxy", "cxcywh")]
    found = [one.value(one.rows(outputs, labels)) for one in forms]
    best = forms[int(np.nan_to_num(found[1]) > np.nan_to_num(found[0]))]
    how = "corners x1, y1, x2, y2" if best.form == "xyxy" else "middle, width and height"
    return best, f"boxes are read as {how}, of {classes} classes"


MAP = BoxPrecision()
BOX_RECALL = BoxPrecision(name="box_recall", recall=True)
