"""The metric is questioned: can it tell the network from an answer that is always the same, by at least the budget?

Where it cannot, a candidate that answers nothing would pass. Another metric is chosen then, where hasten chose; where
the user did, nothing is certified by it, and those that can tell are proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from hasten.errors import HastenError
from hasten.measure.constant import constants, gained
from hasten.measure.evaluate import NewNaN
from hasten.measure.kinds import CLASSES
from hasten.measure.quality import judgeable
from hasten.metrics import resolve
from hasten.metrics.binary import BinaryRate
from hasten.metrics.fidelity import fidelity
from hasten.metrics.fit import fitted
from hasten.metrics.values import Iou
from hasten.protocols import Array, Metric
from hasten.search.answers import remembered
from hasten.search.run import Run

FOR_CLASSES = ("balanced_accuracy", "ap", "auc", "f1")
FOR_PLACES = ("dice", "miou")
FOR_NUMBERS = ("r2",)
ONE_SIDED = ("recall", "precision", "specificity")  # rates that one constant answer makes perfect
RARE = 0.05  # of the labels: what is rarer is counted as rare


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Answers of the network as given, all outputs a sample, with its labels: what a metric is tried on."""

    seen: Sequence[Sequence[Array]]
    outputs: dict[str, Array]
    labels: Array | None
    output: str | None


def blind(run: Run, ids: Sequence[int], probe: Probe) -> tuple[float, float] | None:
    """(score, that of the best constant) where they differ by less than the budget; None where the metric can tell.

    ``ids`` are samples on which the baseline was scored.
    """
    evaluator, metric, store = run.evaluator, run.evaluator.metric, run.evaluator.store
    if store.sequential or run.evaluator.broken or run.made_up or evaluator.also or not run.contract:
        return None
    value = metric.value(run.evaluator.known(ids))
    found = [constant for answer in constants(probe.seen) if (constant := _score(run, ids, answer)) is not None]
    if not found or not np.isfinite(value):
        return None
    best = max(found) if metric.higher_is_better else min(found)
    return None if gained(metric, run.budget, value, best) > run.budget.max_drop else (value, best)


def _score(run: Run, ids: Sequence[int], answer: Sequence[Array]) -> float | None:
    """The score of one constant; None where the metric does not take it."""
    read = [answer[k] for k in run.evaluator.keep]
    try:
        rows = np.concatenate([run.evaluator.row(i, list(read)) for i in ids])
        value = run.evaluator.metric.value(rows)
    except (NewNaN, HastenError, ValueError):
        return None
    return value if np.isfinite(value) else None


def alternatives(run: Run, probe: Probe) -> list[Metric]:
    """Metrics for the same answers and labels that may see more, best first."""
    kind = next((o.kind for o in run.contract if probe.output in (None, o.name)), "quantity")
    labels = probe.labels
    if labels is None:
        return [cast(Metric, fidelity(probe.outputs, probe.output))]
    several = labels.ndim > 1 and labels[0].size > 1
    names: tuple[str, ...] = FOR_NUMBERS
    if kind == "mask" or (kind in CLASSES and several):
        names = FOR_PLACES
    elif kind in (*CLASSES, "flags"):
        names = ("f1_multilabel", "ap_macro") if several else FOR_CLASSES
    found = []
    for name in names:
        if name == run.evaluator.metric.name:
            continue
        metric, _ = fitted(resolve(name, output=probe.output), probe.outputs, labels)
        found.append(metric)
    return found


def preferred(run: Run, metric: Metric, why: str, probe: Probe) -> tuple[Metric, str]:
    """hasten's own choice once more, from what the output is: by each column's variance where its columns are numbers.

    An error in the unit of the labels has no budget of points that means something; the share of variance has one.
    """
    name = probe.output or next((n for n, a in probe.outputs.items() if np.asarray(a).dtype.kind == "f"), None)
    found = next((o for o in run.contract if o.name == name), None)
    if found is None or run.budget.kind == "agree":
        return metric, why
    if probe.labels is not None:
        if metric.name != "mae" or run.budget.kind == "relative":
            return metric, why
        return resolve("r2", output=probe.output), f"{why}, of any scale"
    several = found.kind == "flags" and len(found.spreads) > 1
    if found.kind in ("quantity", "boxes") or several:
        return fidelity(probe.outputs, probe.output), f"no labels, and output {name!r} is {found.kind}"
    if found.kind == "mask":
        own = Iou(name="own_iou", needs_labels=False, threshold=found.threshold)
        return cast(Metric, own), f"no labels, and output {name!r} is a mask"
    return metric, why


def switched(run: Run, ids: Sequence[int], probe: Probe) -> list[Metric]:
    """The alternatives that can tell the network from a constant; the evaluator is left with the metric that it had."""
    evaluator = run.evaluator
    before = (evaluator.metric, evaluator.baseline_rows, evaluator.reference)
    found = []
    for metric in alternatives(run, probe):
        use(run, metric)
        try:
            rescored(run, ids)
            if judgeable(metric, run.budget, evaluator.known(ids)) and blind(run, ids, probe) is None:
                found.append(metric)
        except (NewNaN, HastenError, ValueError):
            continue
        finally:
            evaluator.metric, evaluator.baseline_rows, evaluator.reference = before
    return found


def use(run: Run, metric: Metric) -> None:
    """From now on the evaluator scores by ``metric``, which reads the same output."""
    run.evaluator.metric, run.evaluator.baseline_rows, run.evaluator.reference = metric, {}, {}


def rescored(run: Run, ids: Sequence[int]) -> None:
    """The baseline's rows by the evaluator's metric, from answers that are kept."""
    evaluator = run.evaluator
    for i, old in remembered(run, ids):
        read = [old[k] for k in evaluator.keep]
        if not evaluator.metric.needs_labels:
            named = dict(zip((evaluator.outputs[k] for k in evaluator.keep), read, strict=True))
            evaluator.reference[i] = evaluator.metric.reference(named)
        evaluator.baseline_rows[i] = evaluator.row(i, read)


def question(run: Run, ids: Sequence[int], probe: Probe, *, chosen: bool) -> list[str]:
    """Question the metric on ``ids``. Returns warnings; where hasten chose the metric it may choose another."""
    told = prevalence(run.evaluator.store.labels if probe.labels is not None else None)
    if told:
        run.say("note", told)
    found = blind(run, ids, probe)
    if found is None:
        return []
    text, able = words(run, *found), switched(run, ids, probe)
    if isinstance(run.evaluator.metric, BinaryRate) and run.evaluator.metric.rate in ONE_SIDED:
        return [f"{text}: it counts one kind of error, and the decisions of both classes are kept besides"]
    if chosen and able and run.budget.kind != "agree":
        use(run, able[0])
        rescored(run, ids)
        run.say("note", f"metric: {able[0].name}, since {text}")
        return []
    uncertified(run)
    proposed = f"; these can: {', '.join(m.name for m in able)} (--metric {able[0].name})" if able else ""
    return [f"{text}, so that nothing is certified by it{proposed}"]


def words(run: Run, value: float, constant: float) -> str:
    """That the metric is blind, in words."""
    metric = run.evaluator.metric.name
    return (
        f"{metric} cannot tell the network ({value:.4g}) from an answer that is always the same ({constant:.4g}): "
        f"they differ by less than the budget of {run.budget}"
    )


def uncertified(run: Run) -> None:
    """Nothing is tested from now on: all samples become the pilot, and candidates get an estimate."""
    splits = run.splits
    every = np.unique(np.concatenate([splits.calibrate, splits.search, splits.confirm]))
    run.splits = replace(splits, search=np.random.default_rng(0).permutation(every), confirm=np.empty(0, np.int64))
    run.wanted = []


def prevalence(labels: object) -> str:
    """How rare the rarest class is, where that is rare; else empty."""
    if not isinstance(labels, np.ndarray) or labels.size != len(labels):
        return ""
    classes, counts = np.unique(np.asarray(labels).reshape(-1), return_counts=True)
    whole = classes.dtype.kind in "iub"
    if not whole or not 2 <= len(classes) <= len(labels) // 10 or counts.min() > RARE * counts.sum():
        return ""
    rarest = int(counts.argmin())
    return f"{counts[rarest]:,} of {counts.sum():,} labels ({counts[rarest] / counts.sum():.2%}) are {classes[rarest]}"
