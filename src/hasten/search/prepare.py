"""From what the user gave to a ``Run``: the file checked and staged, the data spooled and split, the metric chosen."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from hasten import registry
from hasten.errors import InputError
from hasten.looks import open_ledger
from hasten.measure.evaluate import Evaluator
from hasten.measure.quality import at_chance, provable
from hasten.measure.timing import ROTATING_SAMPLES, Workload
from hasten.metrics import auto_metric, resolve
from hasten.metrics.classes import IGNORED
from hasten.model import TensorSpec, file_digest
from hasten.protocols import Array, Event, Listener, Metric
from hasten.safety.stage import staged_digests
from hasten.samples import SampleStore, load_samples
from hasten.samples.feedback import telling_of_state
from hasten.samples.made_up import SIZES, made_up
from hasten.search import forms
from hasten.search.baseline import measure_baseline, start_baseline
from hasten.search.conversion import prove_conversion
from hasten.search.enter import Entered, enter
from hasten.search.field import SCREENED, Run
from hasten.search.folder import RunFolder
from hasten.search.question import WATCHED, Question, digest, identity
from hasten.search.space import usable_engines
from hasten.splits import Splits, split
from hasten.trial import Provable
from hasten.worker import CallFailed, Worker, WorkerDied

PROBE = 16
CALIBRATE, LEAST_CALIBRATE = 128, 24
CHANCE_SAMPLES = 200
STAGE = "0/3 baseline"
TRY_SECONDS = 120.0
NO_DATA = "no data: lossless only, on made-up inputs"
SERVED_ELSEWHERE = "compare the data with hasten inspect, or name another engine: --served-by"
GIVE_DATA = "give real data: --data samples.npz"


def prepare(
    question: Question, folder: RunFolder, listen: Listener, *, seconds: float = inf, look: int | None = None
) -> tuple[Run, Provable, dict[str, Any]]:
    """Everything up to the first measurement. Returns the run, what its data can prove, and what the file holds.

    ``seconds`` are for the search, from now on. ``look`` says which look at the confirm split this is; None counts it.

    Raises:
        InputError: the model, the data or their match is wrong; nothing has been written outside ``folder``.
    """
    begun = time.monotonic()
    usable, absent = usable_engines(question.engines)
    usable = forms.of_format(usable, question.format)
    entered = enter(question.model, folder.path, question.door, question.data)
    entering = time.monotonic() - begun
    usable, absent = forms.serving(usable, absent, entered.forms, question.engines)
    inputs, outputs = entered.inputs, entered.outputs
    if question.data is None:
        store = make_samples(question, entered.graph, folder.path / "samples", inputs, [o.name for o in outputs])
        none = np.empty(0, np.int64)
        splits = Splits(none, np.arange(len(store)), none, (NO_DATA,))
    else:
        store = read_samples(question, folder.path / "samples", entered, listen)
        splits = cut(store, question.seed)
    rotating = [int(i) for i in splits.search[: ROTATING_SAMPLES * question.batch]]
    run = Run(
        folder=folder.path,
        source=entered.graph,
        forms=dict(entered.forms),
        origin=entered.origin,
        staged=entered.staged,
        title=question.model.name,
        inputs=inputs,
        outputs=outputs,
        budget=question.budget,
        evaluator=Evaluator(store, _no_metric(), tuple(o.name for o in outputs), (), question.batch),
        splits=splits,
        work=Workload(str(store.directory), tuple(rotating), question.batch),
        listen=listen,
        engines=usable,
        made_up=question.data is None,
        seed=question.seed or 0,
        per_tensor=question.per_tensor,
        objective=question.objective,
        begun=begun,
        deadline=begun + seconds,
        stage=STAGE,
    )
    start_baseline(run, question.served_by or owner(entered))
    if entered.origin.format != "onnx":
        proving = time.monotonic()
        run.conversion = prove_conversion(run, entered)
        run.deadline += entering + time.monotonic() - proving  # the search's time is for searching
        run.say(
            "note", f"conversion from {entered.origin.format}: outputs agree within {run.conversion:.1e} of their scale"
        )
    choose_metric(run, question)
    told = () if run.made_up else store.warnings
    warnings = [*told, *splits.warnings, *remember(run, question, folder, look), *absent, *set_outside()]
    for text in warnings:
        run.say("warning", text)
    check_baseline(run)
    sizes = (len(part) for part in (splits.calibrate, splits.search, splits.confirm))
    able = provable(run.proof, run.evaluator.metric, *sizes)
    able = replace(able, sentence=NO_DATA) if run.made_up else able
    run.say("note", able.sentence)
    if run.look > 1:
        level = f"{run.proof.confidence:.2%}"
        run.say("note", f"look {run.look} at these samples: tested at {level}, so that all looks hold together")
    return run, able, {**entered.facts, "warnings": warnings}


def set_outside() -> list[str]:
    """Variables of the environment that change what every process computes; both sides of a pair have them."""
    found = [(name, os.environ[name]) for name in WATCHED if os.environ.get(name)]
    return [f"{name}={value} is set: it holds for every network that is timed" for name, value in found]


def owner(entered: Entered) -> str:
    """The engine that serves the network at its owner's, where it is installed; else ONNX Runtime."""
    name = entered.origin.engine
    return name if registry.engine(name)[1] is None else "onnxruntime"


def read_samples(question: Question, directory: Path, entered: Entered, listen: Listener) -> SampleStore:
    """The user's data, checked against the network and spooled to ``directory``; a line a second says how far."""
    samples = load_samples(
        question.data,
        labels=question.labels,
        groups=question.groups,
        state=question.state,
        preprocess=question.preprocess,
    )
    listen(Event(kind="stage", stage=STAGE, text=f"reading {samples.source}"))

    def tell(done: int) -> None:
        listen(Event(kind="trial", stage=STAGE, text="samples are read", done=done))

    with telling_of_state(entered.inputs, entered.outputs):
        return samples.spool(directory, entered.inputs, tell)


def make_samples(
    question: Question, graph: Path, directory: Path, inputs: tuple[TensorSpec, ...], names: list[str]
) -> SampleStore:
    """Made-up samples of a size that the network takes.

    Raises:
        InputError: it takes none of those that are tried.
    """
    state, reason = question.state or {}, ""
    with Worker(name="made-up inputs") as worker:
        try:
            worker.call("load", engine="onnxruntime", path=str(graph), settings={}, names=names)
            for number, size in enumerate(SIZES):
                place = directory.with_name(f"{directory.name}-{number}")
                store = load_samples(made_up(inputs, state, size), state=state).spool(place, inputs)
                try:
                    worker.call("run", seconds=TRY_SECONDS, store=str(place), ids=[0], batch=1, keep=None)
                except CallFailed as fault:
                    reason = reason or str(fault).splitlines()[0]
                    continue
                return store
        except (WorkerDied, CallFailed) as fault:
            reason = str(fault).splitlines()[0]
    raise InputError("no inputs could be made up that the network takes", cause=reason, help=GIVE_DATA)


def remember(run: Run, question: Question, folder: RunFolder, look: int | None) -> list[str]:
    """What an unfinished run left, and how often these samples were looked at. Returns warnings."""
    data = run.evaluator.store.digest
    same = identity(question, run.evaluator.metric, given_digests(run), data, run.engines)
    run.journal = folder.open_journal(same)
    if len(run.journal):
        took = f"{len(run.journal)} steps, {run.journal.seconds:.0f} s"
        run.say("note", f"goes on from an unfinished run: {took} are taken over; the final timing is fresh")
    if look is None:
        run.ledger = open_ledger(data, digest(same))
        run.look = run.ledger.number()
    else:
        run.look = look
    return [*run.journal.warnings, *(run.ledger.warnings if run.ledger else ())]


def given_digests(run: Run) -> Mapping[str, str]:
    """sha256 of every file that the user's network consists of."""
    if run.origin.format == "onnx":
        return staged_digests(run.staged)
    files = [run.staged] if run.staged.is_file() else sorted(p for p in run.staged.rglob("*") if p.is_file())
    return {str(p.relative_to(run.staged.parent)): file_digest(p) for p in files}


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
        why = str(fault).splitlines()[0]
        raise InputError("the network does not run on this data", cause=why, help=SERVED_ELSEWHERE) from fault
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
    try:
        measure_baseline(run, ids)
    except (WorkerDied, CallFailed) as fault:
        why = str(fault).splitlines()[0]
        raise InputError("the network does not run on this data", cause=why, help=SERVED_ELSEWHERE) from fault
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


def _no_metric() -> Metric:
    from hasten.metrics import AGREEMENT

    return AGREEMENT
