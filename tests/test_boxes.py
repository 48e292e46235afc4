"""Mean average precision and recall of boxes, beside a plain rewrite of COCO's evaluation; areas over positions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hasten.metrics.boxes import BOX_RECALL, MAP, OVERLAPS, BoxPrecision, fitted_boxes, overlap
from hasten.metrics.curves import AP_POOLED, AP_SAMPLE, AUC_POOLED, AUC_SAMPLE
from hasten.metrics.fit import fitted
from hasten.registry import find

Array = NDArray[Any]
CLASSES = 3


def scene(samples: int, seed: int) -> tuple[list[Array], Array]:
    """Detections [n, 6] of each sample (corners, score, class), and labels padded with -1."""
    rng = np.random.default_rng(seed)
    found, labels = [], np.full((samples, 6, 5), -1.0)
    for i in range(samples):
        count = rng.integers(0, 6)
        low = rng.uniform(0, 80, (count, 2))
        truth = np.concatenate([rng.integers(0, CLASSES, (count, 1)), low, low + rng.uniform(5, 20, (count, 2))], 1)
        labels[i, :count] = truth
        near = truth[rng.random(count) < 0.8]
        boxes = near[:, 1:] + rng.normal(0, 1.5, (len(near), 4))
        noise = rng.uniform(0, 80, (3, 2))
        every = np.concatenate([boxes, np.concatenate([noise, noise + 10], 1)])
        kinds = np.concatenate([near[:, 0], rng.integers(0, CLASSES, 3)])
        scores = rng.uniform(0.05, 0.99, len(every))
        found.append(np.concatenate([every, scores[:, None], kinds[:, None]], 1))
    longest = 12
    return [np.pad(f, ((0, longest - len(f)), (0, 0))) for f in found], labels


def naive(found: list[Array], labels: Array) -> tuple[float, float]:
    """COCO's evaluation as its paper describes it, one detection after another."""
    precisions, recalls = [], []
    for kind in range(CLASSES):
        known = int((labels[..., 0] == kind).sum())
        if not known:
            continue
        for least in OVERLAPS:
            marks = []
            for rows, label in zip(found, labels, strict=True):
                truth = label[label[:, 0] == kind][:, 1:]
                used: set[int] = set()
                mine = rows[(rows[:, 5] == kind) & (rows[:, 4] > 0)]
                for row in sorted(mine.tolist(), key=lambda r: -r[4]):
                    shared = overlap(np.array([row[:4]]), truth)[0]
                    able = [(s, -k) for k, s in enumerate(shared) if k not in used and s >= least]
                    marks.append((row[4], bool(able)))
                    used |= {-max(able)[1]} if able else set()
            marks.sort(key=lambda m: -m[0])
            right = np.cumsum([m[1] for m in marks]) if marks else np.zeros(0)
            recall, precision = right / known, right / (np.arange(len(right)) + 1)
            points = [max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)]
            precisions.append(np.mean(points))
            recalls.append(recall[-1] if len(recall) else 0.0)
    return float(np.mean(precisions)), float(np.mean(recalls))


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_those_of_coco(seed: int) -> None:
    found, labels = scene(40, seed)
    outputs = {"boxes": np.stack(found)}
    for metric, wanted in zip((MAP, BOX_RECALL), naive(found, labels), strict=True):
        fit, how = fitted(metric, outputs, labels)
        assert "corners" in how
        assert fit.value(fit.rows(outputs, labels)) == pytest.approx(wanted, abs=1e-9)


def test_boxes_come_in_one_output_or_several_before_or_after_suppression() -> None:
    found, labels = scene(20, 7)
    table = np.stack(found)
    box, score, kind = table[..., :4], table[..., 4], table[..., 5].astype(int)
    spread = np.eye(CLASSES)[kind] * score[..., None]
    middle = np.concatenate([(box[..., :2] + box[..., 2:]) / 2, box[..., 2:] - box[..., :2]], -1)
    forms: list[dict[str, Array]] = [
        {"out": np.concatenate([box, spread], -1)},
        {"out": np.concatenate([box, spread], -1).transpose(0, 2, 1)},
        {"out": np.concatenate([middle, spread], -1)},
        {"boxes": box, "scores": score, "labels": kind},
        {"boxes": box, "scores": spread},
        {"out": np.concatenate([box, spread], -1).repeat(2, axis=1)},  # each twice: one of them goes
    ]
    plain = BoxPrecision(classes=CLASSES)
    wanted = plain.value(plain.rows({"out": table}, labels))
    for outputs in forms:
        fit, _ = fitted_boxes(MAP, outputs, labels)
        assert fit.value(fit.rows(outputs, labels)) == pytest.approx(wanted, abs=1e-9)


def test_a_resample_counts_a_sample_as_often_as_it_occurs() -> None:
    found, labels = scene(12, 3)
    metric = BoxPrecision(classes=CLASSES)
    rows = metric.rows({"out": np.stack(found)}, labels)
    counts = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 5).astype(float)
    again = np.array([metric.value(np.repeat(rows, one.astype(int), axis=0)) for one in counts])
    np.testing.assert_allclose(metric.weighted(rows)(counts), again, atol=1e-9)


def reference(area: str, label: Array, score: Array) -> float:
    sklearn = pytest.importorskip("sklearn.metrics")
    return float(
        sklearn.roc_auc_score(label, score) if area == "roc" else sklearn.average_precision_score(label, score)
    )


@pytest.mark.parametrize(("pooled", "single"), [(AUC_POOLED, AUC_SAMPLE), (AP_POOLED, AP_SAMPLE)])
def test_areas_over_positions(pooled: Any, single: Any) -> None:
    rng = np.random.default_rng(0)
    score = rng.random((6, 1, 9, 9)).round(2).astype(np.float32)
    label = (rng.random(score.shape) < score).astype(np.int64)
    label[:, :, 0] = -100
    counted = label != -100
    rows = pooled.rows({"y": score}, label[:, 0])
    assert pooled.value(rows) == pytest.approx(reference(pooled.area, label[counted], score[counted]), abs=1e-9)
    each = [reference(single.area, t[c], s[c]) for s, t, c in zip(score, label, counted, strict=True)]
    np.testing.assert_allclose(single.rows({"y": score}, label), each, atol=1e-9)
    counts = rng.multinomial(6, np.full(6, 1 / 6), 4)
    again = [pooled.value(np.repeat(rows, one, axis=0)) for one in counts]
    np.testing.assert_allclose(pooled.weighted(rows)(counts), again, atol=1e-9)


def test_auc_of_a_mask_is_taken_over_positions() -> None:
    rng = np.random.default_rng(0)
    score, label = rng.random((4, 1, 8, 8)), rng.integers(0, 2, (4, 8, 8))
    assert fitted(find("metrics", "auc"), {"y": score}, label)[0].name == "auc_pooled"


def test_a_million_positions_take_little_time() -> None:
    score, label = np.random.default_rng(0).random((16, 1, 256, 256)), np.zeros((16, 256, 256), np.int64)
    label[:, :9] = 1
    begin = time.process_time()
    AUC_SAMPLE.rows({"y": score}, label)
    assert time.process_time() - begin < 1.0  # a tenth of that on an idle machine
