"""All stages of a search in order, and the record of them."""

from __future__ import annotations

import time
from typing import Any

from hasten.machine import machine
from hasten.model import file_digest
from hasten.search import baseline, final, lossless, narrow
from hasten.search.field import Run
from hasten.search.prepare import Question
from hasten.search.verdict import decide
from hasten.trial import Provable, Result, Timing
from hasten.worker import peak_together

RESTARTS = 4
FINAL_ROUNDS = 8


def answer(
    run: Run, question: Question, usable: dict[str, Any], able: Provable, warnings: list[str], start: float
) -> Result:
    """All stages, then the record of them."""
    noise = baseline.noise_floor(run)
    baseline.score_baseline(run)
    run.stage = "1/3 lossless"
    run.say("stage", "float32 on every engine")
    tuned = lossless.lossless_stage(run, usable, question.threads, noise.median_ms)
    run.stage = "2/3 narrow"
    run.say("stage", "narrower arithmetic")
    narrow.narrow_stage(run, usable, tuned, question.threads)
    final.what_ran(run, list(run.loaded))
    run.stage = "3/3 confirm"
    run.say("stage", "proof on unseen samples, then the final timing")
    winner, looks = final.confirm_stage(run, tuned)
    winner = final.settle(run, winner, tuned, RESTARTS, FINAL_ROUNDS)
    verdict, sentence, needed = decide(run, winner, looks)
    return Result(
        model=str(question.model),
        model_sha256=file_digest(run.staged),
        data_sha256=run.evaluator.store.digest,
        metric=run.evaluator.metric.name,
        metric_kind=run.evaluator.metric.kind,
        budget=str(run.budget),
        confidence=run.budget.confidence,
        verdict=verdict,
        sentence=sentence,
        as_given=run.trials[run.given],
        tuned=run.trials[tuned],
        winner=run.trials[winner],
        trials=tuple(run.trials.values()),
        provable=able,
        machine=machine(),
        noise=noise,
        seed=run.seed,
        seconds=time.monotonic() - start,
        peak_bytes=peak_together(),
        needed_samples=needed,
        warnings=tuple(warnings) + _noise_warning(noise),
        looks=1,
    )


def _noise_warning(noise: Timing) -> tuple[str, ...]:
    """Say so when the baseline differs from itself."""
    if noise.low > 1 or noise.high < 1:
        text = f"the baseline differed from itself by {abs(noise.speedup - 1):.1%}: this machine is noisy now"
        return (text,)
    return ()
