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

from hasten import registry, replies
from hasten.deaths import blamed
from hasten.errors import InputError, gist
from hasten.frontends.describe import cautions
from hasten.looks import open_ledger
from hasten.measure.evaluate import Evaluator
from hasten.measure.quality import provable
from hasten.measure.spending import last_level
from hasten.measure.timing import ROTATING_SAMPLES, Workload
from hasten.metrics import AGREEMENT
from hasten.model import TensorSpec, file_digest
from hasten.protocols import Event, Listener
from hasten.safety.stage import staged_digests
from hasten.samples import SampleStore, load_samples
from hasten.samples.load import check_exists
from hasten.samples.made_up import SIZES, made_up
from hasten.samples.sequence import common_sizes
from hasten.search import forms
from hasten.search.baseline import start_baseline
from hasten.search.conversion import prove_conversion
from hasten.search.enter import Entered, enter
from hasten.search.field import Run
from hasten.search.folder import RunFolder
from hasten.search.promise import promise
from hasten.search.question import WATCHED, Question, digest, identity
from hasten.search.reading import read
from hasten.search.scoring import GIVE_DATA, check_baseline, choose_metric
from hasten.search.space import usable_engines
from hasten.splits import Splits, split
from hasten.trial import Provable
from hasten.worker import CallFailed, Worker, WorkerDied

STAGE = "0/3 baseline"
TRY_SECONDS = 120.0
NO_INPUTS = "no inputs could be made up that the network takes"
NO_DATA = "no data: lossless only, on made-up inputs"


def prepare(
    question: Question, folder: RunFolder, listen: Listener, *, seconds: float | None = inf, look: int | None = None,
    begun: float | None = None,
) -> tuple[Run, Provable, dict[str, Any]]:  # fmt: skip
    """Everything up to the first measurement. Returns the run, what its data can prove, and what the file holds.

    ``seconds`` are for all of the run, from ``begun`` or from now on; None chooses them by the network's latency.
    ``look`` is the number of this use of the confirm split; None counts it.

    Raises:
        InputError: the model, the data or their match is wrong; nothing has been written outside ``folder``.
    """
    begun = time.monotonic() if begun is None else begun
    usable, absent = usable_engines(question.engines)
    usable = forms.of_format(usable, question.format)
    entered = enter(question.model, folder.path, question.door, question.data, question.labels, question.groups)
    usable, absent = forms.serving(usable, absent, entered.forms, question.engines)
    inputs, outputs = entered.inputs, entered.outputs
    store, splits = samples_in_parts(question, entered, folder.path / "samples", listen)
    batch = store.fixed or question.batch
    rotating = [int(i) for i in splits.scored[: ROTATING_SAMPLES * batch]]
    run = Run(
        folder=folder.path,
        source=entered.graph,
        forms=dict(entered.forms),
        origin=entered.origin,
        staged=entered.staged,
        title=question.model.name,
        arithmetic=arithmetic(entered),
        inputs=inputs,
        outputs=outputs,
        budget=question.budget,
        evaluator=Evaluator(store, AGREEMENT, tuple(o.name for o in outputs), (), batch),
        splits=splits,
        work=Workload(str(store.directory), tuple(rotating), batch),
        listen=listen,
        sizes=common_sizes(store, inputs, batch),
        engines=usable,
        made_up=question.data is None,
        seed=question.seed or 0,
        per_tensor=question.per_tensor,
        objective=question.objective,
        begun=begun,
        clock=begun,
        stage=STAGE,
    )
    try:
        able, warnings = _opened(run, question, folder, entered, absent, look, seconds)
    except BaseException:
        run.close()
        raise
    return run, able, {**entered.facts, "warnings": warnings}


def _opened(
    run: Run, question: Question, folder: RunFolder, entered: Entered, absent: Sequence[str], look: int | None,
    seconds: float | None,
) -> tuple[Provable, list[str]]:  # fmt: skip
    """The baseline loaded and checked, the metric chosen, the journal open. Returns what can be proven, and warnings.

    ``absent`` names the engines that cannot be used, and why.
    """
    start_baseline(run, question.served_by or owner(entered))
    if entered.origin.format != "onnx":
        run.conversion = prove_conversion(run, entered)
        run.say(
            "note", f"conversion from {entered.origin.format}: outputs agree within {run.conversion:.1e} of their scale"
        )
    probe = choose_metric(run, question)
    promise(run, seconds)
    store, splits = run.evaluator.store, run.splits
    own = [*cautions(entered.facts), *(() if run.made_up else store.warnings)]
    own += splits.warnings if question.judged else ()
    warnings = [*own, *remember(run, question, folder, look), *absent, *set_outside()]
    for text in warnings:
        run.say("warning", text)
    warnings += check_baseline(run, probe, judged=question.judged, chosen=question.metric is None)
    parts = (run.splits.calibrate, run.splits.search, run.splits.confirm)
    known = run.evaluator.known([i for i in map(int, run.splits.scored) if i in run.evaluator.baseline_rows])
    asked = replace(run.budget, confidence=1 - last_level(len(run.splits.confirm), run.proof.alpha))
    able = provable(asked, run.evaluator.metric, *map(len, parts), score=run.evaluator.metric.value(known))
    able = replace(able, sentence=NO_DATA) if run.made_up else able
    if question.judged and not run.made_up:
        run.say("note", able.sentence)
    if question.judged and run.look > 1:
        level = f"{run.proof.confidence:.2%}"
        run.say("note", f"look {run.look} at these samples: tested at {level}, so that all looks hold together")
    return able, warnings


def arithmetic(entered: Entered) -> str:
    """The narrowest float of the network's weights, inputs and outputs."""
    types = {*entered.facts.get("weight_types", ()), *(s.dtype for s in (*entered.inputs, *entered.outputs))}
    return next((name for name in ("bfloat16", "float16") if name in types), "float32")


def set_outside() -> list[str]:
    """Variables of the environment that change what every process computes; both sides of a pair have them."""
    found = [(name, os.environ[name]) for name in WATCHED if os.environ.get(name)]
    return [f"{name}={value} is set: it holds for every network that is timed" for name, value in found]


def owner(entered: Entered) -> str:
    """The engine that serves the network at its owner's, where it is installed; else ONNX Runtime."""
    name = entered.origin.engine
    return name if registry.engine(name)[1] is None else "onnxruntime"


def samples_in_parts(
    question: Question, entered: Entered, directory: Path, listen: Listener
) -> tuple[SampleStore, Splits]:
    """The user's samples in three parts; without any, made-up ones that prove nothing."""
    if question.data is not None:
        store = read_samples(question, directory, entered, listen)
        return store, cut(store, question.seed)
    store = make_samples(question, entered.graph, directory, entered.inputs, [o.name for o in entered.outputs])
    none = np.empty(0, np.int64)
    return store, Splits(none, np.arange(len(store)), none, (NO_DATA,))


def read_samples(question: Question, directory: Path, entered: Entered, listen: Listener) -> SampleStore:
    """The user's data, checked against the network and spooled to ``directory``; a line a second says how far."""
    source = "the data"
    if isinstance(question.data, str | Path):
        source = Path(question.data).name
        check_exists(Path(question.data))
    listen(Event(kind="stage", stage=STAGE, text=f"reading {source}"))

    def tell(done: int) -> None:
        listen(Event(kind="trial", stage=STAGE, text="samples are read", done=done))

    return read(
        question.data,
        directory,
        entered.inputs,
        entered.outputs,
        labels=question.labels,
        groups=question.groups,
        state=question.state,
        preprocess=question.preprocess,
        columns=question.columns,
        tell=tell,
    )


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
            replies.load(worker, "onnxruntime", graph, {}, names)
            for number, size in enumerate(SIZES):
                place = directory.with_name(f"{directory.name}-{number}")
                store = load_samples(made_up(inputs, state, size), state=state).spool(place, inputs)
                try:
                    replies.run(worker, place, [0], seconds=TRY_SECONDS)
                except CallFailed as fault:
                    reason = reason or gist(str(fault))
                    continue
                return store
        except (WorkerDied, CallFailed) as fault:
            raise blamed(fault, NO_INPUTS, process="its process", help=GIVE_DATA) from fault
    raise InputError(NO_INPUTS, cause=reason, help=GIVE_DATA)


def remember(run: Run, question: Question, folder: RunFolder, look: int | None) -> list[str]:
    """What an unfinished run left, and how often these samples were looked at. Returns warnings."""
    data = run.evaluator.store.digest
    same = identity(question, run.evaluator.metric, given_digests(run), data, run.engines)
    run.journal = folder.open_journal(same)
    if len(run.journal):
        took = f"{len(run.journal)} steps, {run.journal.seconds:.0f} s"
        again = f"this run has its own {run.seconds:.0f} s for the rest"
        run.say("note", f"goes on from an unfinished run: {took} are taken over; {again}; the final timing is fresh")
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
    splits = split(store, seed=seed)
    random = np.random.default_rng(int(store.digest[:16], 16))
    calibrate, search, confirm = (random.permutation(p) for p in (splits.calibrate, splits.search, splits.confirm))
    return replace(splits, calibrate=calibrate, search=search, confirm=confirm)
