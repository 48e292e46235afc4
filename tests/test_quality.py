"""The verdict on a budget: which test is used, what is refused, what is said before and after."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.budget import Budget, parse_budget
from hasten.errors import InputError, UsageError
from hasten.measure.proportions import required_n, tango_p, tango_upper
from hasten.measure.quality import assess, at_chance, needed_samples, provable
from hasten.metrics import AGREEMENT, AUC, COSINE, CTC_CER, F1, IOU, MAE, TOP1
from hasten.trial import Quality

POINT = parse_budget("1%")
RNG = np.random.default_rng(0)


def answers(n: int, losses: int, gains: int, right: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    x = (np.arange(n) < round(n * right)).astype(float)
    y = x.copy()
    y[:losses], y[n - gains :] = 0, 1
    return x, y


def judged(metric: object, budget: str | Budget, rows: tuple[np.ndarray, np.ndarray], **more: object) -> Quality:
    return assess(metric, parse_budget(budget), *rows, split="confirm", **more)  # type: ignore[arg-type]


def test_binary_is_tango() -> None:
    q = judged(TOP1, POINT, answers(2000, 12, 8))
    assert (q.method, q.flips, q.n, q.split, q.met) == ("Tango", 20, 2000, "confirm", True)
    assert (q.drop, q.upper, q.p_value) == pytest.approx((0.002, tango_upper(12, 8, 2000), tango_p(12, 8, 2000, 0.01)))
    assert (q.baseline, q.value) == pytest.approx((0.8, 0.798))


def test_the_same_drop_on_fewer_samples_is_not_proven() -> None:
    assert not judged(TOP1, POINT, answers(250, 1, 1)).met


def test_alpha_may_be_stricter_than_the_budget() -> None:
    loose, strict = (judged(TOP1, POINT, answers(2000, 12, 8), alpha=a) for a in (0.05, 0.001))
    assert loose.met
    assert not strict.met
    assert strict.upper > loose.upper


def test_groups_that_repeat_widen() -> None:
    x, y = answers(2000, 12, 8)
    grouped = judged(TOP1, POINT, (x, y), groups=np.arange(2000) // 10)
    assert grouped.method == "largest loss seen, 200 groups"
    assert grouped.upper > judged(TOP1, POINT, (x, y)).upper
    assert judged(TOP1, POINT, (x, y), groups=np.arange(2000)).method == "Tango"


@pytest.mark.parametrize("budget", ["1%", "agree:99%"])
def test_agreement_is_exact(budget: str) -> None:
    x, y = np.ones(1000), np.append(np.zeros(3), np.ones(997))
    q = judged(AGREEMENT, budget, (x, y))
    assert (q.method, q.met, q.drop) == ("Clopper-Pearson", True, 0.003)
    assert q.upper == pytest.approx(0.00773, abs=1e-4)


def test_relative_binary_counts_the_share_kept() -> None:
    q = judged(TOP1, "rel:98%", answers(3000, 30, 10))
    assert (q.method, q.met) == ("Nam-Blackwelder", True)
    assert q.drop == pytest.approx(20 / 2400)
    assert q.lower < q.drop < q.upper <= 0.02


def test_scores_are_judged_by_t_and_by_their_range() -> None:
    base = RNG.random(200)
    less = base - RNG.normal(0.001, 0.02, 200)
    found = judged(IOU, POINT, (base, less))
    assert (found.method, found.guaranteed_method, found.certificate, found.met) == (
        "largest loss seen",
        "Gaffke",
        "statistical",
        True,
    )
    assert found.upper < 0.01 < found.guaranteed_upper
    assert judged(IOU, POINT, (base[:40], less[:40])).method == "largest loss seen"
    assert judged(IOU, POINT, (base[:19], less[:19])).method == "Gaffke"
    assert not judged(IOU, POINT, (base, base)).met
    twice = np.tile(base, 2)
    assert judged(IOU, POINT, (twice, twice)).certificate == "guaranteed"


def test_a_required_guarantee_is_not_met_by_a_statistical_bound() -> None:
    base = RNG.random(200)
    rows = (base, base - RNG.normal(0.001, 0.02, 200))
    assert judged(IOU, Budget(limit=0.01), rows).met
    assert not judged(IOU, Budget(limit=0.01, certificate="guaranteed"), rows).met
    assert judged(IOU, Budget(limit=0.05, certificate="guaranteed"), rows).met


def test_few_changed_scores_say_nothing_of_their_spread() -> None:
    base = np.ones(300)
    less = base.copy()
    less[:19] -= 0.01
    found = judged(IOU, POINT, (base, less))
    assert (found.method, found.upper) == ("Gaffke", found.guaranteed_upper)


def test_no_changed_network_has_a_tighter_guarantee_than_the_unchanged_one() -> None:
    base = RNG.random(168)
    unchanged = judged(IOU, POINT, (base, base)).guaranteed_upper
    for spread in (1e-6, 1e-3, 0.02):
        changed = judged(IOU, POINT, (base, np.clip(base - np.abs(RNG.normal(0, spread, 168)), 0, 1)))
        assert changed.guaranteed_upper >= unchanged - 1e-12


def test_scores_without_a_range_have_no_guarantee() -> None:
    base = RNG.random(400)
    found = judged(MAE, POINT, (base, base + RNG.normal(0, 0.001, 400)))
    assert (found.certificate, found.guaranteed_upper) == ("statistical", np.inf)
    assert "no known range" in found.guaranteed_method


def test_the_hidden_share_is_what_so_many_samples_cannot_exclude() -> None:
    base = RNG.random(168)
    assert judged(IOU, POINT, (base, base)).hidden_share == pytest.approx(1 - 0.05 ** (1 / 168))
    grouped = judged(IOU, POINT, (base, base), groups=np.arange(168) // 8)
    assert grouped.hidden_share == pytest.approx(1 - 0.05 ** (1 / 21))


def test_few_positives_give_no_statistical_bound_on_a_ranking() -> None:
    label = (np.arange(300) < 9).astype(float)
    base = np.stack([label + RNG.normal(0, 0.1, 300), label], 1)
    found = judged(AUC, POINT, (base, base))
    assert not found.met
    assert found.upper == found.guaranteed_upper > 0.2


def test_fractional_top1_is_a_score() -> None:
    base = np.round(RNG.random(300), 1)
    found = judged(TOP1, POINT, (base, np.roll(base, 1)))
    assert (found.method, found.guaranteed_method) == ("largest loss seen", "Gaffke")


def test_lower_is_better_turns_the_sign() -> None:
    base = RNG.random(500) + 1
    worse = base * 1.01 + RNG.normal(0, 0.01, 500)
    q = judged(MAE, Budget(limit=0.02), (base, worse))
    assert q.drop == pytest.approx(worse.mean() - base.mean())
    assert q.met
    relative = judged(MAE, "rel:98%", (base, worse))
    assert relative.drop == pytest.approx(worse.mean() / base.mean() - 1)
    assert relative.met
    assert not judged(MAE, "rel:99.5%", (base, worse)).met


def test_corpus_is_bootstrapped() -> None:
    label = np.arange(400) % 2
    base = np.stack([label + RNG.normal(size=400), label], 1)
    near = base + np.stack([RNG.normal(0, 0.02, 400), np.zeros(400)], 1)
    assert judged(AUC, POINT, (base, near)).method == "bootstrap"
    assert judged(AUC, POINT, (base, near)).certificate == "statistical"
    assert np.isfinite(judged(AUC, POINT, (base, near)).guaranteed_upper)
    assert judged(AUC, "rel:98%", (base, near)).met
    assert judged(AUC, POINT, (base[:200], near[:200])).method == "bootstrap BCa"
    far = base + np.stack([RNG.normal(0, 2, 400), np.zeros(400)], 1)
    assert not judged(AUC, POINT, (base, far)).met
    errors = np.stack([RNG.integers(0, 3, 400), np.full(400, 9)], 1).astype(float)
    more = errors + np.stack([RNG.random(400) < 0.3, np.zeros(400)], 1)
    assert judged(CTC_CER, POINT, (errors, more)).drop == pytest.approx((more - errors)[:, 0].sum() / 3600)


def test_a_nan_answer_is_never_inside() -> None:
    x, y = answers(500, 0, 0)
    y[3] = np.nan
    q = judged(TOP1, POINT, (x, y))
    assert (q.met, q.drop, q.upper, q.p_value) == (False, np.inf, np.inf, 1.0)
    assert q.method == "NaN in 1 of 500 answers"
    assert needed_samples(q, POINT) is None


def test_refusals() -> None:
    x, y = answers(100, 1, 0)
    with pytest.raises(UsageError, match=r"needs a positive score; 'cosine' of the baseline is -0\.5"):
        judged(COSINE, "rel:99%", (x * 0 - 0.5, y * 0 - 0.5))
    with pytest.raises(UsageError, match="needs a positive score"):
        judged(TOP1, "rel:99%", (x * 0, y))
    with pytest.raises(UsageError, match="counts equal answers, and 'top1' does not"):
        judged(TOP1, "agree:99%", (x, y))
    with pytest.raises(InputError, match="100 baseline and 99 candidate scores cannot be paired"):
        judged(TOP1, POINT, (x, y[1:]))
    with pytest.raises(InputError, match="not defined for the baseline on the confirm split"):
        judged(AUC, POINT, (np.ones((50, 2)), np.ones((50, 2))))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["1%", "rel:99%", "3%"]))
def test_met_means_upper_inside(losses: int, gains: int, budget: str) -> None:
    q = judged(TOP1, budget, answers(1500, losses, gains))
    limit = parse_budget(budget).max_drop
    assert q.lower <= q.drop + 1e-9
    assert q.drop <= q.upper + 1e-9
    assert q.met == (q.upper <= limit)


def test_needed_samples_is_what_is_missing() -> None:
    q = judged(TOP1, POINT, answers(400, 4, 4))
    assert needed_samples(q, POINT) == pytest.approx(required_n(0.02, 0.01) - 400, rel=0.06)
    assert needed_samples(judged(TOP1, POINT, answers(400, 14, 4)), POINT) is None
    base = RNG.random(150)
    score = judged(IOU, POINT, (base, base - RNG.normal(0.0, 0.1, 150)))
    assert score.drop < 0.01
    assert 100 < (needed_samples(score, POINT) or 0) < 20_000


@pytest.mark.parametrize(
    ("metric", "budget", "n", "enough", "sentence"),
    [
        (TOP1, "1%", 1480, True, "1,480 confirm samples can certify a drop of 0.95 points or more where 2 % of the "
                                 "answers change; your budget of 1 point can be certified"),
        (TOP1, "1%", 200, False, "your budget of 1 point needs about 1,354"),
        (TOP1, "rel:95%", 800, True, "your budget of 5 % of the baseline's score can be certified"),
        (TOP1, "1%", 3, False, "too few to certify any drop; your budget of 1 point cannot be certified"),
        (TOP1, "1%", 0, False, "there are no confirm samples"),
        (AGREEMENT, "agree:99%", 1000, True, "can certify 99 % equal answers while no more than 4 of them change"),
        (AGREEMENT, "agree:99%", 100, False, "cannot certify 99 % equal answers even if none changes; that needs 299"),
        (IOU, "1%", 60, True, "depends on how much iou changes from sample to sample; below 100"),
        (F1, "1%", 500, True, "depends on how much f1 changes"),
    ],
)  # fmt: skip
def test_what_is_said_before_the_search(metric: object, budget: str, n: int, enough: bool, sentence: str) -> None:
    said = provable(parse_budget(budget), metric, 100, 200, n)  # type: ignore[arg-type]
    assert sentence in said.sentence
    assert said.budget_provable == enough
    assert (said.n_calibrate, said.n_search, said.n_confirm) == (100, 200, n)


def test_the_agreement_promise_is_kept() -> None:
    for changed, met in ((4, True), (5, False)):
        y = np.append(np.zeros(changed), np.ones(1000 - changed))
        assert judged(AGREEMENT, "agree:99%", (np.ones(1000), y)).met == met


def test_chance_level_is_noticed() -> None:
    labels = RNG.integers(0, 10, 500)
    guesses = (RNG.random(500) < 0.1).astype(float)
    warning = at_chance(TOP1, guesses, labels)
    assert warning is not None
    assert "preprocessing" in warning
    assert at_chance(TOP1, (RNG.random(500) < 0.5).astype(float), labels) is None
    assert at_chance(TOP1, guesses[:10], labels[:10]) is None
    assert at_chance(TOP1, guesses, labels * 0) is None
    assert at_chance(IOU, guesses, labels) is None
    rare = (np.arange(500) < 25).astype(int)  # 5 % positives, found with as many false alarms
    assert at_chance(TOP1, (np.arange(500) >= 35).astype(float), rare) is None


def test_chance_of_rankings_and_errors() -> None:
    label = np.arange(300) % 2
    noise = np.repeat(RNG.normal(size=150), 2)  # each score once a class
    assert at_chance(AUC, np.stack([noise, label], 1), label) is not None
    assert at_chance(AUC, np.stack([noise + label, label], 1), label) is None
    assert at_chance(AUC, np.stack([noise, label * 0], 1), label * 0) is None
    wanted = RNG.normal(5, 1, 300)
    assert at_chance(MAE, np.abs(RNG.normal(5, 1, 300) - wanted), wanted) is not None
    assert at_chance(MAE, np.abs(RNG.normal(0, 0.1, 300)), wanted) is None
