"""The test: candidates in a fixed order, each in looks at a growing part of the test samples.

A candidate passes when its bound lies inside the budget at the level of a look. A failure spends the candidate's level,
and the next one is tested with four fifths of what is left (``looks`` says which procedure that is). The looks of one
candidate divide its level among them (``measure.spending``): clear candidates pass early, hopeless ones fail early,
and all samples decide the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hasten.looks import Look
from hasten.measure.evaluate import NewNaN, Rows
from hasten.measure.kept import Tally
from hasten.measure.neighbours import dependence
from hasten.measure.quality import assess, judgeable, unjudged
from hasten.measure.sequential import worn_alpha
from hasten.measure.spending import plan
from hasten.search import answers
from hasten.search.also import with_conditions
from hasten.search.baseline import measure_baseline
from hasten.search.field import Run
from hasten.search.loading import fresh_worker, lost
from hasten.search.objective import gain
from hasten.search.promise import in_time
from hasten.splits import strata
from hasten.trial import Candidate, Quality, Split, Trial
from hasten.worker import CallFailed, Worker, WorkerDied

IDENTICAL = "answers identical, outputs equal to float rounding"
HOPELESS = 0.8  # p-value at an early look (chosen): a candidate half inside the budget has it once in a hundred times

Plan = tuple[tuple[int, float], ...]  # of looks: samples seen, level


def prove(run: Run, order: list[str]) -> tuple[str, list[Quality]]:
    """Test ``order`` on the test samples; the last ones only while they are faster than what passed.

    Returns the fastest candidate that passed, else the baseline's key, and every quality measured on the way.
    """
    passed, looks = list[str](), list[Quality]()
    for done, key in enumerate(order):
        best = max((gain(run, k) for k in passed), default=0.0)
        if passed and all(gain(run, k) <= best for k in order[done:]):
            break
        share = shared(run, key)
        sizes = plan(len(tested_on(run)), share * worn_alpha(run.budget.alpha, run.look))
        run.say("trial", f"test of {run.trials[key].candidate.label}", done, len(order))
        quality = look(run, key, sizes)
        run.retire([key])
        if quality is None:
            continue
        looks.append(quality)
        if quality.method != IDENTICAL:
            remember(run, key, share, quality.met)
        if quality.met:
            passed.append(key)
        elif run.trials[key].status == "ok":
            run.update(key, reason=unkept(run.trials[key]) or unproven(quality, run))
    for key in order:
        trial = run.trials[key]
        if trial.status == "ok" and trial.confirm is None:
            run.update(key, reason="not tested: a faster candidate had passed")
    fastest = max(passed, key=lambda k: gain(run, k), default=run.given)
    return fastest, looks


def tested_on(run: Run) -> list[int]:
    """The test samples in an order drawn at random; without any, those of the search (lossless candidates only)."""
    return [int(i) for i in run.splits.confirm] or [int(i) for i in run.splits.search]


def count_look(run: Run, order: list[str]) -> None:
    """Which question to the test samples a test of ``order`` is; counted at once when it will make tests.

    A lossless setting whose answers are the same needs no test.
    """
    if run.ledger is None or not len(run.splits.confirm):
        return
    tests = any(not run.trials[k].candidate.lossless for k in order)
    run.look = run.ledger.begin(order, planned(run)) if tests else run.ledger.number(order)


def planned(run: Run) -> list[int]:
    """The sizes of the looks at the test samples."""
    return [size for size, _ in plan(len(tested_on(run)), run.budget.alpha)]


def shared(run: Run, key: str) -> float:
    """The share of the question's level for the test of a candidate."""
    if run.ledger is None or run.look > len(run.ledger.looks):
        return Look("").share(key)
    return run.ledger.share(run.look, key)


def remember(run: Run, key: str, share: float, passed: bool) -> None:
    """A test was made."""
    if run.ledger is None or not len(run.splits.confirm):
        return
    if run.look > len(run.ledger.looks):
        run.look = run.ledger.begin([key], planned(run))
    run.ledger.tested(run.look, key, share, passed)


def look(run: Run, key: str, sizes: Plan) -> Quality | None:
    """One candidate on the test samples, in the runtime that will serve it."""
    candidate = run.trials[key].candidate
    step = f"look {run.look} at {sizes[-1][0]} confirm samples, level {sum(level for _, level in sizes):.6g}"
    return run.trials[key].confirm if run.step(step, candidate, lambda: _look(run, candidate, sizes)) else None


def _look(run: Run, candidate: Candidate, sizes: Plan) -> None:
    try:
        try:
            worker = run.loaded.get(candidate.key) or fresh_worker(run, candidate)
            _looks(run, candidate, worker, sizes)
        except WorkerDied as fault:
            if not fault.killed or fault.memory:
                raise
            run.say("warning", f"{candidate.label} is tested again: its process was {fault}")
            _looks(run, candidate, fresh_worker(run, candidate), sizes)
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
    except NewNaN as fault:
        run.update(candidate.key, status="rejected", reason=str(fault))


def _looks(run: Run, candidate: Candidate, worker: Worker, sizes: Plan) -> None:
    """Look by look until the candidate passes or is hopeless; a lossless one is compared on all samples at once.

    Raises what running it raises.
    """
    ids, rows, seen, tallies = tested_on(run), list[Rows](), 0, answers.started(run)
    if candidate.lossless:
        ids = in_time(run, candidate.key, ids)
        sizes = ((len(ids), sum(level for _, level in sizes)),)
    for size, level in sizes:
        new = ids[seen:size]
        if seen and len(in_time(run, candidate.key, new)) < len(new):
            return  # the level of the looks that are left is not spent
        measure_baseline(run, new)
        found, changed = judged(run, worker, new, tallies, lossless=candidate.lossless)
        rows, seen = [*rows, found], size
        quality = compared(run, ids[:seen], np.concatenate(rows), level)
        if candidate.lossless and not changed:
            quality = unchanged(quality)
        lacking = answers.lacking(run, tallies, ids[:seen], level)
        run.update(
            candidate.key, confirm=quality, reason=f"not unchanged: {changed}" if changed else "",
            unkept=str(lacking) if lacking and quality.met else "",
        )  # fmt: skip
        if lacking:
            quality = replace(quality, met=False, certificate="none")
            run.update(candidate.key, confirm=quality)
        if lacking and lacking.spoilt:
            run.update(candidate.key, status="rejected", reason=f"output {lacking}")
            return
        if quality.met or (quality.p_value > HOPELESS and quality.drop > run.budget.max_drop):
            return


def compared(run: Run, ids: Sequence[int], rows: Rows, level: float) -> Quality:
    """A candidate's rows beside the baseline's, at a level."""
    known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
    split: Split = "confirm" if len(run.splits.confirm) else "search"
    if not judgeable(run.evaluator.metric, run.budget, known):
        return unjudged(run.evaluator.metric, split)
    quality = assess(run.evaluator.metric, run.budget, known, rows, split=split, groups=groups, alpha=level)
    return with_conditions(run, ids, quality, split, level)


def neighbours(run: Run) -> str:
    """Says so where the baseline's scores on the test samples depend on their order in the file; empty elsewhere."""
    store, metric = run.evaluator.store, run.evaluator.metric
    if run.made_up or store.groups is not None or store.state or store.sequential or metric.kind == "corpus":
        return ""
    ids = sorted(i for i in tested_on(run) if i in run.evaluator.baseline_rows)
    rows = run.evaluator.known(ids) if ids else np.empty(0)
    if rows.ndim != 1 or len(rows) != len(ids) or not np.isfinite(rows).all():
        return ""
    kinds = strata(store)
    return dependence(rows, None if kinds is None else kinds[ids])


def judged(
    run: Run, worker: Worker, ids: Sequence[int], tallies: Mapping[int, Tally], *, lossless: bool
) -> tuple[Rows, str]:
    """The candidate's rows, and, in words, where a lossless one does not answer what the baseline does.

    All outputs of a lossless candidate are compared; where they are the same, they are kept. What every other candidate
    loses of each output is added to ``tallies``.

    Raises:
        NewNaN, WorkerDied, CallFailed: as ``Evaluator.rows``.
    """
    changed = ""
    if lossless:
        rows, changed = answers.same_throughout(run, worker, ids)
        if not changed:
            return rows, ""
    return answers.tallied(run, worker, ids, tallies), changed


def unchanged(quality: Quality) -> Quality:
    """Lossless settings need no test where every output is the baseline's, to float rounding."""
    return replace(quality, met=True, upper=max(0.0, quality.drop), method=IDENTICAL)


def unkept(trial: Trial) -> str:
    """Which output a finalist was not shown to keep, in words; empty where it keeps all."""
    return f"no certificate: output {trial.unkept}" if trial.unkept else ""


def unproven(quality: Quality, run: Run) -> str:
    """Why a finalist got no certificate, in words."""
    strict = run.budget.certificate == "guaranteed"
    upper, needed = (quality.guaranteed_upper, "guarantee") if strict else (quality.upper, "certificate")
    bound = f"at most {upper * 100:.2f} with {run.budget.confidence * 100:g} % confidence"
    return f"drop {quality.drop * 100:.2f} points, {bound}: no {needed} inside {run.budget} on {quality.n} samples"
