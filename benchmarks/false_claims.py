"""Does hasten keep its word? The share of false claims when a candidate loses exactly the allowed accuracy.

Run ``python benchmarks/false_claims.py``: a table on the screen, the numbers in benchmarks/results/statistics.json.
The same simulations, with fewer repetitions, are tests (tests/test_statistics_suite.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from hasten.budget import Budget
from hasten.measure.proportions import ratio_ps, tango_ps
from hasten.measure.quality import assess
from hasten.measure.speed import MARGIN, PAIRS, sign_ranks
from hasten.metrics import AGREEMENT, AUC, CTC_CER, F1, IOU, MAE
from hasten.protocols import Metric

Rows = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Rows, Rows]]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Shares of ``repetitions`` in which a candidate exactly at its limit was called inside the budget."""

    family: str
    n: int
    proven: float
    point_rule: float
    repetitions: int

    @property
    def allowed(self) -> float:
        """5 % and three Monte Carlo standard errors."""
        return float(0.05 + 3 * np.sqrt(0.05 * 0.95 / self.repetitions))


def binary(n: int, limit: float, gains: float, repetitions: int) -> Rate:
    """0/1 answers that lose ``limit + gains`` and win ``gains``; all repetitions at once."""
    losses, wins = _flips(n, limit + gains, gains, repetitions)
    proven = tango_ps(losses, wins, n, limit) <= 0.05
    return Rate(
        family=f"top-1, {100 * limit:g} point", n=n, proven=float(proven.mean()),
        point_rule=float((losses - wins <= n * limit + 1e-9).mean()), repetitions=repetitions,
    )  # fmt: skip


def _flips(n: int, losses: float, wins: float, repetitions: int) -> tuple[Rows, Rows]:
    drawn = np.random.default_rng(n).multinomial(n, [losses, wins, 1 - losses - wins], size=repetitions)
    return drawn[:, 0].astype(np.float64), drawn[:, 1].astype(np.float64)


def relative(n: int, score: float, keep: float, gains: float, repetitions: int) -> Rate:
    """0/1 answers that keep exactly ``keep`` of a baseline accuracy of ``score``."""
    losses = (1 - keep) * score + gains
    shares = [score - losses, losses, gains, 1 - score - gains]
    a, b, c, _ = np.random.default_rng(n).multinomial(n, shares, size=repetitions).T
    proven = ratio_ps(a, b, c, n, keep) <= 0.05
    return Rate(
        family=f"top-1 relative, {keep:.0%}", n=n, proven=float(proven.mean()),
        point_rule=float((a + c >= keep * (a + b) - 1e-9).mean()), repetitions=repetitions,
    )  # fmt: skip


def drawn(family: str, metric: Metric, budget: Budget, n: int, draw: Draw, repetitions: int, group: int = 1) -> Rate:
    """Any metric: rows of both networks drawn afresh ``repetitions`` times, each judged by ``assess``."""
    random = np.random.default_rng(n)
    groups = np.arange(n) // group if group > 1 else None
    answers = [assess(metric, budget, *draw(random, n), split="confirm", groups=groups) for _ in range(repetitions)]
    return Rate(
        family=family, n=n, proven=float(np.mean([q.met for q in answers])),
        point_rule=float(np.mean([q.drop <= budget.max_drop + 1e-9 for q in answers])), repetitions=repetitions,
    )  # fmt: skip


def changed_answers(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """Agreement: each answer changes with probability 2 %."""
    return np.ones(n), (random.random(n) >= 0.02).astype(np.float64)


def overlap(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """Mask overlap in [0, 1] that loses one point on average: most masks hardly change, a few lose much."""
    base = random.beta(8, 2, n)
    return base, base - np.where(random.random(n) < 0.2, random.exponential(0.05, n), 0)


def clip(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """Overlap of frames from videos of four: what happens to one happens, in part, to its neighbours."""
    base = random.beta(8, 2, n)
    return base, base - 0.01 - np.repeat(random.normal(0, 0.05, n // 4), 4) - random.normal(0, 0.02, n)


def error(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """Absolute errors, exponential with mean 1, that grow by exactly 2 %."""
    base = random.exponential(1.0, n)
    return base, base * (1 + random.normal(0.02, 0.2, n))


def ranking(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """Binormal scores: an area under the curve of 0.90 becomes 0.89."""
    label = (random.random(n) < 0.5).astype(np.float64)
    noise = random.normal(size=n)
    other = np.sqrt(1 - 0.2**2) * noise + 0.2 * random.normal(size=n)
    separations = np.sqrt(2) * stats.norm.ppf([0.90, 0.89])
    return np.stack([label * separations[0] + noise, label], 1), np.stack([label * separations[1] + other, label], 1)


def characters(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """A character error rate of 5 % becomes 6 %."""
    length = random.integers(3, 12, n)
    wrong = random.binomial(length, 0.05)
    more = wrong + random.binomial(length, 0.01)
    return np.stack([wrong, length], 1).astype(np.float64), np.stack([more, length], 1).astype(np.float64)


def classes(random: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """Four classes alike, so that macro F1 is the accuracy: 90 % becomes 89 %, with 1 % of gains."""
    label, place = random.integers(0, 4, n), random.random(n)
    right = place < 0.9
    now = (right & (place >= 0.02)) | ((place >= 0.9) & (place < 0.91))
    first = np.where(right, label, (label + random.integers(1, 4, n)) % 4)
    second = np.where(now == right, first, np.where(now, label, (label + random.integers(1, 4, n)) % 4))
    return np.stack([first, label], 1).astype(np.float64), np.stack([second, label], 1).astype(np.float64)


def all_rates(scale: int = 1) -> list[Rate]:
    """Every family; ``scale`` multiplies the repetitions (1 takes some three minutes)."""
    point, two = Budget(limit=0.01), Budget(kind="relative", limit=0.98)
    return [
        binary(200, 0.01, 0.01, 20_000 * scale),
        binary(500, 0.01, 0.0, 20_000 * scale),
        binary(1000, 0.01, 0.005, 20_000 * scale),
        binary(5000, 0.01, 0.02, 20_000 * scale),
        relative(500, 0.8, 0.99, 0.005, 5_000 * scale),
        relative(2000, 0.7, 0.99, 0.02, 5_000 * scale),
        drawn("agreement, 98 %", AGREEMENT, Budget(kind="agree", limit=0.98), 500, changed_answers, 1000 * scale),
        drawn("overlap, 1 point", IOU, point, 200, overlap, 600 * scale),
        drawn("overlap, 1 point", IOU, point, 1000, overlap, 600 * scale),
        drawn("overlap in videos, 1 point", IOU, point, 800, clip, 400 * scale, group=4),
        drawn("error relative, 98 %", MAE, two, 400, error, 400 * scale),
        drawn("AUC, 1 point", AUC, point, 250, ranking, 100 * scale),
        drawn("macro F1, 1 point", F1, point, 250, classes, 150 * scale),
        drawn("character errors, 1 point", CTC_CER, point, 350, characters, 400 * scale),
    ]


def log_ratios(effect: float, pairs: int, repetitions: int, seed: int = 0) -> Rows:
    """Paired timings [repetitions, pairs] of a noisy machine, the candidate faster by ``effect``.

    Jitter 1 % (log-normal), drift of 5 % standard deviation (AR(1), 0.97 a step), and on 3 % of the runs a spike,
    exponential with mean +20 %. The order inside a pair is drawn.
    """
    random, runs, burn = np.random.default_rng(seed), 2 * pairs, 200
    steps = random.normal(0, 0.05 * np.sqrt(1 - 0.97**2), (repetitions, runs + burn))
    drift = lfilter([1], [1, -0.97], steps, axis=1)[:, burn:]
    spikes = (random.random((repetitions, runs)) < 0.03) * random.exponential(0.2, (repetitions, runs))
    times = (np.exp(drift + random.normal(0, 0.01, (repetitions, runs))) * (1 + spikes)).reshape(repetitions, pairs, 2)
    first = random.random((repetitions, pairs)) < 0.5
    baseline = np.where(first, times[..., 0], times[..., 1])
    candidate = np.where(first, times[..., 1], times[..., 0]) * (1 - effect)
    return np.asarray(np.log(baseline / candidate))


def intervals(ratios: Rows) -> tuple[Rows, Rows]:
    """The sign interval of every row."""
    ordered, k = np.sort(ratios, axis=1), sign_ranks(ratios.shape[1])
    return np.exp(ordered[:, k - 1]), np.exp(ordered[:, -k])


def timing(pairs: int = PAIRS, repetitions: int = 4000) -> dict[str, float]:
    """Shares: identical networks called the same, called different; a gain of 3 % found."""
    low, high = intervals(log_ratios(0.0, pairs, repetitions))
    found, _ = intervals(log_ratios(0.03, pairs, repetitions))
    return {
        "pairs": pairs,
        "same": float(((low >= 1 / (1 + MARGIN)) & (high <= 1 + MARGIN)).mean()),
        "different": float(((low > 1) | (high < 1)).mean()),
        "found_3_percent": float((found > 1).mean()),
    }


def main() -> None:
    rates, speeds = all_rates(), [timing(pairs) for pairs in (20, 30, PAIRS, 80)]
    print("A candidate exactly at its limit is called inside the budget (nominal: at most 5 %)\n")
    print(f"{'metric and budget':30}{'samples':>8}{'hasten':>9}{'point rule':>12}")
    for rate in rates:
        print(f"{rate.family:30}{rate.n:>8,}{rate.proven:>9.1%}{rate.point_rule:>12.0%}")
    print("\nPaired timings on a noisy machine\n")
    print(f"{'pairs':>5}{'identical: same':>18}{'identical: different':>22}{'3 % gain found':>17}")
    for row in speeds:
        print(f"{row['pairs']:>5}{row['same']:>18.1%}{row['different']:>22.1%}{row['found_3_percent']:>17.1%}")
    target = Path(__file__).parent / "results" / "statistics.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"accuracy": [asdict(rate) for rate in rates], "speed": speeds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
