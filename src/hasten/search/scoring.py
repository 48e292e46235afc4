"""What candidates are judged by: the metric, and a baseline that answers and does not guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.errors import InputError
from hasten.measure.quality import at_chance
from hasten.metrics import auto_metric, resolve
from hasten.metrics.classes import IGNORED
from hasten.model import TensorSpec
from hasten.protocols import Array, Metric
from hasten.samples import SampleStore
from hasten.search.baseline import does_not_run, measure_baseline
from hasten.search.field import SCREENED, Run
from hasten.search.loading import baseline
from hasten.search.question import Question
from hasten.worker import CallFailed, WorkerDied

PROBE = 16
CHANCE_SAMPLES = 200
GIVE_DATA = "give real data: --data samples.npz"


def choose_metric(run: Run, question: Question) -> None:
    """The user's metric, or the one that fits labels and outputs; the evaluator then reads only what it needs."""
    evaluator = run.evaluator
    names = evaluator.outputs
    if question.output is not None and question.output not in names:
        raise InputError(f"the network has no output {question.output!r}", help=f"outputs: {', '.join(names)}")
    evaluator.keep = tuple(range(len(names)))
    probe = [int(i) for i in run.splits.search[:PROBE]]
    try:
        seen = list(evaluator.answers(baseline(run), probe))
    except (WorkerDied, CallFailed) as fault:
        raise does_not_run(fault) from fault
    outputs = {
        n: np.concatenate([np.atleast_1d(a[k]) for _, a in seen]) for k, n in enumerate(names) if _joins(seen, k)
    }
    truth = _joined(evaluator.store, probe) if question.scored and evaluator.store.labels is not None else None
    if question.metric is None:
        looked_at = {question.output: outputs[question.output]} if question.output else outputs
        metric, why = auto_metric(looked_at, truth)
        run.say("note", f"metric: {metric.name} ({why})")
        metric = resolve(metric, output=question.output)
    else:
        metric = resolve(question.metric, output=question.output, sample=(outputs, truth))
    if metric.needs_labels and evaluator.store.labels is None:
        raise InputError(
            f"the metric {metric.name} needs labels and the data has none",
            help="name them with --labels, or leave out --metric to compare with the network's own answers",
        )
    evaluator.metric = metric
    evaluator.keep = kept_outputs(metric, run.outputs, question.output)


def kept_outputs(metric: Metric, outputs: Sequence[TensorSpec], named: str | None) -> tuple[int, ...]:
    """Positions of the outputs that the metric reads: the one named, all for a function, else the first float."""
    if named is None and not hasattr(metric, "output"):
        return tuple(range(len(outputs)))
    for position, spec in enumerate(outputs):
        if spec.name == named or (named is None and "float" in spec.dtype):
            return (position,)
    return (0,)


def check_baseline(run: Run) -> None:
    """The commonest user error is data that does not fit: stop when the network guesses.

    Raises:
        InputError: all answers are NaN, or the score is no better than guessing.
    """
    ids = [int(i) for i in run.splits.search[:SCREENED]]
    measure_baseline(run, ids)
    broken = run.evaluator.broken
    if len(broken) == len(ids):
        help_text = GIVE_DATA if run.made_up else "check the preprocessing and the input scale"
        raise InputError("the network answers NaN on every sample", help=help_text)
    if broken:
        first = ", ".join(str(i) for i in sorted(broken)[:5])
        run.say("warning", f"the network itself answers NaN on {len(broken)} of {len(ids)} samples (ids {first}, ...)")
    rows = run.evaluator.known(ids[:CHANCE_SAMPLES])
    labels = run.evaluator.store.labels
    if run.evaluator.metric.needs_labels and labels is not None:
        text = at_chance(run.evaluator.metric, rows, _joined(run.evaluator.store, ids[:CHANCE_SAMPLES]))
        if text:
            raise InputError(
                "the network does no better than guessing on this data",
                cause=text,
                help="check preprocessing (scale, channel order, layout), the order of classes and the labels",
            )


def _joined(store: SampleStore, ids: Sequence[int]) -> Array:
    """The labels of ``ids`` along axis 0: a row a sample, or a row a step for sequences."""
    assert store.labels is not None
    parts = [np.asarray(store.labels[i]) for i in ids]
    if store.sequential:
        joined = np.concatenate(parts)
        return np.asarray(joined[joined != IGNORED])
    longest = max((len(p) for p in parts if p.ndim), default=0)
    padded = [np.pad(p, (0, longest - len(p)), constant_values=-1) if p.ndim == 1 else p for p in parts]
    return np.stack(padded)


def _joins(seen: Sequence[tuple[int, list[Array]]], k: int) -> bool:
    """Outputs of different shapes cannot be joined; the metric's guess goes without them."""
    return len({np.atleast_1d(a[k]).shape[1:] for _, a in seen}) == 1
