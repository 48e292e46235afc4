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
from hasten.measure import means, proportions, tails
from hasten.measure.bounds import Bounds
from hasten.measure.constant import at_chance, worse_than_constant
from hasten.measure.corpus import paired_bootstrap
from hasten.measure.posterior import chance_inside
from hasten.measure.provable import needed_samples, provable
from hasten.protocols import Metric
from hasten.trial import Certificate, Quality, Split

__all__ = [
    "Question",
    "assess",
    "at_chance",
    "judgeable",
    "needed_samples",
    "provable",
    "unjudged",
    "worse_than_constant",
]

Rows = NDArray[np.float64]

NOTHING = Bounds(drop=0.0, lower=-inf, upper=inf, p_value=1.0, method="")  # what a grade without a bound says


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
    proves: bool = True  # a look at the search part needs no guarantee, which takes time

    @property
    def relative(self) -> bool:
        """True when the budget is a share of the baseline's score."""
        return self.keep != 1

    @property
    def units(self) -> int:
        """How many independent units were drawn: groups, or samples."""
        return len(self.baseline) if self.groups is None else len(np.unique(self.groups))


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
        proves=split == "confirm",
    )  # fmt: skip
    graded = _answer(question, baseline)
    value = metric.value(candidate_rows) if not np.isnan(candidate_rows).any() else float("nan")
    bounds, safe = graded.statistical, graded.guaranteed
    certificate = _certificate(question, bounds, safe)
    return Quality(
        split=split, metric=metric.name, n=len(baseline_rows), baseline=baseline, value=value, drop=bounds.drop,
        lower=bounds.lower, upper=bounds.upper, p_value=bounds.p_value, method=bounds.method,
        met=certificate == "guaranteed" or (certificate == "statistical" and budget.certificate == "statistical"),
        flips=graded.flips, certificate=certificate, guaranteed_upper=safe.upper, guaranteed_method=safe.method,
        hidden_share=1 - question.alpha ** (1 / question.units),
        chance=chance_inside(bounds, question.limit, graded.counts, question.alpha), level=question.alpha,
    )  # fmt: skip


def unjudged(metric: Metric, split: Split) -> Quality:
    """What is known where these few samples do not define the score: nothing, neither for nor against a candidate."""
    return Quality(
        split=split, metric=metric.name, n=0, baseline=0.0, value=0.0, drop=0.0, lower=-inf, upper=inf,
        p_value=1.0, method=f"{metric.name} is not defined on these samples", met=False, chance=0.5,
    )  # fmt: skip


def judgeable(metric: Metric, budget: Budget, rows: Rows) -> bool:
    """Whether the baseline's score on these rows is defined, and the budget means something for it.

    A few samples may hold one class only, or no right answer of a weak network; more of them then help.
    """
    if np.isnan(rows).any():
        return True  # that is told elsewhere
    value = metric.value(rows)
    return bool(np.isfinite(value)) and (budget.kind != "relative" or value > 0)


def _certificate(q: Question, bounds: Bounds, safe: Bounds) -> Certificate:
    """The strongest grade in which the drop is shown to be inside the limit."""
    if safe.p_value <= q.alpha and safe.upper <= q.limit + 1e-12:
        return "guaranteed"
    return "statistical" if bounds.p_value <= q.alpha and bounds.upper <= q.limit + 1e-12 else "none"


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


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One comparison in both grades; ``counts`` are (losses, gains, n) of 0/1 outcomes."""

    guaranteed: Bounds
    statistical: Bounds
    counts: tuple[int, int, int] | None = None

    @property
    def flips(self) -> int | None:
        """How many outcomes changed, of 0/1 outcomes."""
        return None if self.counts is None else self.counts[0] + self.counts[1]


def _answer(q: Question, baseline: float) -> Graded:
    if np.isnan(q.candidate).any():
        bad = int(np.isnan(q.candidate.reshape(len(q.candidate), -1)).any(axis=1).sum())
        lost = Bounds(drop=inf, lower=inf, upper=inf, p_value=1.0, method=f"NaN in {bad} of {len(q.candidate)} answers")
        return Graded(guaranteed=lost, statistical=lost)
    if q.metric.kind == "corpus":
        return _corpus(q, baseline)
    if np.isin(q.baseline, (0, 1)).all() and np.isin(q.candidate, (0, 1)).all() and q.metric.kind == "binary":
        return _binary(q, baseline)
    return _scores(q, baseline)


def _binary(q: Question, baseline: float) -> Graded:
    """Counts of right and wrong: exact for agreement, Tango for a drop, Nam and Blackwelder for a ratio.

    Their floors are exact, so that one bound serves both grades. Groups are judged by their means as well, and the more
    careful of both ends counts: repeated groups widen an interval, but few flips must not narrow it.
    """
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
        return Graded(guaranteed=bounds, statistical=bounds, counts=(b, c, n))
    graded = _scores(q, baseline)
    return Graded(guaranteed=graded.guaranteed, statistical=_wider(bounds, graded.statistical), counts=(b, c, n))


def _wider(first: Bounds, second: Bounds) -> Bounds:
    return replace(
        second,
        lower=min(first.lower, second.lower),
        upper=max(first.upper, second.upper),
        p_value=max(first.p_value, second.p_value),
    )


def _scores(q: Question, baseline: float) -> Graded:
    """Means of scores. For a share r of the baseline the contrast r x - y has mean <= 0 exactly when it is kept."""
    sign = 1 if q.metric.higher_is_better else -1
    keep = _kept(q)
    d = sign * (keep * q.baseline - q.candidate)
    limit = 0.0 if q.relative else q.limit
    most = _most(q, keep)
    bounds = means.statistical(d, limit=limit, alpha=q.alpha, groups=q.groups)
    safe = replace(NOTHING, drop=float(d.mean()), method=f"{q.metric.name} has no known range")
    if most is not None and (q.proves or bounds is None):
        safe = means.guaranteed(d, most, limit=limit, alpha=q.alpha, groups=q.groups)
    if bounds is None or bounds.upper > safe.upper:
        bounds = replace(safe, lower=bounds.lower if bounds else _least(d, most, q))
    if q.relative:
        safe, bounds = (_share_of(one, baseline, q.limit) for one in (safe, bounds))
    return Graded(guaranteed=safe, statistical=bounds)


def _least(d: Rows, most: float | None, q: Question) -> float:
    """The lower bound of the drop that goes with a guaranteed upper one; gains reach as far as losses."""
    return -inf if most is None else -means.guaranteed(-d, most, limit=0.0, alpha=q.alpha, groups=q.groups).upper


def _kept(q: Question) -> float:
    """The share of the baseline's score to keep; an error may grow by what a score may lose."""
    return q.keep if q.metric.higher_is_better else 2 - q.keep


def _most(q: Question, keep: float) -> float | None:
    """The largest drop that one sample can show: from the metric's range, 0 to 1 for shares of right answers."""
    known = getattr(q.metric, "range", (0.0, 1.0) if q.metric.kind == "binary" else None)
    if known is None:
        return None
    least, most = known
    return float(keep * most - least if q.metric.higher_is_better else most - keep * least)


def _share_of(bounds: Bounds, baseline: float, limit: float) -> Bounds:
    """The contrast's bounds as fractions of the baseline: at 0 exactly what is allowed is lost."""
    scale = {name: getattr(bounds, name) / baseline + limit for name in ("drop", "lower", "upper")}
    return replace(bounds, **scale)


def _corpus(q: Question, baseline: float) -> Graded:
    """A bootstrap; guaranteed only where the metric is a mean over independent parts of the samples (``parts``)."""
    sign = 1.0 if q.metric.higher_is_better else -1.0
    weighted = getattr(q.metric, "weighted", None)
    keep = _kept(q)

    def signed(rows: Rows) -> float:
        return sign * q.metric.value(rows)

    def signed_weighted(rows: Rows) -> Callable[[Rows], Rows]:
        counted = weighted(rows)  # type: ignore[misc]
        return lambda counts: sign * counted(counts)

    strata = q.metric.strata(q.baseline) if hasattr(q.metric, "strata") else None
    limit = 0.0 if q.relative else q.limit
    bounds = paired_bootstrap(
        signed, q.baseline, q.candidate, limit=limit, alpha=q.alpha, groups=q.groups,
        keep=keep, weighted=signed_weighted if weighted is not None else None, strata=strata,
    )  # fmt: skip
    safe = _corpus_guaranteed(q, keep, limit, bounds.drop)
    units = q.units if strata is None else min(q.units, int(np.unique(strata, return_counts=True)[1].min()))
    if units < means.LEAST:
        bounds = replace(safe, method=f"{units} of the rarer class are too few" if strata is not None else safe.method)
    if q.relative:
        safe, bounds = (_share_of(one, baseline, q.limit) for one in (safe, bounds))
    return Graded(guaranteed=safe, statistical=bounds)


def _corpus_guaranteed(q: Question, keep: float, limit: float, drop: float) -> Bounds:
    """Gaffke's bound over the differences of independent parts, where the metric has such and no groups are given."""
    if not hasattr(q.metric, "parts") or q.groups is not None:
        return replace(NOTHING, drop=drop, method=f"{q.metric.name} has no guaranteed bound")
    first, second = q.metric.parts(q.baseline), q.metric.parts(q.candidate)
    if not len(first):
        return replace(NOTHING, drop=drop, method=f"{q.metric.name} is not defined")
    sign = 1.0 if q.metric.higher_is_better else -1.0
    most = _most(q, keep)
    assert most is not None
    found = means.guaranteed(sign * (keep * first - second), most, limit=limit, alpha=q.alpha)
    return replace(found, drop=drop, upper=max(found.upper, drop))
