"""What a set of samples can prove: said before the search, and again when it proved too little."""

from __future__ import annotations

from math import ceil, log

import numpy as np

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
