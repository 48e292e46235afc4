"""All stages of a search in order, and the record of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hasten.machine import machine
from hasten.safety.stage import given_digest
from hasten.search import baseline, contract, edges, final, lossless, narrow, structure
from hasten.search.afresh import what_ran
from hasten.search.confirm import neighbours
from hasten.search.estimated import estimated
from hasten.search.field import CONTENDERS, RESTED_ROUNDS, Run
from hasten.search.objective import steady
from hasten.search.promise import divide, end, final_size, from_rest_fits
from hasten.search.question import Question
from hasten.search.untried import listed, more_time, untried
from hasten.search.verdict import decide, tell_the_others
from hasten.trial import Estimated, Provable, Result, Timing, Trial

SLOW_TO_WAKE = 0.9  # of the speed-up: less than this after a pause is told
NOISY = 0.1  # chosen: a search that cannot tell a tenth apart should be repeated on a quiet machine
UNSTEADY = 0.9  # of the interval's lower end: less than this in a quarter of the rounds is told
CUT = "the search was cut short"
UP = "the search's time was up"
FEWER_RESTARTS = "a signal cut the final timing short: it rests on fewer restarts"


def answer(run: Run, question: Question, able: Provable, warnings: list[str]) -> Result:
    """All stages, then the record of them."""
    noise = baseline.noise_floor(run)
    baseline.score_baseline(run)
    run.stage = "1/3 lossless"
    run.say("stage", "float32 on every engine")
    divide(run, run.usual_ms)
    tuned = lossless.lossless_stage(run, run.engines, question.threads)
    run.stage = "2/3 narrow"
    run.say("stage", "narrower arithmetic")
    narrow.narrow_stage(run, run.engines, tuned, question.threads, noise.median_ms)
    tuned = lossless.compiled_stage(run, run.engines, question.threads, tuned)
    structure.structure_stage(run, tuned)
    cut = run.stopping()
    run.leave_workshop()
    (winner, beside), too_short = _settled(run, tuned), run.ran_out and not cut
    missed = untried(run) if too_short else []
    verdict, sentence, needed = decide(run, winner, beside)
    if verdict == "nothing_faster" and too_short:
        verdict, sentence = "undecided" if missed else verdict, f"{sentence}; {too_late(run, missed)}"
    fewer = run.stopping() and not cut  # a signal in the last stage leaves out restarts of the final timing
    stopped = cut or (fewer and verdict != "met")
    chosen = run.trials[winner]
    return Result(
        model=str(question.model),
        model_sha256=given_digest(run.staged),
        data_sha256=run.evaluator.store.digest,
        metric=run.evaluator.metric.name,
        metric_kind=run.evaluator.metric.kind,
        budget=str(run.budget),
        confidence=run.budget.confidence,
        verdict=verdict,
        sentence=sentence,
        as_given=run.trials[run.given],
        tuned=run.trials[tuned],
        winner=chosen,
        trials=tuple(run.trials.values()),
        provable=able,
        machine=machine(),
        noise=noise,
        seed=run.seed,
        seconds=time.monotonic() - run.begun,
        peak_bytes=run.peak.bytes(),
        needed_samples=needed,
        plans=tuple(run.plans),
        unplanned=tuple(run.unplanned),
        warnings=(
            *_warnings(run, warnings, noise, chosen),
            *_cut(run, stopped=stopped, fewer=fewer, too_short=too_short and UP not in sentence),
        ),
        looks=run.look,
        stopped=stopped,
        untried=tuple(missed),
        out_of_time=too_short,
        made_up=run.made_up,
        format=run.origin.format,
        conversion=run.conversion,
        started=run.started,
        outputs=contract.lines(run, question),
        required=run.budget.certificate,
        estimated=beside,
    )


def _settled(run: Run, tuned: str) -> tuple[str, Estimated | None]:
    """The last stage: the key of the winner, and what is faster without a certificate."""
    if from_rest_fits(run, CONTENDERS + 3, RESTED_ROUNDS):
        final.from_rest(run, tuned)
    what_ran(run, list(run.loaded))
    run.stage = "3/3 confirm"
    run.say("stage", "test on unseen samples, then the final timing")
    if end(run) is None:
        winner, run.ran_out = run.given, True  # what was timed is all that there is to report
    else:
        winner = final.confirm_stage(run, tuned)[0]
        last = final_size(run)
        winner = final.settle(run, winner, tuned, last.restarts, last.rounds)
    beside = estimated(run, winner)
    tell_the_others(run, [winner, tuned, *([beside.trial.candidate.key] if beside else [])])
    return winner, beside


def _warnings(run: Run, told: list[str], noise: Timing, chosen: Trial) -> list[str]:
    """Those of the preparation (``told``), then what the search found out about the machine and the winner."""
    return [
        *told,
        *_forgotten(run, told),
        *_noise_warning(noise),
        *filter(None, [neighbours(run), edges.warning(run, chosen.candidate.engine)]),
        *_speed_warnings(chosen.timing),
    ]


def _cut(run: Run, *, stopped: bool, fewer: bool, too_short: bool) -> list[str]:
    """What a signal or the clock left out."""
    return [*[CUT] * stopped, *[FEWER_RESTARTS] * (fewer and not stopped), *[too_late(run, untried(run))] * too_short]


def too_late(run: Run, missed: Sequence[str]) -> str:
    """What the time was too short for, and how much to ask for."""
    up = f"{UP} before it tried {listed(missed)}" if missed else f"{UP} before it tried everything"
    return f"{up}: more time may find a faster network ({more_time(run.seconds)})"


def _forgotten(run: Run, told: list[str]) -> list[str]:
    """Looks that could not be written down."""
    return [text for text in (run.ledger.warnings if run.ledger else ()) if text not in told]


def _speed_warnings(timed: Timing | None) -> list[str]:
    """Say so when some requests gain clearly less: those after a pause, or a quarter of all."""
    found: list[str] = []
    if timed is None:
        return found
    if timed.waking is not None and timed.waking[2] < SLOW_TO_WAKE * timed.speedup:
        waking = f"{timed.waking[0]:.2f}× as fast as the network as given"
        found.append(f"right after a pause it is {waking}: its threads wake slowly")
    reached = steady(timed)
    if reached < UNSTEADY * timed.low:
        found.append(f"in a quarter of the rounds it was {reached:.2f}× as fast, or less: its threads may share a core")
    return found


def _noise_warning(noise: Timing) -> tuple[str, ...]:
    """Say so when the baseline's interval against itself, which the console shows too, is wide."""
    reach = max(noise.high - 1, 1 - noise.low)
    if reach > NOISY:
        return (f"the network as given differs from itself by up to {reach:.1%}: smaller gains drown in noise now",)
    return ()
