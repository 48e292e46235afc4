"""What a search makes better: the time of a request, samples a second, the bytes of the file, or those in memory.

Time is measured in any case. Where bytes count, what is slower than the network as given is no gain.
"""

from __future__ import annotations

from math import inf

from hasten.measure.speed import steady_speedup
from hasten.search.run import Run
from hasten.trial import Candidate, Scalar, Timing

OBJECTIVES = ("latency", "throughput", "size", "memory")
BYTES = {"size": "smaller", "memory": "leaner"}
NEAR = 1.25  # times as slow: first looks differ by less on a noisy machine
AWAKE = 2.0  # times as fast as where two threads share a core
SHORT_MS = 1.0  # a call; in longer ones such threads part


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


def rested_ms(run: Run, key: str) -> float:
    """The first look, which meets threads that are awake, slowed as float32 with the same settings was by pauses."""
    wanted, slowed = run.trials[key].candidate, 1.0
    for trial in run.trials.values():
        c = trial.candidate
        same = c.engine == wanted.engine and c.settings == _wide(wanted) and c.lossless and c.steps
        if same and trial.timing is not None and trial.quick_ms is not None:
            slowed = max(1.0, run.usual_ms / trial.quick_ms / steady(trial.timing))
    return slowed * quick_ms(run, key)


def far_behind(ms: float, best: float) -> bool:
    """Do first looks of so many milliseconds show that the one that took ``best`` is faster?

    Threads that wake for a short call may share a core, in one process and not in the next, for minutes.
    """
    return ms > (AWAKE if ms < SHORT_MS else NEAR) * best


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
