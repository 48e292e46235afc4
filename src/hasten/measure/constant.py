"""Is a network better than an answer that is always the same, and does its metric see the difference?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.budget import Budget
from hasten.compare import kind
from hasten.measure import tails
from hasten.protocols import Array, Metric

LEAST_TOLD = 20  # samples below which nothing is said about chance
CERTAIN = 0.001  # of a network that is refused: the chance that it is as good as a constant
MOST_CLASSES = 8  # the commonest, of which each is tried as the answer that is always the same


def constants(seen: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Answers that are always the same, made of answers ``seen``: all outputs, each with a batch axis of one.

    The mean, the median, the least and the largest of each number; and for vectors the mean with one entry raised above
    all others, since a class that is always chosen is the best constant of a score that counts right ones. Empty where
    shapes differ from sample to sample.
    """
    outputs = list(zip(*seen, strict=True))
    if not outputs or any(len({a.shape for a in arrays}) > 1 for arrays in outputs):
        return []
    ways = [lambda a: a.mean(0), lambda a: np.median(a, axis=0), lambda a: a.min(0), lambda a: a.max(0)]
    found = [[_constant(list(arrays), way) for arrays in outputs] for way in ways]
    vectors = (k for k, a in enumerate(found[0]) if kind(a.dtype) == "number" and a.ndim == 2 and a.shape[1] > 1)
    first = next(vectors, None)
    if first is None:
        return found
    decided = np.unique([int(np.argmax(one[first][0])) for one in seen], return_counts=True)
    for k in decided[0][np.argsort(-decided[1])][:MOST_CLASSES]:
        raised = found[0][first].copy()
        raised[:, int(k)] = max(float(raised.max()), float(found[3][first].max()))
        others = np.arange(raised.shape[1]) != int(k)
        raised[:, others] = np.minimum(raised[:, others], float(found[2][first].min()))
        found.append([raised if j == first else a for j, a in enumerate(found[0])])
    return found


def _constant(arrays: list[Array], way: Any) -> Array:
    """One array for all; of whole numbers and text the commonest value at each position."""
    stacked = np.stack(arrays)
    if kind(stacked.dtype) == "number":
        wide = np.where(np.isfinite(stacked.astype(np.float64)), stacked.astype(np.float64), 0.0)
        return np.asarray(way(wide), arrays[0].dtype)
    flat = stacked.reshape(-1)
    values, inverse = np.unique(flat.astype(str), return_inverse=True)
    commonest = int(np.bincount(inverse, minlength=len(values)).argmax())
    return np.full(arrays[0].shape, flat[int(np.argmax(inverse == commonest))], arrays[0].dtype)


def gained(metric: Metric, budget: Budget, value: float, constant: float) -> float:
    """How much better than a constant a score is, in the unit of the budget."""
    better = value - constant if metric.higher_is_better else constant - value
    return better / value if budget.kind == "relative" and value > 0 else better


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
    if metric.name == "r2" and rows.ndim == 2 and labels.shape[0] == n:
        errors, numbers = rows.reshape(n, 7, -1)[:, 5:].transpose(1, 0, 2)
        table = labels.reshape(n, -1).astype(np.float64)
        if errors.shape != table.shape or np.isnan(table).any() or not numbers.all():
            return None
        spread = np.maximum(table.var(0), 1e-300)
        saved = (np.square(table - table.mean(0)) / spread - errors / spread).mean(1)
        error = float(saved.std(ddof=1)) / n**0.5
        return value, 0.0, tails.normal_above(float(saved.mean()) / error) if error else float(saved.mean() <= 0)
    if metric.name in ("mae", "mse") and labels.shape[0] == n:
        table = labels.reshape(n, -1).astype(np.float64)
        guess = np.median(table, axis=0) if metric.name == "mae" else table.mean(axis=0)
        blind = (np.abs(table - guess) ** (1 if metric.name == "mae" else 2)).mean(axis=1)
        saved = blind - rows
        spread = float(saved.std(ddof=1)) / n**0.5
        p_value = tails.normal_above(float(saved.mean()) / spread) if spread else float(saved.mean() <= 0)
        return value, float(blind.mean()), p_value
    return None
