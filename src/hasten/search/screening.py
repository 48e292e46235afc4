"""Who stays in the field: a look at the clock, a look at the answers, and a race."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf, isfinite
from statistics import median

import numpy as np

from hasten import replies
from hasten.measure.divergence import DECIDES, mean_divergence
from hasten.measure.evaluate import NewNaN
from hasten.measure.quality import assess, judgeable, unjudged
from hasten.measure.sequential import FUTILE, LOOKS
from hasten.measure.speed import LEAST_PAIRS
from hasten.measure.timing import Series, alone, interleave, milliseconds, timing, warm_up
from hasten.search import answers, policy
from hasten.search.also import with_conditions
from hasten.search.baseline import measure_baseline
from hasten.search.field import SCREENED, Run, race_rounds
from hasten.search.first_timing import Span, of_ratios
from hasten.search.loading import baseline, lost, ready
from hasten.search.objective import first_span, quick_ms, rested_ms
from hasten.search.question import digest
from hasten.search.run import CUT
from hasten.search.untried import NOT_TRIED
from hasten.trial import Candidate, Quality, Trial
from hasten.worker import CallFailed, Worker, WorkerDied

WEIGHED = 16  # samples
SPARE_MS = 4.0  # a call
BEATEN = 1.1  # times as slow, in every round
TOLD = 1.1  # times a quick look: what pauses cost more than this is told


def screen(run: Run, candidate: Candidate, least: int = SCREENED) -> Quality | None:
    """Look at the candidate's answers on growing parts of the search split; stop as soon as it is hopeless.

    At ``least`` samples, where there are so many, and at more where the network is fast. Rejecting early adds no false
    acceptance: proof happens elsewhere, on data that nobody has looked at.
    """
    most, known = affordable(run, least), run.trials[candidate.key]
    if known.search is not None and most <= affordable(run, SCREENED):  # the first look was at as many
        return known.search if known.status == "ok" else None
    name = "screen" if least == SCREENED else "deep screen"
    alive = run.step(name, candidate, lambda: _screen(run, candidate, most))
    return run.trials[candidate.key].search if alive else None


def affordable(run: Run, least: int) -> int:
    """As many search samples as a network of ``SPARE_MS`` answers ``least`` of: the more, the less is luck.

    No more than a small part of the time allows.
    """
    times = max(1.0, SPARE_MS / run.usual_ms) if run.usual_ms else 1.0
    most = int(least * times)
    if run.usual_ms and run.seconds < inf:  # a slow network answers fewer
        share = 1000 * float(policy.SCREEN_SHARE) * run.seconds / run.usual_ms
        most = min(most, max(int(float(policy.SCREEN_LEAST)), int(share)))
    return min(most, len(run.splits.search))


def _screen(run: Run, candidate: Candidate, most: int) -> object:
    """Score it on up to ``most`` search samples. Returns ``CUT`` where the time was up after fewer."""
    worker = run.loaded[candidate.key]
    start = time.perf_counter()
    ids = [int(i) for i in run.splits.search[:most]]
    measure_baseline(run, ids)
    if not judgeable(run.evaluator.metric, run.budget, run.evaluator.known(ids)):  # as of one class alone
        ids = [int(i) for i in run.splits.search]
        measure_baseline(run, ids)
    rows, quality, seen, hopeless, cut = None, None, 0, False, False
    looks = sorted({*(min(look, len(ids)) for look in LOOKS), len(ids)})
    try:
        if run.trials[candidate.key].harm is None and not weigh(run, candidate.key):
            return None
        for look in looks:
            fresh = run.evaluator.rows(worker, ids[seen:look])
            rows = fresh if rows is None else np.concatenate([rows, fresh])
            seen = look
            known = run.evaluator.known(ids[:seen])
            if not judgeable(run.evaluator.metric, run.budget, known):
                quality = unjudged(run.evaluator.metric, "search")
                continue
            groups = run.evaluator.groups(ids[:seen])
            quality = assess(run.evaluator.metric, run.budget, known, rows, split="search", groups=groups)
            quality = with_conditions(run, ids[:seen], quality, "search")
            careful = assess(run.evaluator.metric, run.budget, known, rows, split="search", groups=groups, alpha=FUTILE)
            hopeless = careful.lower > run.budget.max_drop
            cut = not hopeless and seen < len(ids) and run.over()
            if hopeless or cut:
                break
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return None
    except NewNaN as fault:
        run.update(candidate.key, status="rejected", reason=str(fault))
        return None
    assert quality is not None
    if not isfinite(quality.drop + quality.value):
        run.update(candidate.key, status="rejected", reason=f"its score is not a number ({quality.method})")
        return None
    took = run.trials[candidate.key].seconds + time.perf_counter() - start
    run.update(candidate.key, search=quality, seconds=took)
    if hopeless:
        text = f"drop {quality.drop * 100:.2f} points on {quality.n} samples, clearly over {run.budget}"
        run.update(candidate.key, status="rejected", reason=text)
    return CUT if cut else None


def weigh(run: Run, key: str) -> bool:
    """Record a loaded candidate's harm: how far its answers lie from the baseline's on a few search samples.

    Not on those that it was made from: what refits weights to them looks better there than it is. False where it
    certainly does not keep an output; that rejects it.

    Raises what running it raises.
    """
    got, wanted = answers.beside(run, key, answers.WEIGHED)
    read = ([[one[k] for k in run.evaluator.keep] for one in side[:WEIGHED]] for side in (wanted, got))
    run.update(key, harm=mean_divergence(*read, classes=run.evaluator.metric.name in DECIDES))
    if told := answers.spoilt(run, wanted, got):
        run.update(key, status="rejected", reason=told)
    return not told


def race(run: Run, keys: Sequence[str], rounds: int, *, rested: bool = False) -> None:
    """Time the loaded candidates ``keys`` in one interleaved field with the baseline; record each one's timing.

    ``rested``: from sleeping threads, as the final timing does; that takes twice as long. Some pools then wake on one
    core, and are half as fast until they have run for long.
    """
    for key in (k for k in keys if k in run.trials):  # what rests on no trial was never built
        ready(run, run.trials[key].candidate)  # closed meanwhile, to save memory
    racing = [k for k in keys if k in run.loaded]
    if rested:
        run.say("trial", "timing the fastest with pauses between requests")
    step = digest([rounds, rested, *racing])
    found = run.once("race", step, dict[str, Trial], lambda: _race(run, racing, rounds, rested))
    for key, trial in found.items():
        run.record(trial)
        if trial.status != "ok":
            run.retire([key])


def _race(run: Run, keys: Sequence[str], rounds: int, rested: bool) -> dict[str, Trial]:
    sides = {run.given: baseline(run), **{k: run.loaded[k] for k in keys}}
    stop, leave = (lambda _: run.stopping()), partial(beaten, given=run.given)
    rounds = race_rounds(run, len(sides), rounds)
    series = interleave(sides, run.work, rounds=rounds, seed=run.seed, stop=stop, leave=leave, rested=rested)
    for key, fault in series.lost.items():
        lost(run, run.trials[key].candidate, fault)
    base = series.blocks[run.given]
    for key, blocks in series.blocks.items():
        if key not in series.lost and min(len(blocks), len(base)) >= LEAST_PAIRS:
            run.update(key, timing=timing(base, blocks), **_memory(run, key))
    return {k: run.trials[k] for k in (run.given, *keys)}


def beaten(series: Series, given: str) -> list[str]:
    """Who was clearly slower than the fastest in every round, once they are enough for an interval: so it stays."""
    rounds = len(series.blocks[given])
    racing = {k: blocks for k, blocks in series.blocks.items() if len(blocks) == rounds and k not in series.lost}
    if rounds < LEAST_PAIRS or not racing:
        return []
    best = min(racing.values(), key=median)
    slower = (k for k in racing if all(own > BEATEN * other for own, other in zip(racing[k], best, strict=True)))
    return [k for k in slower if k != given]


def _memory(run: Run, key: str) -> dict[str, int]:
    """Peak memory of a candidate's process, where that is what counts."""
    if run.objective != "memory":
        return {}
    with suppress(WorkerDied, CallFailed):
        return {"peak_bytes": replies.memory(run.loaded[key])}
    return {}


def hopelessly_slow(run: Run, candidate: Candidate, best: Span) -> bool:
    """A first timing before the long look at the answers: what is behind the one to beat by the intervals is out.

    What is not out, and changes answers, is weighed too.
    """
    return not run.step("clock", candidate, lambda: _look_at_the_clock(run, candidate, best))


def _look_at_the_clock(run: Run, candidate: Candidate, best: Span) -> None:
    try:
        taken = quick_look(run, run.loaded[candidate.key])
        run.update(candidate.key, quick_ms=taken.middle, quick_range=(taken.low, taken.high))
        if not candidate.lossless and not taken.behind(best) and not weigh(run, candidate.key):
            return
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return
    too_slow(run, candidate, best)


def too_slow(run: Run, candidate: Candidate, best: Span) -> bool:
    """True where the first timing put a candidate behind ``best`` by the intervals; it is out then."""
    if not first_span(run, candidate.key).behind(best):
        return False
    outrun(run, candidate, best.middle, "are to be beaten")
    return True


def out_of_time(run: Run, candidates: Sequence[Candidate], why: str = "the search's time was up") -> None:
    """Even what was never tried is told."""
    run.ran_out = run.ran_out or (bool(candidates) and not run.stopping())
    for candidate in candidates:
        reason = NOT_TRIED + ("the search was stopped" if run.stopping() else why)
        run.record(Trial(candidate=candidate, status="skipped", reason=reason, stage=run.stage))


def outrun(run: Run, candidate: Candidate, best: float, whose: str) -> None:
    """Retire what a quick look showed to be slower than ``best`` milliseconds; ``whose`` says whose these are."""
    run.retire([candidate.key])
    quick, rested = quick_ms(run, candidate.key), rested_ms(run, candidate.key)
    pauses = f", by its float32 about {rested:.3g} ms with pauses" if rested > TOLD * quick else ""
    text = f"{quick:.3g} ms in a quick look{pauses}, {best:.3g} ms {whose}"
    run.update(candidate.key, status="slower", reason=text)


def quick_look(run: Run, worker: Worker) -> Span:
    """Milliseconds of a call in a few blocks, were the machine as fast as when the noise was measured.

    The baseline runs in between: in a slow spell its own calls take longer too.
    """
    sides, ratios, took = (worker, baseline(run)), list[float](), 0.0
    for side in sides:
        side.hold()
    inner = [alone(side, lambda s=side: warm_up(s, run.work)) for side in sides]  # type: ignore[misc]
    for _ in range(int(float(policy.TIMING_BLOCKS))):
        mine, its = (
            median(alone(side, partial(milliseconds, side, run.work, n))) for side, n in zip(sides, inner, strict=True)
        )
        ratios.append(mine / its)
        took = its if not took else min(took, its)
    return of_ratios(ratios, run.usual_ms or took, run.noise)
