"""Is a candidate inside the accuracy budget? One function picks the test that its metric and data allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.budget import Budget
from hasten.errors import InputError, UsageError
from hasten.measure import proportions, tails
from hasten.measure.provable import at_chance, needed_samples, provable, worse_than_constant
from hasten.measure.scores import Bounds, empirical_bernstein, never_worse, paired_bootstrap, paired_t
from hasten.protocols import Metric
from hasten.trial import Quality, Split

__all__ = ["Question", "assess", "at_chance", "judgeable", "needed_samples", "provable", "worse_than_constant"]

Rows = NDArray[np.float64]

FEW = 100  # below this many scores the t-test is a guess, and a bound that assumes no distribution is used


@dataclass(frozen=True, kw_only=True)
class Question:
    """One comparison: rows of both networks, the share ``keep`` of the baseline's score, and the drop allowed."""

    metric: Metric
    baseline: Rows
    candidate: Rows
    keep: float
    limit: float
    alpha: float
    groups: NDArray[Any] | None

    @property
    def relative(self) -> bool:
        """True when the budget is a share of the baseline's score."""
        return self.keep != 1


def assess(
    metric: Metric,
    budget: Budget,
    baseline_rows: Rows,
    candidate_rows: Rows,
    *,
    split: Split,
    groups: NDArray[Any] | None = None,
    alpha: float | None = None,
) -> Quality:
    """Compare a candidate with the baseline on the same samples, in the same order.

    The drop of a relative budget is a fraction of the baseline's score, so that ``upper`` always compares with
    ``budget.max_drop``. ``alpha`` replaces the budget's own, for futility (0.01) or a worn confirm split.

    Raises:
        UsageError: a relative budget for a metric where it means nothing, or ``agree:`` for another metric.
        InputError: no rows, or not the same number of them; NaN in the baseline.
    """
    baseline = _checked_baseline(metric, budget, baseline_rows, candidate_rows, split)
    keep = budget.limit if budget.kind == "relative" else 1.0
    question = Question(
        metric=metric, baseline=baseline_rows, candidate=candidate_rows, keep=keep, limit=budget.max_drop,
        alpha=budget.alpha if alpha is None else alpha, groups=_repeated(groups),
    )  # fmt: skip
    bounds, flips = _answer(question, baseline)
    value = metric.value(candidate_rows) if not np.isnan(candidate_rows).any() else float("nan")
    return Quality(
        split=split, metric=metric.name, n=len(baseline_rows), baseline=baseline, value=value, drop=bounds.drop,
        lower=bounds.lower, upper=bounds.upper, p_value=bounds.p_value, method=bounds.method,
        met=bool(bounds.p_value <= question.alpha and bounds.upper <= budget.max_drop + 1e-12), flips=flips,
    )  # fmt: skip


def judgeable(metric: Metric, budget: Budget, rows: Rows) -> bool:
    """Whether the baseline's score on these rows is defined, and the budget means something for it.

    A few samples may hold one class only, or no right answer of a weak network; more of them then help.
    """
    if np.isnan(rows).any():
        return True  # that is told elsewhere
    value = metric.value(rows)
    return bool(np.isfinite(value)) and (budget.kind != "relative" or value > 0)


def _checked_baseline(metric: Metric, budget: Budget, baseline_rows: Rows, candidate_rows: Rows, split: Split) -> float:
    """The baseline's score, once the question makes sense."""
    if baseline_rows.shape[0] == 0 or baseline_rows.shape != candidate_rows.shape:
        raise InputError(
            f"{baseline_rows.shape[0]} baseline and {candidate_rows.shape[0]} candidate scores cannot be paired"
        )
    if budget.kind == "agree" and (metric.needs_labels or metric.kind != "binary"):
        raise UsageError(
            f"the budget {budget} counts equal answers, and {metric.name!r} does not", help="use agreement"
        )
    baseline = metric.value(baseline_rows)
    if not np.isfinite(baseline):
        raise InputError(f"metric {metric.name!r} is not defined for the baseline on the {split} split")
    if budget.kind == "relative" and (baseline <= 0 or (metric.kind != "corpus" and (baseline_rows < 0).any())):
        raise UsageError(
            f"the budget {budget} needs a positive score; {metric.name!r} of the baseline is {baseline:.6g}",
            help="write the drop in the metric's own unit, such as 1%",
        )
    return baseline


def _repeated(groups: NDArray[Any] | None) -> NDArray[Any] | None:
    """Groups, when some sample shares its own with another."""
    return groups if groups is not None and len(np.unique(groups)) < len(groups) else None


def _answer(q: Question, baseline: float) -> tuple[Bounds, int | None]:
    if np.isnan(q.candidate).any():
        bad = int(np.isnan(q.candidate.reshape(len(q.candidate), -1)).any(axis=1).sum())
        lost = Bounds(drop=inf, lower=inf, upper=inf, p_value=1.0, method=f"NaN in {bad} of {len(q.candidate)} answers")
        return lost, None
    if q.metric.kind == "corpus":
        return _corpus(q, baseline), None
    if np.isin(q.baseline, (0, 1)).all() and np.isin(q.candidate, (0, 1)).all() and q.metric.kind == "binary":
        return _binary(q, baseline)
    return _scores(q, baseline), None


def _binary(q: Question, baseline: float) -> tuple[Bounds, int]:
    """Counts of right and wrong: exact for agreement, Tango for a drop, Nam and Blackwelder for a ratio."""
    n = len(q.baseline)
    a = int(((q.baseline == 1) & (q.candidate == 1)).sum())
    b = int(((q.baseline == 1) & (q.candidate == 0)).sum())
    c = int(((q.baseline == 0) & (q.candidate == 1)).sum())
    if q.relative:
        bounds = Bounds(
            drop=(b - c) / (a + b), lower=proportions.ratio_lower(a, b, c, n, q.alpha),
            upper=proportions.ratio_upper(a, b, c, n, q.alpha),
            p_value=float(proportions.ratio_ps(a, b, c, n, q.keep)), method="Nam-Blackwelder",
        )  # fmt: skip
    elif not q.metric.needs_labels and c == 0:
        bounds = Bounds(
            drop=b / n, lower=proportions.clopper_pearson_lower(b, n, q.alpha),
            upper=proportions.clopper_pearson_upper(b, n, q.alpha),
            p_value=float(tails.binomial_at_most(b, n, q.limit)), method="Clopper-Pearson",
        )  # fmt: skip
    else:
        bounds = Bounds(
            drop=(b - c) / n, lower=-proportions.tango_upper(c, b, n, q.alpha),
            upper=proportions.tango_upper(b, c, n, q.alpha),
            p_value=proportions.tango_p(b, c, n, q.limit), method="Tango",
        )  # fmt: skip
    if q.groups is None:
        return bounds, b + c
    return _wider(bounds, _scores(q, baseline)), b + c


def _wider(first: Bounds, second: Bounds) -> Bounds:
    """The more careful of both ends: repeated groups widen an interval, but few flips must not narrow it."""
    return replace(
        second,
        lower=min(first.lower, second.lower),
        upper=max(first.upper, second.upper),
        p_value=max(first.p_value, second.p_value),
    )


def _scores(q: Question, baseline: float) -> Bounds:
    """Means of scores. For a share r of the baseline the contrast r x - y has mean <= 0 exactly when it is kept."""
    sign = 1 if q.metric.higher_is_better else -1
    keep = q.keep if sign > 0 else 2 - q.keep  # an error may grow by what a score may lose
    d = sign * (keep * q.baseline - q.candidate)
    limit = 0.0 if q.relative else q.limit
    width = _width(q)
    units = len(d) if q.groups is None else len(np.unique(q.groups))
    if not q.relative and not d.any():
        bounds = never_worse(units, width, limit=limit, alpha=q.alpha)
    elif units < FEW or np.ptp(d) < 1e-12:
        bounds = empirical_bernstein(_means(d, q.groups), 2 * width, limit=limit, alpha=q.alpha)
    else:
        bounds = paired_t(d, limit=limit, alpha=q.alpha, groups=q.groups)
    return _share_of(bounds, baseline, q.limit) if q.relative else bounds


def _width(q: Question) -> float:
    """The range of one score: the metric's own, 1 for shares and 0/1, else what was seen."""
    width = getattr(q.metric, "width", None)
    if width is not None:
        return float(width)
    both = np.concatenate([q.baseline, q.candidate])
    return 1.0 if both.min() >= 0 and both.max() <= 1 else float(np.ptp(both))


def _means(d: Rows, groups: NDArray[Any] | None) -> Rows:
    """One value a group, weighted so that their mean is the samples' mean."""
    if groups is None:
        return d
    _, inverse = np.unique(groups, return_inverse=True)
    sums = np.bincount(inverse, weights=d)
    return np.asarray(sums * (len(sums) / len(d)))


def _share_of(bounds: Bounds, baseline: float, limit: float) -> Bounds:
    """The contrast's bounds as fractions of the baseline: at 0 exactly what is allowed is lost."""
    scale = {name: getattr(bounds, name) / baseline + limit for name in ("drop", "lower", "upper")}
    return replace(bounds, **scale)


def _corpus(q: Question, baseline: float) -> Bounds:
    sign = 1.0 if q.metric.higher_is_better else -1.0
    weighted = getattr(q.metric, "weighted", None)
    keep = q.keep if sign > 0 else 2 - q.keep

    def signed(rows: Rows) -> float:
        return sign * q.metric.value(rows)

    def signed_weighted(rows: Rows) -> Callable[[Rows], Rows]:
        counted = weighted(rows)  # type: ignore[misc]
        return lambda counts: sign * counted(counts)

    bounds = paired_bootstrap(
        signed, q.baseline, q.candidate, limit=0.0 if q.relative else q.limit, alpha=q.alpha, groups=q.groups,
        keep=keep, weighted=signed_weighted if weighted is not None else None,
    )  # fmt: skip
    return _share_of(bounds, baseline, q.limit) if q.relative else bounds
