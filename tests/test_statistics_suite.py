"""False claims counted: whatever the metric, at most 5 % of candidates exactly at the limit pass."""

import numpy as np
import pytest
from benchmarks import false_claims as suite

from hasten.budget import Budget
from hasten.measure.speed import PAIRS, speed_verdict
from hasten.metrics import AGREEMENT, AUC, CTC_CER, F1, IOU, MAE

POINT = Budget(limit=0.01)


def holds(rate: suite.Rate) -> None:
    assert rate.proven <= rate.allowed, rate
    assert rate.point_rule > 0.45, rate  # comparing two averages passes half of them


@pytest.mark.parametrize(
    ("n", "limit", "gains"), [(200, 0.01, 0.01), (500, 0.01, 0), (1000, 0.01, 0.005), (5000, 0.01, 0.02)]
)
def test_binary(n: int, limit: float, gains: float) -> None:
    holds(suite.binary(n, limit, gains, 10_000))


def test_point_rule_passes_over_half_of_few_flips() -> None:
    assert suite.binary(200, 0.01, 0.0, 10_000).point_rule > 0.6  # the handbook's 68 %


@pytest.mark.parametrize(("n", "score", "gains"), [(300, 0.9, 0.0), (500, 0.8, 0.005), (2000, 0.7, 0.02)])
def test_relative(n: int, score: float, gains: float) -> None:
    holds(suite.relative(n, score, 0.99, gains, 3000))


def test_label_free() -> None:
    holds(suite.drawn("", AGREEMENT, Budget(kind="agree", limit=0.98), 500, suite.changed_answers, 400))


@pytest.mark.parametrize("n", [200, 600])
def test_score(n: int) -> None:
    holds(suite.drawn("", IOU, POINT, n, suite.overlap, 120))


def test_score_in_groups() -> None:
    holds(suite.drawn("", IOU, POINT, 800, suite.clip, 80, group=4))


def test_ignoring_groups_would_lie() -> None:
    assert suite.drawn("", IOU, POINT, 800, suite.clip, 80).proven > 0.1


def test_score_relative() -> None:
    holds(suite.drawn("", MAE, Budget(kind="relative", limit=0.98), 400, suite.error, 120))


@pytest.mark.parametrize(
    ("metric", "n", "draw", "repetitions"),
    [
        pytest.param(AUC, 150, suite.ranking, 60, id="auc"),
        pytest.param(F1, 150, suite.classes, 60, id="f1"),
        pytest.param(CTC_CER, 350, suite.characters, 60, id="cer"),
    ],
)
def test_corpus(metric: object, n: int, draw: suite.Draw, repetitions: int) -> None:
    rate = suite.drawn("", metric, POINT, n, draw, repetitions)  # type: ignore[arg-type]
    assert rate.proven <= rate.allowed, rate
    assert rate.point_rule > 0.3, rate


@pytest.mark.slow
def test_corpus_with_many_repetitions() -> None:
    for metric, draw in ((AUC, suite.ranking), (F1, suite.classes), (CTC_CER, suite.characters)):
        holds(suite.drawn("", metric, POINT, 250, draw, 1000))


def test_identical_networks_are_the_same_and_three_percent_is_found() -> None:
    shares = suite.timing(PAIRS, 2000)
    assert shares["same"] >= 0.95
    assert shares["different"] <= 0.05
    assert shares["found_3_percent"] >= 0.95


def test_fewer_pairs_would_not_do() -> None:
    assert suite.timing(20, 2000)["same"] < 0.95


def test_vectorised_intervals_are_the_library_ones() -> None:
    from hasten.measure.speed import sign_interval

    ratios = suite.log_ratios(0.03, PAIRS, 5)
    low, high = suite.intervals(ratios)
    np.testing.assert_allclose(np.stack([low, high], 1), [sign_interval(row) for row in ratios])
    assert {speed_verdict(a, b) for a, b in zip(low, high, strict=True)} <= {"faster", "clearly faster"}
