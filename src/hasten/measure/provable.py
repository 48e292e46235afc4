"""What a set of samples can prove: said before the search, and again when it proved too little."""

from __future__ import annotations

from math import ceil, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.budget import Budget
from hasten.measure import tails
from hasten.measure.proportions import clopper_pearson_upper
from hasten.measure.sizing import FLIPS, MOST, Family, Sizing, sizing
from hasten.measure.sizing import needed as needed_for
from hasten.measure.sizing import power as sizes
from hasten.measure.sizing import smallest as smallest_drop
from hasten.protocols import Metric
from hasten.trial import Provable, Quality

EVEN = 0.5
LEAST_TOLD = 20  # samples below which nothing is said about chance
CERTAIN = 0.001  # of a network that is refused: the chance that it is as good as a constant


def provable(
    budget: Budget, metric: Metric, n_calibrate: int, n_search: int, n_confirm: int, *, score: float = 1.0
) -> Provable:
    """What the confirm split can prove, in one sentence to print before the search."""
    count = f"{n_confirm:,} confirm samples"
    if n_confirm < 1:
        smallest, enough, sentence = None, False, "there are no confirm samples, so nothing can be certified"
    elif not metric.needs_labels and metric.kind == "binary":
        smallest, enough, sentence = _agreement(budget, n_confirm, count)
    elif metric.kind == "binary":
        smallest, enough, sentence = _drop(budget, sizing(budget, metric, score=score), n_confirm, count)
    else:
        smallest, enough = None, n_confirm > 1
        sentence = f"what {count} can certify depends on how much {metric.name} changes from sample to sample"
        sentence += "; below 100 of them it is little" if n_confirm < 100 else ""
    return Provable(
        n_calibrate=n_calibrate, n_search=n_search, n_confirm=n_confirm,
        smallest_drop=smallest, budget_provable=enough, sentence=sentence,
    )  # fmt: skip


def _drop(budget: Budget, asked: Sizing, n: int, count: str) -> tuple[float | None, bool, str]:
    smallest = smallest_drop(asked, n)
    enough = smallest <= budget.max_drop
    of = " of the baseline's score" if budget.kind == "relative" else ""
    allowed = f"{budget.max_drop * 100:.3g} %{of}" if of else _points(budget.max_drop)
    if smallest >= 0.5:
        return None, False, f"{count} are too few to certify any drop; your budget of {allowed} cannot be certified"
    share = f"{FLIPS * 100:g} % of the answers change"
    told = f"{count} can certify a drop of {_points(smallest)} or more where {share}"
    if enough:
        return smallest, True, f"{told}; your budget of {allowed} can be certified"
    needed = needed_for(asked) or MOST
    return smallest, False, f"{told}; your budget of {allowed} needs about {needed:,}"


def _agreement(budget: Budget, n: int, count: str) -> tuple[float | None, bool, str]:
    smallest = clopper_pearson_upper(0, n, budget.alpha)
    below = tails.binomial_at_most(np.arange(n + 1), n, budget.max_drop)
    allowed = int(np.searchsorted(below, budget.alpha, side="right"))
    share = f"{(1 - budget.max_drop) * 100:.4g} % equal answers"
    if allowed:
        return smallest, True, f"{count} can certify {share} while no more than {allowed - 1:,} of them change"
    needed = ceil(log(budget.alpha) / log(1 - budget.max_drop))
    return smallest, False, f"{count} cannot certify {share} even if none changes; that needs {needed:,}"


def _points(drop: float) -> str:
    """A drop in percentage points, in words."""
    number = f"{drop * 100:.2g}"
    return f"{number} point" + ("" if number == "1" else "s")


def likely(quality: Quality, budget: Budget, n_confirm: int, power: float = EVEN) -> bool:
    """Has a proof on ``n_confirm`` samples at least the chance ``power``, from what fewer samples showed?

    A drop seen on few samples is mostly chance, so where an even chance is enough half of it is believed for 0/1
    metrics. A bold guess costs a pass over the confirm split and nothing else: candidates are tested safest first.
    Who wants to be surer believes in one loss more than was seen: none among few says little.
    """
    if not np.isfinite(quality.upper) or n_confirm < 1:
        return False
    asked = sizing_of(quality, budget)
    if quality.flips is None:
        return sizes(asked, n_confirm, quality.drop, deviation(asked, quality)) >= power
    believed = max(quality.drop + 1 / (quality.n + 1) if power > EVEN else quality.drop / 2, 0.0)
    if quality.drop > budget.max_drop or believed >= budget.max_drop:
        return False
    return sizes(asked, n_confirm, believed, (quality.flips + 1) / (quality.n + 1)) >= power


def sizing_of(quality: Quality, budget: Budget) -> Sizing:
    """The question that was asked of a candidate, as far as its answer says."""
    family: Family = "mean" if quality.flips is None else "agreement" if quality.metric == "agreement" else "binary"
    score = quality.baseline if np.isfinite(quality.baseline) and quality.baseline > 0 else 1.0
    return Sizing(
        family=family, limit=budget.max_drop, alpha=budget.alpha, relative=budget.kind == "relative", score=score
    )


def deviation(asked: Sizing, quality: Quality) -> float:
    """The standard deviation of one sample's difference, in the metric's own unit, by the width of the bound."""
    reach = quality.upper - quality.drop if np.isfinite(quality.upper) else quality.drop - quality.lower
    found = reach / tails.normal_upper(quality.level) * float(quality.n**0.5)
    return found * asked.score if asked.relative else found


def needed_samples(quality: Quality, budget: Budget, power: float = 0.8) -> int | None:
    """About how many *more* samples would prove this candidate inside the budget, if its drop is as estimated.

    None when the estimate itself is not inside, so that no number of samples helps.
    """
    room = float(budget.max_drop - quality.drop)
    if not room > 0 or quality.n < 2:
        return None
    asked = sizing_of(quality, budget)
    flips = quality.flips
    spread = deviation(asked, quality) if flips is None else max(flips / quality.n, abs(quality.drop))
    total = needed_for(asked, quality.drop, spread, power) if np.isfinite(spread) else None
    return None if total is None else max(total - quality.n, 1)


def at_chance(metric: Metric, rows: NDArray[np.float64], labels: NDArray[Any]) -> str | None:
    """A warning when the float network does no better than a guess on this data: often wrong preprocessing.

    0/1 scores are compared with guessing each class as often as it occurs (a rare-class detector may be useful and
    still be less often right than "always no"), AUC with one half, errors with always
    answering the mean or median. None: it does better at 95 % confidence, or there is no such guess.
    """
    labels = np.asarray(labels)
    if len(rows) < LEAST_TOLD or np.isnan(rows).any():
        return None
    found = _against_guess(metric, rows, labels)
    if found is None or found[2] <= 0.05:
        return None
    value, guess, _ = found
    return (
        f"the network as given is at chance level on this data: {metric.name} {value:.4g}, a blind guess {guess:.4g}; "
        "is the preprocessing right (scale, channel order, layout), and the label order?"
    )


def worse_than_constant(metric: Metric, rows: NDArray[np.float64], labels: NDArray[Any]) -> str | None:
    """Why the float network is certainly worse than one that always answers the same; None where that is not certain.

    Exact where there is an exact test: for two classes Fisher's, of right answers against the label, since a constant
    answers each class equally often; for more, the binomial of a draw by the classes' shares. Network and labels then
    contradict each other. A weak network is not refused: it may be as good as its task allows.
    """
    labels = np.asarray(labels)
    if len(rows) < LEAST_TOLD or np.isnan(rows).any():
        return None
    found = _below_constant(metric, rows, labels)
    if found is None or found[2] > CERTAIN:
        return None
    value, constant, p_value = found
    told = f"{metric.name} {value:.4g} on {len(rows):,} samples, an answer that is always the same {constant:.4g}"
    return f"{told}; chance explains that with a probability of {p_value:.1g}"


def _below_constant(
    metric: Metric, rows: NDArray[np.float64], labels: NDArray[Any]
) -> tuple[float, float, float] | None:
    """(score, score of a constant, p-value of "no worse than a constant"), or None where no constant is known."""
    n = len(rows)
    found = _against_guess(metric, rows, labels)
    if found is None:
        return None
    value, constant, better = found
    if rows.ndim == 2 or metric.name in ("mae", "mse"):
        return value, constant, 1 - better
    flat = labels.reshape(n)
    classes, kind = np.unique(flat, return_inverse=True)
    right = rows == 1
    if len(classes) == 2:
        first = kind == 0
        chose_first = int((first & right).sum() + (~first & ~right).sum())
        p_value = tails.hypergeometric_at_most(int((first & right).sum()), n, int(first.sum()), chose_first)
        balanced = float(np.mean([right[first].mean(), right[~first].mean()]))
        return balanced, 0.5, p_value
    return value, constant, float(tails.binomial_at_most(int(right.sum()), n, constant))


def _against_guess(
    metric: Metric, rows: NDArray[np.float64], labels: NDArray[Any]
) -> tuple[float, float, float] | None:
    """(score, score of a blind guess, p-value of "no better"), or None where no guess is known."""
    value, n = metric.value(rows), len(rows)
    if metric.name == "auc" and rows.ndim == 2:
        positives = int(rows[:, 1].sum())
        if positives in (0, n):
            return None
        error = ((n + 1) / (12 * positives * (n - positives))) ** 0.5
        return value, 0.5, tails.normal_above((value - 0.5) / error)
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if metric.name == "top1" and flat.shape == (n,) and np.isin(rows, (0, 1)).all():
        _, counts = np.unique(flat, return_counts=True)
        share = float(((counts / n) ** 2).sum())
        return None if len(counts) < 2 else (value, share, tails.binomial_more_than(int(rows.sum()) - 1, n, share))
    if metric.name in ("mae", "mse") and labels.shape[0] == n:
        table = labels.reshape(n, -1).astype(np.float64)
        guess = np.median(table, axis=0) if metric.name == "mae" else table.mean(axis=0)
        blind = (np.abs(table - guess) ** (1 if metric.name == "mae" else 2)).mean(axis=1)
        saved = blind - rows
        spread = float(saved.std(ddof=1)) / n**0.5
        p_value = tails.normal_above(float(saved.mean()) / spread) if spread else float(saved.mean() <= 0)
        return value, float(blind.mean()), p_value
    return None
