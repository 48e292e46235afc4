"""The network as its owner runs it today: loaded, scored, and timed against itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hasten import replies
from hasten.deaths import blamed
from hasten.errors import HastenError, InputError, UsageError
from hasten.measure.quality import assess
from hasten.measure.timing import interleave, timing
from hasten.search import forms, space
from hasten.search.field import SCREEN_ROUNDS, Run, race_rounds, recipe_key
from hasten.search.loading import baseline, fresh_worker, load
from hasten.search.question import digest
from hasten.trial import Timing
from hasten.worker import CallFailed, Worker, WorkerDied

DOES_NOT_RUN = "the network does not run on this data"
SERVED_ELSEWHERE = "compare the data with hasten inspect, or name another engine: --served-by"
SCORING = "the network as given answers"


def start_baseline(run: Run, engine: str) -> Worker:
    """Load the network as it is served today: its own file on ``engine`` with stock settings.

    Raises:
        InputError: the runtime cannot load or run it.
    """
    form = forms.form_of(engine, (), run.forms)
    if form is None:
        cause = f"{engine} takes {', '.join(forms.takes(engine))}; this network is at hand as {', '.join(run.forms)}"
        raise UsageError(f"{engine} cannot serve {run.title}", cause=cause, help="leave out --served-by")
    candidate = space.as_given(engine)
    if form == run.origin.format:
        candidate = replace(candidate, settings={**candidate.settings, **run.origin.settings})
    run.given = candidate.key
    run.artefacts[recipe_key(candidate)] = {
        "artefact": str(run.forms[form]),
        "bytes": forms.artefact_bytes(run.forms[form]),
        "seconds": 0.0,
    }
    worker = load(run, candidate)
    if worker is None:
        raise InputError("the network cannot be loaded", cause=run.trials[run.given].reason)
    return worker


def measure_baseline(run: Run, ids: Sequence[int]) -> None:
    """The baseline's rows for ``ids``: what an unfinished run measured is taken over."""
    new = [i for i in ids if i not in run.evaluator.baseline_rows]
    if not new:
        return
    step = digest([run.evaluator.metric.name, new])
    kept = run.recall("baseline", step, bytes)
    if kept is not None:
        run.evaluator.take(kept)
        return
    try:
        run.evaluator.measure_baseline(baseline(run), new, tell=lambda done: run.say("trial", SCORING, done, len(new)))
    except (WorkerDied, CallFailed) as fault:
        raise does_not_run(fault) from fault
    run.note("baseline", step, run.evaluator.kept(new))


def does_not_run(fault: WorkerDied | CallFailed) -> HastenError:
    """The error for a network as given whose process died or refused while it ran."""
    return blamed(fault, DOES_NOT_RUN, process="its process", help=SERVED_ELSEWHERE)


def score_baseline(run: Run) -> None:
    """The baseline's own score on what the search has seen, and its memory, for the report."""
    ids = [int(i) for i in run.splits.scored if int(i) in run.evaluator.baseline_rows]
    known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
    quality = assess(run.evaluator.metric, run.budget, known, known, split="search", groups=groups)
    run.update(run.given, search=quality, peak_bytes=replies.memory(baseline(run)))


def noise_floor(run: Run) -> Timing:
    """The baseline against itself in a second process: what this machine cannot tell apart."""
    run.say("trial", "timing the network as given against itself")
    twin = fresh_worker(run, run.trials[run.given].candidate, keep=False)
    with twin:
        rounds = race_rounds(run, 2, SCREEN_ROUNDS)
        series = interleave({"a": baseline(run), "b": twin}, run.work, rounds=rounds, seed=run.seed)
    for fault in series.lost.values():
        raise does_not_run(fault) from fault
    run.usual_ms = min(*series.blocks["a"], *series.blocks["b"])
    found = timing(series.blocks["a"], series.blocks["b"])
    run.noise = max(1.0, found.high, 1 / found.low if found.low else 1.0)
    return found
