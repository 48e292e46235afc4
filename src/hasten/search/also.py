"""Further scores that a candidate must keep beside the metric: ``sensitivity>=-0.5%``, ``auc``, ``mae<=+1%``.

Each has a budget of its own and is tested at the same level as the metric; all must hold, so that no level is divided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from hasten.budget import Budget, parse_budget
from hasten.errors import InputError, UsageError
from hasten.measure.quality import assess, judgeable, unjudged
from hasten.metrics import resolve
from hasten.metrics.fit import fitted
from hasten.protocols import Array, Metric
from hasten.registry import canonical
from hasten.search.field import Run
from hasten.trial import Quality, Split

FORM = re.compile(r"\s*([\w@.\[\]:^-]+?)\s*(?:(>=|<=|=>|=<)\s*([+-]?)\s*(.+?))?\s*")
WRITE = "write a metric alone, or with what it may lose: --also 'sensitivity>=-0.5%', --also 'mae<=+1%'"


@dataclass(frozen=True)
class Condition:
    """A further metric and what it may lose."""

    text: str
    metric: Metric
    budget: Budget


def named(text: str) -> tuple[str, str | None]:
    """The metric's name and the loss that is allowed, None where that is the budget's.

    Raises:
        UsageError: it is another form.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise UsageError(f"cannot read the condition {text!r}", help=WRITE)
    name, sign, direction, amount = match.groups()
    if sign is None:
        return name, None
    if not direction and not amount.startswith("rel:"):
        cause = "a condition is about what is lost of the network's own score, not about the score itself"
        raise UsageError(f"cannot read the condition {text!r}", cause=cause, help=WRITE)
    if (sign in (">=", "=>")) != (direction != "+"):
        raise UsageError(f"cannot read the condition {text!r}", cause="it would demand a better score", help=WRITE)
    return name, amount


def conditions(
    texts: Sequence[str], budget: Budget, outputs: Mapping[str, Array], truth: Array | None, output: str | None
) -> tuple[Condition, ...]:
    """The conditions ``texts``, fitted to the answers and labels of a few samples.

    Raises:
        UsageError: a form or a name is not known. InputError: a metric needs labels that the data has not.
    """
    found = []
    for text in texts:
        name, amount = named(text)
        metric, _ = fitted(resolve(canonical("metrics", name), output=output), outputs, truth)
        if metric.needs_labels and truth is None:
            raise InputError(f"the condition {text!r} needs labels and the data has none", help="name them: --labels")
        own = budget if amount is None else parse_budget(amount, budget.confidence)
        if own.kind == "agree":
            own = replace(own, kind="absolute", limit=1 - own.limit)
        found.append(Condition(text, metric, replace(own, certificate=budget.certificate)))
    return tuple(found)


def with_conditions(
    run: Run, ids: Sequence[int], quality: Quality, split: Split, alpha: float | None = None
) -> Quality:
    """``quality`` where every condition holds as well, with a sentence for each; else that of the first that does not.

    On search samples, where nothing holds for certain, that of the least likely to hold.
    """
    if not run.conditions:
        return quality
    found = [_quality(run, k, ids, split, alpha) for k in range(len(run.conditions))]
    told = tuple(_sentence(c, q) for c, q in zip(run.conditions, found, strict=True))
    if split == "search":
        return replace(min([quality, *found], key=lambda q: q.chance), also=told)
    failed = [q for q in found if not q.met]
    worst = failed[0] if quality.met and failed else quality
    return replace(worst, p_value=max(q.p_value for q in (quality, *found)), also=told)


def _quality(run: Run, k: int, ids: Sequence[int], split: Split, alpha: float | None) -> Quality:
    condition, evaluator = run.conditions[k], run.evaluator
    known = np.concatenate([evaluator.also_known[int(i)][k] for i in ids])
    rows = np.concatenate([evaluator.also_rows[int(i)][k] for i in ids])
    if not judgeable(condition.metric, condition.budget, known):
        return unjudged(condition.metric, split)
    groups = evaluator.groups(ids)
    return assess(condition.metric, condition.budget, known, rows, split=split, groups=groups, alpha=alpha)


def _sentence(condition: Condition, quality: Quality) -> str:
    if not quality.n:
        return f"{condition.metric.name}: not defined on these samples"
    allowed = condition.budget.max_drop * 100
    return (
        f"{condition.metric.name}: {quality.baseline:.4g} becomes {quality.value:.4g}, a loss of at most "
        f"{quality.upper * 100:.2f} points (allowed {allowed:g})"
    )


def metrics_of(found: Sequence[Condition]) -> tuple[Metric, ...]:
    """Their metrics, for the evaluator."""
    return tuple(cast(Any, one.metric) for one in found)
