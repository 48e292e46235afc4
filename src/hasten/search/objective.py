"""What a search makes better: the time of a request, samples a second, the bytes of the file, or those in memory.

Time is measured in any case. Where bytes count, what is slower than the network as given is no gain.
"""

from __future__ import annotations

from math import inf

from hasten.measure.speed import steady_speedup
from hasten.search.first_timing import AWAKE as AWAKE
from hasten.search.first_timing import NEAR as NEAR
from hasten.search.first_timing import NOTHING, Span, alone
from hasten.search.run import Run
from hasten.trial import Candidate, Scalar, Timing

OBJECTIVES = ("latency", "throughput", "size", "memory")
BYTES = {"size": "smaller", "memory": "leaner"}


def bytes_count(run: Run) -> bool:
    """True when the search is for bytes, not for time."""
    return run.objective in BYTES


def gain(run: Run, key: str) -> float:
    """How many times better a candidate is than the network as given; 0 where that was not measured."""
    trial = run.trials[key]
    if trial.timing is None:
        return 0.0
    if not bytes_count(run):
        return speed(run, key)
    given = run.trials[run.given]
    had, has = (given.bytes, trial.bytes) if run.objective == "size" else (given.peak_bytes, trial.peak_bytes)
    return had / has if had and has and trial.timing.high >= 1 else 0.0


def speed(run: Run, key: str) -> float:
    """The speed-up that candidates are ranked by; 0 when it was not timed."""
    timed = run.trials[key].timing
    return 0.0 if timed is None else steady(timed)


def steady(timed: Timing) -> float:
    """The speed-up that three of four pairs reach."""
    return steady_speedup(timed.log_ratios) if timed.log_ratios else timed.speedup


def quick_ms(run: Run, key: str) -> float:
    """The first look at a candidate's latency; infinite when it was never looked at."""
    trial = run.trials.get(key)
    return inf if trial is None or trial.quick_ms is None else trial.quick_ms


def taken_ms(run: Run, key: str) -> float:
    """The latency by the last race, on the scale of first looks; by the first look where it was in none."""
    raced = run.usual_ms and key in run.trials and speed(run, key)
    return run.usual_ms / raced if raced else quick_ms(run, key)


def first_span(run: Run, key: str) -> Span:
    """The interval of the first timing; never behind nothing where there was none."""
    trial = run.trials.get(key)
    if trial is None or trial.quick_ms is None:
        return NOTHING
    if trial.quick_range is None:
        return alone(trial.quick_ms)
    return Span(trial.quick_range[0], trial.quick_ms, trial.quick_range[1])


def span(run: Run, key: str) -> Span:
    """The interval by the last race, on the scale of first timings; by the first timing where it was in none."""
    timed = run.trials[key].timing if key in run.trials else None
    if timed is None or not run.usual_ms or timed.low <= 0 or not timed.log_ratios:
        return first_span(run, key)
    return Span(run.usual_ms / timed.high, run.usual_ms / steady(timed), run.usual_ms / timed.low)


def given_span(run: Run) -> Span:
    """The interval of the network as given: what it differs by from itself."""
    return Span(run.usual_ms / run.noise, run.usual_ms, run.usual_ms * run.noise) if run.usual_ms else NOTHING


def rested_ms(run: Run, key: str) -> float:
    """The first look, which meets threads that are awake, slowed as float32 with the same settings was by pauses."""
    return slowed_by_pauses(run, key) * quick_ms(run, key)


def slowed_by_pauses(run: Run, key: str) -> float:
    """How many times as long float32 with the same settings took after pauses; 1 where that was not timed."""
    wanted, slowed = run.trials[key].candidate, 1.0
    for trial in run.trials.values():
        c = trial.candidate
        same = c.engine == wanted.engine and c.settings == _wide(wanted) and c.lossless and c.steps
        if same and trial.timing is not None and trial.quick_ms is not None:
            slowed = max(1.0, run.usual_ms / trial.quick_ms / steady(trial.timing))
    return slowed


def _wide(candidate: Candidate) -> dict[str, Scalar]:
    return {name: value for name, value in candidate.settings.items() if name != "precision"}


def promised(run: Run, key: str) -> float:
    """The gain that holds whatever the pauses between requests: of time the lower end of the interval.

    Or what three of four pairs show, or that interval for the first calls after a pause, where that is less: a middle
    tells nothing of a quarter of the time in which threads share a core.
    """
    timed = run.trials[key].timing
    if bytes_count(run) or timed is None:
        return gain(run, key)
    return min(timed.low, speed(run, key), timed.waking[1] if timed.waking else timed.low)


def better(run: Run) -> str:
    """``"faster"``, ``"smaller"`` or ``"leaner"``."""
    return BYTES.get(run.objective, "faster")
