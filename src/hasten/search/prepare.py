"""From what the user gave to a ``Run``: the file checked and staged, the data spooled and split, the metric chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hasten import registry
from hasten.budget import Budget
from hasten.errors import InputError
from hasten.measure.evaluate import Evaluator
from hasten.measure.quality import at_chance, provable
from hasten.measure.timing import ROTATING_SAMPLES, Workload
from hasten.metrics import auto_metric, resolve
from hasten.metrics.classes import IGNORED
from hasten.model import TensorSpec
from hasten.protocols import Array, Door, Listener, Metric
from hasten.samples import SampleStore, load_samples
from hasten.search.baseline import start_baseline
from hasten.search.conversion import prove_conversion
from hasten.search.enter import Entered, enter
from hasten.search.field import SCREENED, Run
from hasten.splits import Splits, split
from hasten.trial import Provable
from hasten.worker import CallFailed, WorkerDied

PROBE = 16
CALIBRATE, LEAST_CALIBRATE = 128, 24
CHANCE_SAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the user asks, with every choice that changes the answer."""

    model: Path
    data: object
    budget: Budget
    metric: str | Callable[..., Any] | None = None
    output: str | None = None
    labels: str = "labels"
    groups: str | None = None
    state: Mapping[str, str] | None = None
    preprocess: str | None = None
    batch: int = 1
    threads: int | None = None
    engines: Sequence[str] | None = None
    seed: int | None = None
    served_by: str | None = None
    door: Door = field(default_factory=Door)


def prepare(question: Question, folder: Path, listen: Listener) -> tuple[Run, Provable, dict[str, Any]]:
    """Everything up to the first measurement. Returns the run, what its data can prove, and what the file holds.

    Raises:
        InputError: the model, the data or their match is wrong; nothing has been written outside ``folder``.
    """
    start = time.monotonic()
    entered = enter(question.model, folder, question.door, question.data)
    entering = time.monotonic() - start
    inputs, outputs = entered.inputs, entered.outputs
    samples = load_samples(
        question.data,
        labels=question.labels,
        groups=question.groups,
        state=question.state,
        preprocess=question.preprocess,
    )
    store = samples.spool(folder / "samples", inputs)
    splits = cut(store, question.seed)
    warnings = [*store.warnings, *splits.warnings]
    rotating = [int(i) for i in splits.search[: ROTATING_SAMPLES * question.batch]]
    work = Workload(str(store.directory), tuple(rotating), question.batch)
    evaluator = Evaluator(store, _no_metric(), tuple(o.name for o in outputs), (), question.batch)
    run = Run(
        folder=folder,
        source=entered.graph,
        forms=dict(entered.forms),
        origin=entered.origin,
        staged=entered.staged,
        title=question.model.name,
        inputs=inputs,
        outputs=outputs,
        budget=question.budget,
        evaluator=evaluator,
        splits=splits,
        work=work,
        listen=listen,
        seed=question.seed or 0,
    )
    for text in warnings:
        run.say("warning", text)
    run.stage = "0/3 baseline"
    start_baseline(run, question.served_by or owner(entered))
    if entered.origin.format != "onnx":
        start = time.monotonic()
        error = prove_conversion(run, entered)
        run.entering = entering + time.monotonic() - start
        run.say("note", f"conversion from {entered.origin.format}: outputs agree within {error:.1e} of their scale")
    choose_metric(run, question)
    check_baseline(run)
    able = provable(question.budget, evaluator.metric, len(splits.calibrate), len(splits.search), len(splits.confirm))
    run.say("note", able.sentence)
    return run, able, {**entered.facts, "warnings": warnings}


def owner(entered: Entered) -> str:
    """The engine that serves the network at its owner's, where it is installed; else ONNX Runtime."""
    name = entered.origin.engine
    return name if registry.find("engines", name).missing() is None else "onnxruntime"


def cut(store: SampleStore, seed: int | None = None) -> Splits:
    """The three splits, each in an order drawn at random from the data itself, so that a prefix is a fair sample."""
    splits = split(store, seed=seed, calibrate=max(LEAST_CALIBRATE, min(CALIBRATE, len(store) // 8)))
    random = np.random.default_rng(int(store.digest[:16], 16))
    calibrate, search, confirm = (random.permutation(p) for p in (splits.calibrate, splits.search, splits.confirm))
    return replace(splits, calibrate=calibrate, search=search, confirm=confirm)


def choose_metric(run: Run, question: Question) -> None:
    """The user's metric, or the one that fits labels and outputs; the evaluator then reads only what it needs."""
    evaluator = run.evaluator
    names = evaluator.outputs
    if question.output is not None and question.output not in names:
        raise InputError(f"the network has no output {question.output!r}", help=f"outputs: {', '.join(names)}")
    evaluator.keep = tuple(range(len(names)))
    probe = [int(i) for i in run.splits.search[:PROBE]]
    try:
        seen = list(evaluator.answers(run.loaded[run.given], probe))
    except (WorkerDied, CallFailed) as fault:
        raise InputError("the network does not run on this data", cause=str(fault).splitlines()[0]) from fault
    outputs = {
        n: np.concatenate([np.atleast_1d(a[k]) for _, a in seen]) for k, n in enumerate(names) if _joins(seen, k)
    }
    truth = None if evaluator.store.labels is None else _joined(evaluator.store, probe)
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
    try:
        run.evaluator.measure_baseline(run.loaded[run.given], ids)
    except (WorkerDied, CallFailed) as fault:
        raise InputError("the network does not run on this data", cause=str(fault).splitlines()[0]) from fault
    broken = run.evaluator.broken
    if len(broken) == len(ids):
        raise InputError("the network answers NaN on every sample", help="check the preprocessing and the input scale")
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


def _no_metric() -> Metric:
    from hasten.metrics import AGREEMENT

    return AGREEMENT
