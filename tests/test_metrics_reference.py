"""Each built-in metric against scikit-learn, or against its naive definition, on random and edge data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

import hasten
from hasten.errors import InputError, UsageError
from hasten.metrics import resolve
from hasten.metrics.dense import Regions, RegionsPerSample
from hasten.metrics.fit import fitted
from hasten.metrics.retrieval import RankedByQuery
from hasten.metrics.sequences import ErrorRate
from hasten.protocols import Metric
from hasten.registry import METRICS, SYNONYMS, canonical
from tests import networks

Array = np.ndarray[Any, Any]
CLOSE = 1e-9
RNG = np.random.default_rng(3)


def scored(metric: Any, scores: Any, labels: Any) -> float:
    """The value of a metric by name, from rows of one sample at a time, as a search collects them."""
    metric = resolve(metric) if isinstance(metric, str) else metric
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    rows = np.concatenate([metric.rows({"y": scores[i : i + 1]}, labels[i : i + 1]) for i in range(len(scores))])
    at_once = metric.rows({"y": scores}, labels)
    np.testing.assert_allclose(rows, at_once, atol=1e-12)
    return float(metric.value(rows))


def near(found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=0, abs=CLOSE, nan_ok=True)


def quiet(function: Callable[..., Any], *args: Any, **more: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(*args, **more))


def two_class_data() -> list[tuple[Array, Array]]:
    random = [(RNG.random(60), RNG.integers(0, 2, 60)) for _ in range(3)]
    ties = (np.round(RNG.random(60), 1), RNG.integers(0, 2, 60))
    constant = (np.full(20, 0.5), np.arange(20) % 2)
    rare = (RNG.random(50), (np.arange(50) == 7).astype(int))
    never = (np.full(20, 0.1), np.arange(20) % 2)
    return [*random, ties, constant, rare, never]


@pytest.mark.parametrize("case", range(7))
def test_rates_and_curves_of_two_classes(case: int) -> None:
    score, label = two_class_data()[case]
    said = (score >= 0.5).astype(int)
    near(scored("precision", score, label), sk.precision_score(label, said, zero_division=0))
    near(scored("recall", score, label), sk.recall_score(label, said))
    near(scored("specificity", score, label), sk.recall_score(label, said, pos_label=0))
    near(scored("f1_binary", score, label), sk.f1_score(label, said))
    near(scored("balanced_accuracy", score, label), sk.balanced_accuracy_score(label, said))
    near(scored("ap", score, label), sk.average_precision_score(label, score))
    near(scored("auc", score, label), sk.roc_auc_score(label, score))
    two = np.stack([-score, score], axis=1)
    near(scored("ap", two, label), sk.average_precision_score(label, score))
    near(scored("recall", two - np.array([-0.5, 0.5]), label), sk.recall_score(label, score > 0.5))
    false, true, _ = sk.roc_curve(label, score, drop_intermediate=False)
    for share in (90, 95, 99):
        wanted = float(true[1 - false >= share / 100 - 1e-12].max())
        near(scored(f"sensitivity_at_specificity_{share}", score, label), wanted)


def test_one_class_only_is_not_defined() -> None:
    for name in ("recall", "ap", "auc", "sensitivity_at_specificity_95"):
        assert np.isnan(scored(name, RNG.random(9), np.zeros(9, int)))
    assert np.isnan(scored("specificity", RNG.random(9), np.ones(9, int)))
    near(scored("balanced_accuracy", np.array([0.1, 0.9, 0.2]), np.zeros(3, int)), 2 / 3)


@pytest.mark.parametrize("labels", [RNG.integers(0, 5, 80), RNG.integers(0, 2, 80) * 3, np.full(80, 4)])
def test_several_classes(labels: Array) -> None:
    scores = RNG.normal(size=(80, 5)) + 2 * np.eye(5)[labels]
    said = scores.argmax(axis=1)
    near(scored("balanced_accuracy", scores, labels), quiet(sk.balanced_accuracy_score, labels, said))
    near(scored("f1", scores, labels), sk.f1_score(labels, said, average="macro"))
    near(scored("f1_micro", scores, labels), sk.f1_score(labels, said, average="micro"))
    seen = [c for c in range(5) if 0 < (labels == c).sum() < len(labels)]
    areas = [sk.roc_auc_score(labels == c, scores[:, c]) for c in seen]
    near(scored("auc_macro", scores, labels), float(np.mean(areas)) if areas else np.nan)


@pytest.mark.parametrize("kind", ["random", "ties", "empty label", "no answers"])
def test_several_labels(kind: str) -> None:
    scores, labels = RNG.random((60, 4)), RNG.integers(0, 2, (60, 4))
    if kind == "ties":
        scores = np.round(scores, 1)
    if kind == "empty label":
        labels[:, 2] = 0
    if kind == "no answers":
        scores *= 0.4
    said = (scores >= 0.5).astype(int)
    near(scored("f1_multilabel", scores, labels), sk.f1_score(labels, said, average="macro", zero_division=np.nan))
    near(scored("f1_micro", scores, labels), sk.f1_score(labels, said, average="micro"))
    near(scored("accuracy_multilabel", scores, labels), 1 - sk.hamming_loss(labels, said))
    near(scored("exact_multilabel", scores, labels), sk.accuracy_score(labels, said))
    both = [k for k in range(4) if labels[:, k].any()]
    near(scored("auc_macro", scores, labels), sk.roc_auc_score(labels[:, both], scores[:, both], average="macro"))
    near(scored("ap_macro", scores, labels), sk.average_precision_score(labels[:, both], scores[:, both]))


def test_labels_that_do_not_count() -> None:
    scores, labels = RNG.random((40, 3)), RNG.integers(0, 2, (40, 3))
    holes = RNG.random((40, 3)) < 0.3
    known = np.where(holes, -100, labels)
    columns = [(scores[~h, k], labels[~h, k]) for k, h in enumerate(holes.T)]
    near(scored("ap_macro", scores, known), float(np.mean([sk.average_precision_score(y, s) for s, y in columns])))
    near(scored("auc_macro", scores, known), float(np.mean([sk.roc_auc_score(y, s) for s, y in columns])))
    wanted = [sk.f1_score(y, s >= 0.5) for s, y in columns]
    near(scored("f1_multilabel", scores, known), float(np.mean(wanted)))


def maps(kind: str) -> tuple[Array, Array]:
    scores, labels = RNG.normal(size=(4, 5, 6, 7)), RNG.integers(0, 5, (4, 6, 7))
    if kind == "void":
        labels[RNG.random(labels.shape) < 0.3] = 255
        labels[0, :2] = -100
    if kind == "class missing":
        labels[labels == 3] = 0
        scores[:, 3] = -9
    if kind == "background only":
        labels[:] = 0
        scores[:, 0] = 9
    return scores, labels


@pytest.mark.parametrize("kind", ["random", "void", "class missing", "background only"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_maps_of_classes(kind: str, as_bytes: bool) -> None:
    scores, labels = maps(kind)
    labels = np.where(labels == -100, 255, labels).astype(np.uint8) if as_bytes else labels
    counted = ~np.isin(labels, (255, -100 if not as_bytes else 255))
    said = scores.argmax(axis=1)
    true, flat = labels[counted].astype(int), said[counted]
    near(scored("miou", scores, labels), sk.jaccard_score(true, flat, average="macro"))
    near(scored("pixel_f1", scores, labels), sk.f1_score(true, flat, average="macro"))
    rest = [c for c in np.union1d(true, flat) if c]
    dice = sk.f1_score(true, flat, average="macro", labels=rest) if rest else np.nan
    near(scored("dice_pooled", scores, labels), dice)
    each, overlap = [], []
    for y, s, c in zip(labels, said, counted, strict=True):
        seen = [k for k in np.union1d(y[c], s[c]) if k]
        each.append(sk.f1_score(y[c].astype(int), s[c], average="macro", labels=seen) if seen else 1.0)
        overlap.append(sk.jaccard_score(y[c].astype(int), s[c], average="macro"))
    near(scored("dice", scores, labels), float(np.mean(each)))
    near(scored("miou_sample", scores, labels), float(np.mean(overlap)))
    last = np.moveaxis(scores, 1, -1)
    near(scored("miou", last, labels), scored("miou", scores, labels))
    metric = Regions()
    by_class = metric.by_class(metric.rows({"y": scores}, labels))
    wanted = sk.jaccard_score(true, flat, average=None, labels=range(5), zero_division=0)
    present = np.isin(np.arange(5), np.union1d(true, flat))
    np.testing.assert_allclose(by_class, np.where(present, wanted, np.nan), atol=CLOSE)
    if present[2]:
        near(scored(Regions(only=2), scores, labels), float(wanted[2]))


def test_masks() -> None:
    scores, labels = RNG.random((5, 1, 6, 7)), RNG.integers(0, 2, (5, 6, 7))
    labels[0] = 0
    scores[0] = 0.1
    said = (scores[:, 0] >= 0.5).astype(int)
    near(scored("dice_pooled", scores, labels), sk.f1_score(labels.ravel(), said.ravel()))
    near(scored("pixel_f1", scores, labels), sk.f1_score(labels.ravel(), said.ravel()))
    near(scored("miou", scores, labels), sk.jaccard_score(labels.ravel(), said.ravel()))
    each = [sk.f1_score(y.ravel(), s.ravel()) for y, s in zip(labels[1:], said[1:], strict=True)]
    near(scored("dice", scores, labels), float(np.mean([1.0, *each])))
    near(scored(RegionsPerSample(void=None), scores, labels * 255), float(np.mean([1.0, *each])))
    assert np.isnan(scored("miou", np.full((2, 1, 3, 3), 0.1), np.zeros((2, 1, 3, 3), int)))
    broken = scores.copy()
    broken[1, 0, 0, 0] = np.nan
    assert np.isnan(resolve("dice").rows({"y": broken[1:2]}, labels[1:2])).all()


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (10, 4, 5)])
@pytest.mark.parametrize("offset", [0.0, 60_000.0])
def test_numbers(shape: tuple[int, ...], offset: float) -> None:
    truth = RNG.normal(size=shape) + offset
    values = truth + 0.5 * RNG.normal(size=shape)
    y, x = truth.reshape(len(truth), -1), values.reshape(len(truth), -1)
    if len(shape) > 2:
        y, x = y.reshape(-1, 1), x.reshape(-1, 1)
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(x, axis=1)
    if len(shape) == 2:
        near(scored("cosine_labels", values, truth), float(np.mean((x * y).sum(axis=1) / lengths)))
    near(scored("rmse", values, truth), sk.mean_squared_error(y.ravel(), x.ravel()) ** 0.5)
    near(scored("mape", values, truth), sk.mean_absolute_percentage_error(y.ravel(), x.ravel()))
    near(scored("r2", values, truth), sk.r2_score(y, x))
    near(scored("pearson", values, truth), correlation(y, x))
    for k in (10, 50, 90):
        near(scored(f"quantile_{k}", values, truth), sk.mean_pinball_loss(y.ravel(), x.ravel(), alpha=k / 100))


def correlation(y: Array, x: Array) -> float:
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(y.T, x.T, strict=True)]))


def test_numbers_at_the_edge() -> None:
    truth = np.array([[0.0, 1, 5], [2, 1, 5], [4, 1, 5]])
    values = truth + np.array([[1.0, 0, 1], [-1, 0, 1], [1, 0, 1]])
    near(scored("r2", values, truth), sk.r2_score(truth[:, 0], values[:, 0]))  # constant labels do not count
    near(scored("mape", values, truth), float(np.mean([0.5, 0.25, 0, 0, 0, 0.2, 0.2, 0.2])))  # a label of 0 does not
    assert np.isnan(scored("r2", values[:, 1], truth[:, 1]))
    assert np.isnan(scored("mape", np.ones(4), np.zeros(4)))
    near(scored("pearson", np.full(3, 7.0), np.arange(3.0)), 0.0)  # a constant answer is not correlated
    near(scored("r2", np.full(3, 1.0), np.arange(3.0)), 0.0)


def naive_edits(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    change = naive_edits(a[1:], b[1:]) + (a[0] != b[0])
    return min(change, naive_edits(a[1:], b) + 1, naive_edits(a, b[1:]) + 1)


def test_sequences() -> None:
    scores, labels = RNG.normal(size=(6, 5, 4)), RNG.integers(0, 4, (6, 5))
    labels[0, 3:] = labels[1, 1] = -100
    said, counted = scores.argmax(axis=-1), labels != -100
    near(scored("token_accuracy", scores, labels), sk.accuracy_score(labels[counted], said[counted]))
    padding = np.where(np.arange(5) < np.array([5, 4, 3, 5, 1, 2])[:, None], RNG.integers(0, 4, (6, 5)), -1)
    pairs = [(tuple(s[y >= 0]), tuple(y[y >= 0])) for s, y in zip(said, padding, strict=True)]
    wanted = sum(naive_edits(a, b) for a, b in pairs) / sum(len(b) for _, b in pairs)
    near(scored("cer", scores, padding), wanted)
    near(scored("wer", scores, padding), wanted)
    assert scored("cer", np.eye(4)[labels % 4], labels % 4) == 0
    assert np.isnan(scored("cer", scores, np.full((6, 5), -1)))
    words = resolve("wer").rows({"y": np.array([[1, 2, -1]])}, np.array([[1, 3, 2, 2]]))
    assert words.tolist() == [[2, 4]]  # sequences that the network chose itself may have another length
    spaced = ErrorRate(separator=0, end=9).rows({"y": np.array([[1, 2, 0, 3, 9, 5]])}, np.array([[1, 2, 0, 4, 0, 3]]))
    assert spaced.tolist() == [[1, 3]]


def naive_first(scores: Array, relevance: Array, k: int) -> Array:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevance[i] > 0))
    return relevance[order][:k] > 0


@pytest.mark.parametrize("ties", [False, True])
def test_rankings(ties: bool) -> None:
    scores, relevance = RNG.normal(size=(30, 12)), RNG.integers(0, 4, (30, 12)) * (RNG.random((30, 12)) < 0.4)
    relevance[:, 0] += 1
    scores = np.round(scores) if ties else scores
    near(scored("ndcg", scores, relevance), sk.ndcg_score(relevance, scores))
    near(scored("ndcg_10", scores, relevance), sk.ndcg_score(relevance, scores, k=10))
    for k in (1, 5, 10):
        found = [naive_first(s, r, k).sum() / (r > 0).sum() for s, r in zip(scores, relevance, strict=True)]
        near(scored(f"recall_at_{k}", scores, relevance), float(np.mean(found)))
    first = [1 / (1 + naive_first(s, r, 12).argmax()) for s, r in zip(scores, relevance, strict=True)]
    near(scored("mrr", scores, relevance), float(np.mean(first)))
    right = RNG.integers(0, 12, 30)
    near(scored("mrr", scores, right), scored("mrr", scores, np.eye(12)[right]))
    near(scored("ndcg", scores, relevance * 0), 0.0)
    query = np.repeat(np.arange(30), 12)
    order = RNG.permutation(360)
    labels = np.stack([query, relevance.ravel()], axis=1)[order]
    for name in ("ndcg", "mrr", "recall_at_5"):
        one, text = fitted(resolve(name), {"y": scores.ravel()[order]}, labels)
        assert isinstance(one, RankedByQuery)
        assert name in text
        near(scored(one, scores.ravel()[order], labels), scored(name, scores, relevance))


def test_weights_of_resamples_are_values_of_repeated_rows() -> None:
    counts = RNG.integers(1, 4, (3, 20))
    label, two = np.arange(20) % 2, np.round(RNG.random(20), 1)
    data: list[tuple[list[str], Any, Any]] = [
        (["precision", "recall", "specificity", "f1_binary", "balanced_accuracy", "ap"], two, label),
        (["sensitivity_at_specificity_90", "rmse", "mape", "r2", "pearson"], two, label),
        (["f1_multilabel", "f1_micro", "auc_macro", "ap_macro"], RNG.random((20, 3)), RNG.integers(0, 2, (20, 3))),
        (["miou", "dice_pooled", "pixel_f1"], RNG.normal(size=(20, 3, 4)), RNG.integers(0, 3, (20, 4))),
        (["token_accuracy", "cer"], RNG.normal(size=(20, 4, 3)), RNG.integers(0, 3, (20, 4))),
        (["r2", "pearson"], RNG.random((20, 2, 3)), RNG.random((20, 2, 3))),
    ]
    for names, scores, labels in data:
        for name in names:
            metric: Any = resolve(name)
            rows = metric.rows({"y": np.asarray(scores, np.float64)}, labels)
            expected = [metric.value(np.repeat(rows, row, axis=0)) for row in counts]
            assert metric.weighted(rows)(counts.astype(float)) == pytest.approx(expected, abs=CLOSE), name
            if hasattr(metric, "strata"):
                assert (metric.strata(rows) == labels).all()


def test_names_that_people_use() -> None:
    pairs = "accuracy=top1 acc=top1 mIoU=miou mean-iou=miou jaccard=iou dice_coefficient=dice"
    pairs += " f1_score=f1 Sensitivity=recall"
    pairs += " roc_auc=auc RMSE=rmse average_precision=ap wer=wer recall@5=recall_at_5 ndcg@10=ndcg_10 r2_score=r2"
    for pair in pairs.split():
        given, own = pair.split("=")
        assert resolve(given).name == own
    words = [word for words in SYNONYMS.values() for word in words.split()]
    assert len(words) == len(set(words))
    assert not set(words) & set(METRICS)
    assert set(SYNONYMS) <= set(METRICS)
    for name in METRICS:
        metric: Metric = resolve(name)
        assert metric.name == name == canonical("metrics", name)
    with pytest.raises(UsageError, match=r"did you mean 'sensitivity' \(recall\)"):
        resolve("sensitivty")


def test_logits_and_forms_are_told() -> None:
    logits, label = {"y": np.array([-2.0, 3.0, 0.2, -0.1])}, np.array([0, 1, 1, 0])
    with pytest.raises(InputError, match="not a probability"):
        resolve("recall").rows(logits, label)
    for name in ("recall", "balanced_accuracy", "top1", "f1", "f1_binary"):
        metric, text = fitted(resolve(name), logits, label)
        assert "decides from 0 on" in text
        assert metric.value(metric.rows(logits, label)) == 1
    assert fitted(resolve("recall"), {"y": np.array([0.1, 0.9])}, label[:2])[1] == ""
    several = {"y": RNG.random((6, 3))}, RNG.integers(0, 2, (6, 3))
    for name, own in (
        ("auc", "auc_macro"),
        ("ap", "ap_macro"),
        ("f1", "f1_multilabel"),
        ("acc", "accuracy_multilabel"),
    ):
        metric, text = fitted(resolve(name), *several)
        assert metric.name == own
        assert own in text
    frames = {"y": np.eye(3)[[[0, 1, 1, 0, 2]]]}
    metric, text = fitted(resolve("cer"), frames, np.array([[1, 2]]))
    assert "ctc_cer" in text
    assert metric.value(metric.rows(frames, np.array([[1, 2]]))) == 0
    mask = np.array([[[0, 255], [255, 0]]])
    metric, text = fitted(resolve("dice"), {"y": np.array([[[0.1, 0.9], [0.8, 0.2]]])}, mask)
    assert "255 is the mask" in text
    assert metric.value(metric.rows({"y": np.array([[[0.1, 0.9], [0.8, 0.2]]])}, mask)) == 1
    metric, text = fitted(resolve("miou", output="y"), {"y": np.array([[[-3.0, 4.0]]])}, np.array([[[0, 1]]]))
    assert (metric.threshold, metric.output) == (0.0, "y")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "scores", "labels", "message"),
    [
        ("recall", np.zeros((3, 4)), np.zeros(3, int), "needs a score for two classes"),
        ("ap", np.zeros(3), np.array([0, 1, 2]), "outside the network's 2 classes"),
        ("f1_multilabel", np.zeros((3, 4)), np.zeros((3, 5), int), "do not fit f1_multilabel"),
        ("miou", np.zeros((2, 3, 4, 4)), np.zeros((2, 5, 5), int), "do not fit miou"),
        ("miou", np.zeros((2, 3, 4, 4)), np.full((2, 4, 4), 7), "outside the network's 3 classes"),
        ("rmse", np.zeros((3, 2)), np.zeros((3, 4)), "do not fit rmse"),
        ("cer", np.zeros((2, 9, 4)), np.zeros((2, 3), int), "do not fit cer"),
        ("token_accuracy", np.zeros((2, 9, 4)), np.zeros((2, 3), int), "do not fit token_accuracy"),
        ("ndcg", np.zeros((2, 9)), np.zeros((2, 3), int), "do not fit ndcg"),
        ("mrr", np.zeros((2, 3)), np.full((2, 3), -1), "relevances of 0 or more"),
        ("balanced_accuracy", np.zeros((2, 3, 4)), np.zeros((2, 4), int), "needs one answer a sample"),
    ],
)
def test_labels_that_do_not_fit(name: str, scores: Array, labels: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(name).rows({"y": scores}, labels)


@pytest.mark.parametrize("metric", ["sensitivity", "balanced_accuracy"])
def test_a_search_judges_a_binary_classifier(metric: str, tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "mlp.onnx", classes=2)
    x = np.random.default_rng(1).standard_normal((700, 16)).astype(np.float32) * 2
    labels = networks.answers(path, x).argmax(1)
    labels[::10] = 1 - labels[::10]
    notes: list[str] = []
    result = hasten.optimize(
        path, {"x": x, "labels": labels}, metric=metric, max_drop="5%", engines="tests.engines.quick",
        served_by="tests.engines.quick", out=tmp_path / "out", listen=lambda e: notes.append(e.text),
    )  # fmt: skip
    assert result.verdict == "met", result.sentence
    confirm = result.winner.confirm
    assert confirm is not None
    assert confirm.metric == canonical("metrics", metric)
    assert 0.8 < confirm.baseline < 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["question"]["metric"] == canonical("metrics", metric)  # verify reads names that are listed
