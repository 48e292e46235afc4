"""Metrics against naive counting, their refusals, and the automatic choice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten import metrics as m
from hasten.errors import InputError, UsageError
from hasten.metrics.ctc import edits

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 6)).astype(np.float32)
LABELS = RNG.integers(0, 6, 40)


def out(array: Any) -> dict[str, np.ndarray]:
    return {"y": np.asarray(array, dtype=np.float32)}


def test_top_k_counts_sorted_scores() -> None:
    order = np.argsort(-LOGITS, axis=1)
    for metric, k in ((m.TOP1, 1), (m.TOP5, 5)):
        assert metric.rows(out(LOGITS), LABELS).tolist() == [
            float(label in row[:k]) for row, label in zip(order, LABELS, strict=True)
        ]
    assert m.TOP1.rows(out(LOGITS), LABELS[:, None]).tolist() == m.TOP1.rows(out(LOGITS), LABELS).tolist()


def test_ties_go_to_the_lower_class_and_nan_is_wrong() -> None:
    assert m.TOP1.rows(out([[1, 1, 0], [1, 1, 0], [np.nan, 2, 0]]), np.array([0, 1, 1])).tolist() == [1, 0, 0]


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_binary_head_decides_at_one_half(shape: tuple[int, ...]) -> None:
    scores, labels = RNG.random(40), RNG.integers(0, 2, 40)
    assert m.TOP1.rows(out(scores.reshape(shape)), labels).tolist() == ((scores >= 0.5) == labels).tolist()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_positions_are_averaged(axis: int) -> None:
    scores = RNG.normal(size=(4, 5, 6, 7))
    labels = np.asarray(RNG.integers(0, 3, np.delete((4, 5, 6, 7), axis)))
    labels[0, 0, 0] = -100
    best = scores.argmax(axis=axis)
    expected = [(best[i] == labels[i])[labels[i] != -100].mean() for i in range(4)]
    assert m.TOP1.rows(out(scores), labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(1, 7), r"label 6 of sample 5 is outside .* 6 classes .*; 1 of 6 labels are\n.*count from 1"),
        (np.array([0, 1, -1, 9, 2, 3]), r"label -1 of sample 2 .*; 2 of 6 labels are"),
        (np.linspace(0, 1, 6), "labels of type float64 are not class numbers"),
        (np.zeros((6, 2), dtype=int), r"output 'y' \[6, 6\] and labels \[6, 2\] do not fit top1"),
    ],
)
def test_wrong_labels(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        m.TOP1.rows(out(LOGITS[:6]), labels)


def test_wrong_outputs() -> None:
    with pytest.raises(InputError, match=r"output 'y' gives -3 for a sample: not a probability"):
        m.TOP1.rows(out([0.2, -3]), np.array([0, 1]))
    with pytest.raises(InputError, match="no output called 'z'"):
        m.resolve("top1", output="z").rows(out(LOGITS), LABELS)
    with pytest.raises(InputError, match="no output holds numbers: y <U1"):
        m.TOP1.rows({"y": np.array(["a", "b"])}, LABELS[:2])
    with pytest.raises(InputError, match="holds classes"):
        m.TOP1.rows({"y": np.zeros((2, 3), dtype=np.int64)}, LABELS[:2])
    with pytest.raises(InputError, match="a single number"):
        m.TOP1.rows(out(1.0), LABELS[:1])
    with pytest.raises(InputError, match=r"labels \[3\] do not fit 40 samples"):
        m.F1.rows(out(LOGITS), LABELS[:3])
    with pytest.raises(InputError, match="f1 needs one answer a sample"):
        m.F1.rows(out(np.zeros((2, 3, 4))), LABELS[:2])
    with pytest.raises(InputError, match="auc needs a score for two classes"):
        m.AUC.rows(out(LOGITS), LABELS)
    with pytest.raises(InputError, match="do not fit mae"):
        m.MAE.rows(out(LOGITS), LABELS)
    with pytest.raises(InputError, match="are not numbers"):
        m.MAE.rows(out(np.zeros((2, 1))), np.array(["a", "b"]))
    with pytest.raises(InputError, match="do not fit CTC"):
        m.CTC_CER.rows(out(LOGITS), LABELS)
    with pytest.raises(InputError, match="whole numbers below 4"):
        m.CTC_CER.rows(out(np.zeros((2, 5, 4))), np.full((2, 3), 4))
    with pytest.raises(InputError, match="the reference"):
        m.AGREEMENT.rows(out(LOGITS), LABELS[:3])


def naive_f1(chosen: np.ndarray, label: np.ndarray) -> float:
    scores = []
    for c in np.union1d(chosen, label):
        right = ((chosen == c) & (label == c)).sum()
        scores.append(2 * right / ((chosen == c).sum() + (label == c).sum()))
    return float(np.mean(scores))


def naive_auc(score: np.ndarray, label: np.ndarray) -> float:
    p, n = score[label == 1], score[label == 0]
    return float(np.mean([(a > b) + (a == b) / 2 for a in p for b in n]))


def test_f1_and_auc_are_their_definitions() -> None:
    rows = m.F1.rows(out(LOGITS), LABELS)
    assert m.F1.value(rows) == pytest.approx(naive_f1(LOGITS.argmax(1), LABELS))
    score, label = np.round(RNG.normal(size=50), 1), RNG.integers(0, 2, 50)
    assert m.AUC.value(m.AUC.rows(out(score), label)) == pytest.approx(naive_auc(score.astype(np.float32), label))
    two = np.stack([-score, score], 1)
    assert m.AUC.value(m.AUC.rows(out(two), label)) == pytest.approx(naive_auc(score, label))
    assert np.isnan(m.AUC.value(m.AUC.rows(out(score), label * 0)))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_weighted_values_are_values_of_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, (2, 30))
    counts[:, :2] = 1
    label = np.append([0, 1], rng.integers(0, 2, 28))
    cases: list[tuple[Any, np.ndarray]] = [
        (m.F1, np.stack([rng.integers(0, 4, 30), rng.integers(0, 4, 30)], 1).astype(float)),
        (m.AUC, np.stack([np.round(rng.normal(size=30), 1), label], 1)),
        (m.CTC_CER, np.stack([rng.integers(0, 4, 30), rng.integers(1, 9, 30)], 1).astype(float)),
    ]
    for metric, rows in cases:
        expected = [metric.value(np.repeat(rows, row, axis=0)) for row in counts]
        assert metric.weighted(rows)(counts.astype(float)) == pytest.approx(expected)


def test_errors_masks_and_cosine() -> None:
    a, b = RNG.random((5, 3, 4)), RNG.random((5, 3, 4))
    a32 = a.astype(np.float32).astype(float)
    assert m.MAE.rows(out(a), b) == pytest.approx(np.abs(a32 - b).mean(axis=(1, 2)))
    assert m.MSE.rows(out(a), b) == pytest.approx(((a32 - b) ** 2).mean(axis=(1, 2)))
    masks = b > 0.5
    inter = ((a32 >= 0.5) & masks).sum(axis=(1, 2))
    assert m.IOU.rows(out(a[:, None]), masks) == pytest.approx(inter / ((a32 >= 0.5) | masks).sum(axis=(1, 2)))
    assert m.IOU.rows(out(np.zeros((1, 2))), np.zeros((1, 2))).tolist() == [1.0]
    assert np.isnan(m.IOU.rows(out([[np.nan, 1]]), np.ones((1, 2)))[0])
    cosine = m.COSINE.rows(
        out([[1, 0], [1, 1], [0, 0], [0, 0]]), np.array([[0, 2], [3, 3], [0, 0], [1, 0]], dtype=np.float32)
    )
    assert cosine == pytest.approx([0, 1, 1, 0])


def naive_edits(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(naive_edits(a[1:], b) + 1, naive_edits(a, b[1:]) + 1, naive_edits(a[1:], b[1:]) + (a[0] != b[0]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2), max_size=5), st.lists(st.integers(0, 2), max_size=5))
def test_edits_are_the_recursive_definition(a: list[int], b: list[int]) -> None:
    assert edits(a, b) == naive_edits(a, b)


def test_ctc_merges_repeats_then_drops_blanks() -> None:
    frames = np.array([[1, 1, 0, 1, 2, 2, 0], [0, 0, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 2, 2]])
    scores, labels = np.eye(4)[frames], np.array([[1, 1, 2], [-1, -1, -1], [3, 1, -1]])
    assert m.CTC_EXACT.rows(out(scores), labels).tolist() == [1, 1, 0]
    rows = m.CTC_CER.rows(out(scores), labels)
    assert rows.tolist() == [[0, 3], [0, 0], [1, 2]]
    assert m.CTC_CER.value(rows) == pytest.approx(1 / 5)
    assert m.CTC_EXACT.rows(out(scores.swapaxes(0, 1)), labels).tolist() == [1, 1, 0]  # frames first
    assert m.CTC_EXACT.rows(out(scores), m.CTC_EXACT.reference(out(scores))).tolist() == [1, 1, 1]


@pytest.mark.parametrize("metric", [m.AGREEMENT, m.COSINE, m.TOP1, m.TOP5], ids=lambda metric: metric.name)
def test_the_reference_agrees_with_itself(metric: Any) -> None:
    assert metric.value(metric.rows(out(LOGITS), metric.reference(out(LOGITS)))) == pytest.approx(1)
    assert m.MAE.rows(out(LOGITS), m.MAE.reference(out(LOGITS))).max() == 0


def test_agreement_counts_changed_and_undefined_answers() -> None:
    other = LOGITS.copy()
    other[0] = -other[0]
    other[1] = np.nan
    assert m.AGREEMENT.rows(out(other), m.AGREEMENT.reference(out(LOGITS))).tolist() == [0, 0] + [1] * 38


def accuracy(outputs: dict[str, np.ndarray], labels: np.ndarray) -> Any:
    return (outputs["y"].argmax(1) == labels).mean()


def margin(outputs: dict[str, np.ndarray], labels: np.ndarray) -> Any:
    return outputs["y"].max(axis=1)


def test_functions_become_metrics_of_their_kind() -> None:
    sample = (out(LOGITS), LABELS)
    corpus = m.resolve(accuracy, sample=sample)
    rows = corpus.rows(out(LOGITS), LABELS)
    assert (corpus.name, corpus.kind, rows.shape) == ("accuracy", "corpus", (40, 7))
    assert corpus.value(rows[5:20]) == pytest.approx(accuracy(out(LOGITS[5:20]), LABELS[5:20]))
    score = m.resolve(margin, sample=sample, higher_is_better=False)
    assert (score.kind, score.higher_is_better) == ("score", False)
    assert m.resolve(lambda o, y: o["y"].argmax(1) == y, sample=sample).kind == "binary"
    assert m.resolve("tests.test_metrics:accuracy", sample=sample).kind == "corpus"
    assert not m.resolve(lambda o, y: float(o["y"].mean()), sample=(out(LOGITS), None)).needs_labels
    assert m.resolve("hasten.metrics:MAE") is m.MAE
    assert m.resolve(m.MAE, output="z").output == "z"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda o, y: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda o, y: float("nan"), "it returned NaN for the float network"),
        (lambda o, y: np.inf, "it returned infinity"),
        (lambda o, y: "good", "it returned str 'good', not numbers"),
        (lambda o, y: None, "it returned NoneType 'None', not numbers"),
        (lambda o, y: [[1], [1, 2]], "not one array of numbers"),
        (lambda o, y: np.ones(3), r"it returned \[3\] for 40 samples"),
        (lambda o, y: np.random.default_rng().random(), "two different values for the same outputs"),
    ],
)
def test_functions_that_cannot_be_metrics(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        m.resolve(function, sample=(out(LOGITS), LABELS))


def test_names_that_are_no_metrics() -> None:
    with pytest.raises(UsageError, match="did you mean 'top1'"):
        m.resolve("top-1")
    with pytest.raises(UsageError, match=r"cannot load the metric 'no\.such:thing'"):
        m.resolve("no.such:thing")
    with pytest.raises(UsageError, match="needs a sample"):
        m.resolve(accuracy)
    with pytest.raises(UsageError, match="is not a function"):
        m.resolve("math:pi", sample=(out(LOGITS), LABELS))


def test_function_metrics_refuse_changing_shapes() -> None:
    corpus = m.resolve(accuracy, sample=(out(LOGITS), LABELS))
    with pytest.raises(InputError, match=r"y changes from \[6\] to \[3\] a sample"):
        corpus.rows(out(LOGITS[:, :3]), LABELS)
    score = m.resolve(margin, sample=(out(LOGITS), LABELS))
    with pytest.raises(InputError, match=r"it returned \[40\] for 39 samples"):
        score.rows(out(LOGITS), LABELS[:39])


def test_validate_looks_at_all_labels_and_calls_twice() -> None:
    m.validate(m.TOP1, out(LOGITS[:8]), LABELS)
    m.validate(m.AGREEMENT, out(LOGITS[:8]), None)
    with pytest.raises(InputError, match="label 6 of sample 39"):
        m.validate(m.TOP1, out(LOGITS[:8]), np.append(LABELS[:39], 6))
    with pytest.raises(InputError, match="needs labels"):
        m.validate(m.TOP1, out(LOGITS), None)
    with pytest.raises(InputError, match="NaN for the float network on sample 1"):
        m.validate(m.MAE, out([[1.0], [np.nan]]), np.ones((2, 1)))
    calls = iter(range(100))
    fickle = m.resolve(margin, sample=(out(LOGITS), LABELS))
    object.__setattr__(fickle, "function", lambda o, y: np.full(len(y), next(calls)))
    with pytest.raises(InputError, match="two different values"):
        m.validate(fickle, out(LOGITS), LABELS)


@pytest.mark.parametrize(
    ("outputs", "labels", "name", "why"),
    [
        (LOGITS, LABELS, "top1", "class numbers"),
        (LOGITS, None, "agreement", "looks like class scores"),
        (RNG.random((4, 3, 8, 8)), None, "cosine", "does not look like"),
        (LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True), None, "cosine", "does not look like"),
        (RNG.normal(size=(9, 1)), RNG.integers(0, 2, 9), "top1", "from 0.0 on"),
        (RNG.random(9), RNG.integers(0, 2, 9), "top1", "from 0.5 on"),
        (RNG.normal(size=(9, 1)), RNG.random(9), "mae", "numbers of output"),
        (RNG.normal(size=(9, 3)), RNG.integers(0, 2, (9, 3)), "f1_multilabel", "0 or 1 for each column"),
        (RNG.random((9, 3)), np.eye(3, dtype=int)[[0, 1, 2] * 3], "mae", "numbers of output"),
        (RNG.random((4, 1, 8, 8)), RNG.random((4, 8, 8)) > 0.5, "iou", "masks"),
        (RNG.random((4, 3, 8, 8)), RNG.integers(0, 3, (4, 8, 8)), "top1", "class numbers"),
    ],
)
def test_automatic_choice(outputs: np.ndarray, labels: np.ndarray | None, name: str, why: str) -> None:
    metric, sentence = m.auto_metric(out(outputs), labels)
    assert metric.name == name
    assert why in sentence
    m.validate(metric, out(outputs), labels)


def test_no_automatic_choice() -> None:
    with pytest.raises(InputError, match=r"no metric fits output 'y' \[40, 6\] and labels \[40, 2\]"):
        m.auto_metric(out(LOGITS), RNG.random((40, 2)))
