"""What candidates are judged by: the metric, and a baseline that answers and does not guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hasten.errors import InputError
from hasten.measure.quality import at_chance, judgeable, worse_than_constant
from hasten.metrics import auto_metric, resolve
from hasten.metrics.balanced import BalancedAccuracy
from hasten.metrics.binary import BinaryRate
from hasten.metrics.boxes import BoxPrecision
from hasten.metrics.corpus import Auc
from hasten.metrics.curves import AveragePrecision, SensitivityAt
from hasten.metrics.fit import fitted
from hasten.model import TensorSpec
from hasten.protocols import Array, Metric
from hasten.search.also import conditions, metrics_of
from hasten.search.answers import held
from hasten.search.baseline import does_not_run, measure_baseline
from hasten.search.contract import draw_up
from hasten.search.field import SCREENED, Run
from hasten.search.label_reading import joined as _joined
from hasten.search.label_reading import read_labels
from hasten.search.loading import baseline
from hasten.search.question import Question
from hasten.search.questioned import Probe, blind, preferred
from hasten.search.questioned import question as question_metric
from hasten.worker import CallFailed, WorkerDied

PROBE = 64  # samples from which outputs are described and a metric is chosen
FEW = 0.01  # the share of samples with NaN that spoils answers and is a warning, not an error (chosen)
MOST_CHECKED = 2000  # samples on which a baseline that looks like a guess is scored again
CONTRADICTION = "check preprocessing (scale, channel order, layout), the order of classes and the labels"
ERRORS = "check the unit of labels and outputs (scaled? logits?) and preprocessing, or choose another: --metric"
TWO_CLASSES = (Auc, AveragePrecision, SensitivityAt, BinaryRate, BalancedAccuracy)
GIVE_DATA = "give real data: --data samples.npz"


def choose_metric(run: Run, question: Question) -> Probe:
    """The user's metric, or the one that fits labels and outputs; the evaluator then reads only what it needs.

    Returns the answers that it was chosen from.
    """
    evaluator = run.evaluator
    names = evaluator.outputs
    if question.output is not None and question.output not in names:
        raise InputError(f"the network has no output {question.output!r}", help=f"outputs: {', '.join(names)}")
    evaluator.keep = tuple(range(len(names)))
    probe = [int(i) for i in run.splits.scored[:PROBE]]
    try:
        seen = held(evaluator.answers(baseline(run), probe))
    except (WorkerDied, CallFailed) as fault:
        raise does_not_run(fault) from fault
    probe = probe[: len(seen)]
    outputs = {n: np.concatenate([np.atleast_1d(a[k]) for a in seen]) for k, n in enumerate(names) if _joins(seen, k)}
    read_labels(run, question, outputs, probe)
    truth = _joined(evaluator.store, probe) if evaluator.store.labels is not None else None
    if question.judged:
        draw_up(run, question, seen, truth)
    tried = Probe(seen=seen, outputs=outputs, labels=truth, output=question.output)
    if question.metric is None:
        looked_at = {question.output: outputs[question.output]} if question.output else outputs
        metric, why = preferred(run, *auto_metric(looked_at, truth), tried)
        if not run.made_up:
            run.say("note", f"metric: {metric.name} ({why})")
        metric = resolve(metric, output=question.output) if question.output else metric
    else:
        better = not question.lower_is_better
        metric = resolve(question.metric, output=question.output, sample=(outputs, truth), higher_is_better=better)
        metric, why = fitted(metric, outputs, truth)
        if why:
            run.say("note", why)
    if metric.needs_labels and evaluator.store.labels is None:
        raise InputError(
            f"the metric {metric.name} needs labels and the data has none",
            help="name them with --labels, or leave out --metric to compare with the network's own answers",
        )
    run.conditions = conditions(question.also, run.budget, outputs, truth, question.output)
    evaluator.metric, evaluator.also = metric, metrics_of(run.conditions)
    several = (kept_outputs(m, run.outputs, question.output) for m in (metric, *evaluator.also))
    evaluator.keep = tuple(sorted({k for kept in several for k in kept}))
    return tried


def kept_outputs(metric: Metric, outputs: Sequence[TensorSpec], named: str | None) -> tuple[int, ...]:
    """Positions of the outputs that the metric reads: the one named, all for a function, else the first float."""
    if named is None and (not hasattr(metric, "output") or isinstance(metric, BoxPrecision)):
        return tuple(range(len(outputs)))
    for position, spec in enumerate(outputs):
        if spec.name == named or (named is None and "float" in spec.dtype):
            return (position,)
    return (0,)


def check_baseline(run: Run, probe: Probe, *, judged: bool = True, chosen: bool = False) -> list[str]:
    """The commonest user error is data that does not fit: stop when network and labels contradict each other.

    The baseline alone may be scored on any sample: no candidate is chosen by it. A score that a few samples do not
    define (a rare class) is looked for in more of them. Where the test part does not define it, nothing can be
    certified, and candidates are estimated on all samples. Where the metric does not see the difference to a constant
    answer, nothing is certified by it, or another is used if hasten chose it (``chosen``). Returns warnings. Where
    nothing is ``judged`` by the score, a contradiction is a warning too.

    Raises:
        InputError: all answers are NaN, no sample defines the score, or a constant answer is certainly better.
    """
    metric, known = run.evaluator.metric, run.evaluator.known
    warnings = _classes_everywhere(run)
    every = [int(i) for i in run.splits.scored[: max(MOST_CHECKED, len(run.splits.search))]]
    ids = every[:SCREENED]
    measure_baseline(run, ids)
    if not judgeable(metric, run.budget, known(ids)) or _at_chance(run, ids) or blind(run, ids, probe):
        ids = every
        measure_baseline(run, ids)
    broken = run.evaluator.broken
    if len(broken) == len(ids):
        help_text = GIVE_DATA if run.made_up else "check the preprocessing and the input scale"
        raise InputError("the network answers NaN on every sample", help=help_text)
    if len(broken) > max(1, FEW * len(ids)) and run.evaluator.store.not_finite:
        cause = f"{run.evaluator.store.not_finite:,} of {len(run.evaluator.store):,} samples hold them in their inputs"
        what = f"the network answers NaN or infinity on {len(broken):,} of {len(ids):,} samples"
        raise InputError(what, cause=cause, help="mend those samples, or leave them out")
    if broken:
        first = ", ".join(str(i) for i in sorted(broken)[:5])
        warnings.append(f"the network itself answers NaN on {len(broken)} of {len(ids)} samples (ids {first}, ...)")
    if judged and not judgeable(metric, run.budget, known(ids)):
        raise _undefined(run, ids)
    if (text := _worse(run, ids)) and not judged:
        warnings.append(f"the network is worse than a constant answer on this data: {text}")
    elif text:
        help_text = ERRORS if metric.name in ("mae", "mse") else CONTRADICTION
        raise InputError("the network is worse than a constant answer on this data", cause=text, help=help_text)
    if text := _at_chance(run, ids):
        warnings.append(text)
    warnings += _questioned(run, ids, probe, chosen=chosen)
    for text in warnings:
        run.say("warning", text)
    return warnings


def _questioned(run: Run, ids: Sequence[int], probe: Probe, *, chosen: bool) -> list[str]:
    """Another metric may need both classes in the test part."""
    before = run.evaluator.metric
    warnings = question_metric(run, ids, probe, chosen=chosen)
    return warnings if run.evaluator.metric is before else [*warnings, *_classes_everywhere(run)]


def _undefined(run: Run, ids: Sequence[int]) -> InputError:
    """No sample of the search part defines the score, or a share of it means nothing."""
    metric = run.evaluator.metric
    value = metric.value(run.evaluator.known(ids))
    if np.isfinite(value):
        return InputError(
            f"the budget {run.budget} is a share of the score, and {metric.name} is {value:.4g}",
            cause=f"on {len(ids):,} samples",
            help="check the labels, or write the drop in points: --max-drop 1%",
        )
    return InputError(
        f"{metric.name} is not defined on this data", cause=f"on {len(ids):,} samples", help="choose another: --metric"
    )


def _classes_everywhere(run: Run) -> list[str]:
    """Some scores need both classes in the test part; with too few samples of one, all samples become the pilot."""
    labels, splits, metric = run.evaluator.store.labels, run.splits, run.evaluator.metric
    if not isinstance(metric, TWO_CLASSES) or labels is None or run.evaluator.store.sequential:
        return []
    found, counts = np.unique(np.asarray(labels).reshape(-1), return_counts=True)
    if len(found) < 2:
        raise InputError(
            f"{metric.name} needs samples of two classes",
            cause=f"all {len(labels):,} labels are {found[0] if len(found) else 'missing'}",
            help="give samples of the other class, or compare answers: --max-drop agree:99%",
        )
    tested = np.unique(np.asarray([labels[int(i)] for i in splits.confirm]), return_counts=True)[1]
    if not len(splits.confirm) or (len(tested) > 1 and tested.min() > 1):  # one sample of a class shows no scatter
        return []
    every = np.unique(np.concatenate([splits.calibrate, splits.search, splits.confirm]))
    run.splits = replace(splits, search=np.random.default_rng(0).permutation(every), confirm=np.empty(0, np.int64))
    rare = f"{counts.min():,} of {len(labels):,} samples are of class {found[counts.argmin()]}"
    return [f"{rare}: too few to certify anything about {metric.name}; candidates are estimated"]


def _worse(run: Run, ids: Sequence[int]) -> str | None:
    return _judged(run, ids, worse_than_constant)


def _at_chance(run: Run, ids: Sequence[int]) -> str | None:
    return _judged(run, ids, at_chance)


def _judged(run: Run, ids: Sequence[int], judge: Callable[[Metric, Array, Array], str | None]) -> str | None:
    """What ``judge`` makes of the baseline's rows beside the labels, where the metric reads labels."""
    if not run.evaluator.metric.needs_labels or run.evaluator.store.labels is None:
        return None
    return judge(run.evaluator.metric, run.evaluator.known(ids), _joined(run.evaluator.store, ids))


def _joins(seen: Sequence[list[Array]], k: int) -> bool:
    """Outputs of different shapes cannot be joined; the metric's guess goes without them."""
    return len({np.atleast_1d(a[k]).shape[1:] for a in seen}) == 1
