"""Samples that are added to a result, measured once on the network as given and on the one that needs evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np

from hasten import claims
from hasten.budget import Budget, parse_budget
from hasten.errors import InputError, UsageError
from hasten.evidence import NO_ANSWER, Changed, Evidence, numbered
from hasten.measure.evaluate import NewNaN
from hasten.metrics import CTC_EXACT, TOP1
from hasten.protocols import Event, Listener, Metric
from hasten.read_result import Served, load_served, served
from hasten.reproduce import question_of, same_metric
from hasten.result_files import Manifest
from hasten.search.baseline import measure_baseline
from hasten.search.field import Run
from hasten.search.folder import RunFolder
from hasten.search.prepare import prepare
from hasten.trial import Result, Trial
from hasten.worker import CallFailed, Worker, WorkerDied

METRICS: dict[str, Metric] = {"top1": TOP1, "ctc_exact": CTC_EXACT}
DECIDED = tuple(METRICS)  # an unchanged answer has an unchanged score
LABEL_FREE = ("agreement", "cosine")
LATER = 0.2  # of the level: what the search leaves to later questions
GROUPED = "the samples of this result come in groups or sequences, and added samples must stand alone"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A result folder: what it claims, and which of its networks needs evidence."""

    out: Path
    place: Path  # of that network: the folder itself, or the one of the estimate in it
    manifest: Manifest
    result: Result
    trial: Trial
    evidence: Evidence

    @property
    def budget(self) -> Budget:
        """The budget of the search."""
        return parse_budget(self.result.budget, self.result.confidence)

    @property
    def level(self) -> float:
        """The level of all later questions together; all of it where the search tested nothing."""
        return self.budget.alpha * (LATER if self.result.provable.n_confirm else 1.0)


def measured(
    opened: Opened, data: object, has_labels: bool, given: claims.Given, folder: RunFolder, listen: Listener
) -> Evidence:
    """The evidence with the samples of ``data``, each measured once on both networks.

    Raises:
        InputError: the data does not fit the network, all of it was seen before, or the answers say nothing.
    """
    asked, result = opened.manifest.question, opened.result
    assert asked is not None
    by_change = not has_labels and result.metric not in LABEL_FREE
    _refuse(opened, by_change=by_change)
    original, missing = claims.original(opened.out, asked, result, replace(given, data=data), folder)
    if original is None:
        raise InputError(missing[0].text, help=missing[0].help)
    question = replace(question_of(result, original), judged=False)
    if by_change:
        question = replace(question, metric="agreement", labels="labels", lower_is_better=False)
    run, _, _ = prepare(question, folder, listen, look=result.looks)
    try:
        if has_labels and run.evaluator.store.labels is None and result.metric not in LABEL_FREE:
            name = data if isinstance(data, str | Path) else "the data"
            raise InputError(f"{name} holds no labels", help="inputs alone are evidence too: --unlabelled PATH")
        if not by_change and (other := same_metric(run, result, asked)):
            raise InputError(other[0].text, help=other[0].help)
        ids = _new(run, opened.evidence, data)
        network = _served(opened, given, folder)
        listen(Event(kind="trial", stage="prove", text=f"{len(ids):,} new samples on both networks"))
        measure_baseline(run, ids)
        with Worker(name=network.name) as worker:
            load_served(worker, network, run.names)
            add = _changes if by_change else _losses
            found = add(run, worker, ids, _begun(opened), opened, data)
    except (WorkerDied, CallFailed) as fault:
        help_ = "check the data, then try again"
        raise InputError("a network cannot run on these samples", cause=str(fault)[:300], help=help_) from fault
    finally:
        run.close()
    hashes = numbered(run.evaluator.store.hashes)
    return replace(found, seen=sorted({*found.seen, *(hashes[i] for i in ids)}))


def _refuse(opened: Opened, *, by_change: bool) -> None:
    """What no added sample can show."""
    metric, budget = opened.result.metric, opened.budget
    if opened.result.metric_kind == "corpus":
        cause = f"{metric!r:.80} is no mean over samples"
        raise UsageError(
            f"samples cannot be added to {opened.out}", cause=cause, help="run hasten optimize on all data"
        )
    if not by_change:
        return
    cause = f"a changed answer bounds the loss of {' and '.join(DECIDED)}, and not that of {metric!r:.80}"
    if metric in DECIDED and budget.kind == "absolute":
        return
    if metric in DECIDED:
        cause = f"the budget {budget} is a share of a score, which takes labels"
    raise UsageError("inputs without labels are no evidence here", cause=cause, help="give labelled samples: --data")


def _new(run: Run, evidence: Evidence, data: object) -> list[int]:
    """Samples that nobody saw before, each input once.

    Raises:
        InputError: there are none, or they come in groups.
    """
    store = run.evaluator.store
    if store.groups is not None or store.sequential:
        raise InputError("these samples cannot be added", cause=GROUPED, help="run hasten optimize on all samples")
    seen, ids = set(evidence.seen), list[int]()
    for i, one in enumerate(numbered(store.hashes)):
        if one not in seen:
            ids.append(i)
            seen.add(one)
    name = f"{data}" if isinstance(data, str | Path) else "the data"
    if not ids:
        cause = f"each of its {len(store):,} inputs was seen in an earlier call"
        raise InputError(f"{name} holds nothing new", cause=cause, help="give other samples; labels go in to_label.csv")
    if len(ids) < len(store):
        run.say("warning", f"{name}: {len(store) - len(ids):,} of {len(store):,} inputs are not new, and do not count")
    return ids


def _served(opened: Opened, given: claims.Given, folder: RunFolder) -> Served:
    """A checked copy of the network that lacks evidence."""
    return served(opened.place, folder.path / "result", trust=given.trust)


def _losses(
    run: Run, worker: Worker, ids: list[int], evidence: Evidence, opened: Opened, _: object
) -> Evidence:  # fmt: skip
    """Each sample's loss by the metric; a NaN where the original has none is the largest loss.

    Raises:
        InputError: the metric has no known range, so that an unseen loss could be any.
    """
    metric, budget = run.evaluator.metric, opened.budget
    known = getattr(metric, "range", (0.0, 1.0) if metric.kind == "binary" else None)
    if known is None:
        cause = f"the scores of {metric.name!r:.80} have no known range, so that one sample can lose any amount"
        raise InputError("added samples say nothing here", cause=cause, help="run hasten optimize on all samples")
    sign = 1.0 if metric.higher_is_better else -1.0
    keep = (budget.limit if metric.higher_is_better else 2 - budget.limit) if budget.kind == "relative" else 1.0
    most = keep * known[1] - known[0] if metric.higher_is_better else known[1] - keep * known[0]
    found = []
    for i, outputs in run.evaluator.answers(worker, ids):
        try:
            lost = sign * (keep * run.evaluator.known([i]) - run.evaluator.row(i, outputs)).mean()
        except NewNaN:
            lost = most
        found.append(float(lost) if isfinite(lost) else most)
    limit = 0.0 if budget.kind == "relative" else budget.max_drop
    return replace(evidence, most=float(most), limit=limit, losses=[*evidence.losses, *found])


def _changes(
    run: Run, worker: Worker, ids: list[int], evidence: Evidence, opened: Opened, data: object
) -> Evidence:  # fmt: skip
    """Whether the answer to each input changed; a changed one may have lost all that a sample can lose.

    Raises:
        InputError: an input has several answers.
    """
    metric = METRICS[opened.result.metric]
    references = {i: np.asarray(run.evaluator.reference[i]) for i in ids}
    place = Path(data).name if isinstance(data, str | Path) else ""
    names = [run.evaluator.outputs[k] for k in run.evaluator.keep]
    unchanged, changed = 0, list[Changed]()
    for i, outputs in run.evaluator.answers(worker, ids):
        before = references[i]
        try:
            same = bool(run.evaluator.row(i, outputs).min() == 1)
            after = metric.reference(dict(zip(names, outputs, strict=True)))
        except NewNaN:
            same, after = False, np.asarray([NO_ANSWER])
        if before.size != 1 or np.asarray(after).size != 1:
            help_ = "give labelled samples: --data"
            raise InputError("inputs without labels are no evidence here", cause="each has several answers", help=help_)
        unchanged += same
        if not same:
            one, other = int(before.reshape(-1)[0]), int(np.asarray(after).reshape(-1)[0])
            sample = str(run.evaluator.store.ids[i])
            changed.append(Changed(file=place[:4096], sample=sample[:4096], before=one, after=other))
    return replace(
        evidence, most=1.0, limit=opened.budget.max_drop, unchanged=evidence.unchanged + unchanged,
        changed=[*evidence.changed, *changed],
    )  # fmt: skip


def _begun(opened: Opened) -> Evidence:
    """The evidence, about this network from now on, with what the search counted of it."""
    if opened.evidence.candidate:
        return opened.evidence
    seen, key = opened.trial.confirm or opened.trial.search, opened.trial.candidate.key
    if seen is None or seen.flips is None or not isfinite(seen.drop) or opened.budget.kind == "relative":
        return replace(opened.evidence, candidate=key)
    net = round(seen.drop * seen.n)
    lost, gained = max(0, (seen.flips + net) // 2), max(0, (seen.flips - net) // 2)
    return replace(opened.evidence, candidate=key, before=[gained, max(0, seen.n - lost - gained), lost])
