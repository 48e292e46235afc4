"""Deciding early and deciding often, without paying for it in false claims."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hasten.measure.proportions import tango_p
from hasten.measure.scores import paired_t

Rows = NDArray[np.float64]

LOOKS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)  # samples after which a candidate may be given up
FUTILE = 0.01  # how sure: one candidate in a hundred at the limit is given up wrongly, none is accepted wrongly


def clearly_over(reference_rows: Rows, candidate_rows: Rows, limit: float, alpha: float = FUTILE) -> bool:
    """True when the drop of rows (higher is better) is proven to exceed ``limit``: give the candidate up.

    Rows of 0 and 1 use Tango's score test, others the paired t-test. Looking often is free: it can only lose a good
    candidate (about ``alpha`` a look), never let a bad one in.
    """
    d = reference_rows - candidate_rows
    if np.isnan(d).any():
        return True
    if np.isin(reference_rows, (0, 1)).all() and np.isin(candidate_rows, (0, 1)).all():
        losses, gains = int((d > 0).sum()), int((d < 0).sum())
        return tango_p(gains, losses, len(d), -limit) <= alpha  # candidate and reference change places
    return len(d) > 1 and paired_t(d, limit=limit, alpha=alpha).lower > limit


def e_process(reference_rows: Rows, candidate_rows: Rows, limit: float) -> Rows:
    """Wealth after each sample of a bet that the drop is below ``limit``; accept at any time it reaches 1 / alpha.

    Waudby-Smith and Ramdas, arXiv 2010.09686, section 4: a martingale at the limit, so that by Ville's inequality
    it ever reaches 1 / alpha with probability at most alpha. Rows lie in [0, 1], in an order drawn at random.
    The stake is the approximate Kelly bet from the samples before, at most 3/4 of what would ruin.
    """
    x = (1 + np.asarray(reference_rows) - np.asarray(candidate_rows)) / 2
    mean_at_limit = (1 + limit) / 2
    count = np.arange(1, x.shape[-1] + 1)
    means = (0.5 + np.cumsum(x, axis=-1)) / (count + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2, axis=-1)) / (count + 1)
    first = np.full((*x.shape[:-1], 1), 0.5)
    edge = mean_at_limit - np.concatenate([first, means[..., :-1]], axis=-1)
    before = np.concatenate([first / 2, variances[..., :-1]], axis=-1)
    stake = np.clip(edge / (before + edge**2), 0, 0.75 / (1 - mean_at_limit))
    return np.asarray(np.exp(np.cumsum(np.log1p(stake * (mean_at_limit - x)), axis=-1)))


def accepted_at(reference_rows: Rows, candidate_rows: Rows, limit: float, alpha: float = 0.05) -> int | None:
    """How many samples the bet needed to prove the drop below ``limit``; None when all of them were not enough."""
    won = np.flatnonzero(e_process(reference_rows, candidate_rows, limit) >= 1 / alpha)
    return int(won[0]) + 1 if len(won) else None


def fixed_sequence(p_values: Sequence[float], alpha: float = 0.05) -> int:
    """How many of these, tested in this order, pass before the first failure.

    The order is fixed beforehand, safest first; the chance that any pass is false stays alpha (Learn then Test,
    arXiv 2110.01052). Going on after a failure would be a second chance, and is not done.
    """
    return sum(1 for _ in takewhile(lambda p: p <= alpha, p_values))


def worn_alpha(alpha: float, look: int) -> float:
    """What is left of alpha for the ``look``-th look (1, 2, ...) at the same confirm samples: 6 / (pi j)^2 of it.

    All looks together spend alpha. A set that nobody promises to look at again would get all of it at the first.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return alpha * 6 / (pi**2 * look**2)


def simultaneous_upper(d: Rows, alpha: float = 0.05, resamples: int = 2000, seed: int = 0) -> Rows:
    """Upper bounds of all drops together: ``d`` [candidates, n], fixed before the samples were seen.

    For too few samples to keep a confirm split: the max-statistic bootstrap (White's reality check) uses what the
    candidates have in common. A candidate that changed nothing has no spread; its bound is its mean.
    """
    count, n = d.shape
    mean, error = d.mean(axis=1), d.std(axis=1, ddof=1) / np.sqrt(n)
    live = error > 0
    if not live.any():
        return np.asarray(mean)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    worst = ((weights @ d[live].T - mean[live]) / error[live]).max(axis=1)
    quantile = max(float(np.quantile(worst, 1 - alpha, method="higher")), float(stats.t.isf(alpha / count, n - 1)) / 2)
    return np.asarray(mean + quantile * error)
