"""What a search makes better: the time of a request, samples a second, the bytes of the file, or those in memory.

Time is measured in any case. Where bytes count, what is slower than the network as given is no gain.
"""

from __future__ import annotations

from hasten.search.run import Run

OBJECTIVES = ("latency", "throughput", "size", "memory")
BYTES = {"size": "smaller", "memory": "leaner"}
BATCH = 16  # samples a request where throughput counts and no other number is given


def bytes_count(run: Run) -> bool:
    """True when the search is for bytes, not for time."""
    return run.objective in BYTES


def gain(run: Run, key: str) -> float:
    """How many times better a candidate is than the network as given; 0 where that was not measured."""
    trial = run.trials[key]
    if trial.timing is None:
        return 0.0
    if not bytes_count(run):
        return trial.timing.speedup
    given = run.trials[run.given]
    had, has = (given.bytes, trial.bytes) if run.objective == "size" else (given.peak_bytes, trial.peak_bytes)
    return had / has if had and has and trial.timing.high >= 1 else 0.0


def better(run: Run) -> str:
    """``"faster"``, ``"smaller"`` or ``"leaner"``."""
    return BYTES.get(run.objective, "faster")
