"""One warm worker: ``python -m benchmarks.contest.serve JOB.json``; requests and replies are lines of JSON.

``{"do": "answer", "ids": [...], "save": path}`` writes the outputs of samples as ``.npz``.
``{"do": "time", "first": k, "count": m}`` replies with m times in nanoseconds, after one untimed call.
Between requests the process is blocked on its pipe.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import feeds as fed
from benchmarks.contest import runtimes
from benchmarks.contest.feeds import Array, Run, Split


def timed(split: Split, run: Run, first: int, count: int, batch: int) -> list[int]:
    """Nanoseconds of ``count`` calls on samples from ``first`` on (around the end); inputs are in memory before."""
    if split.state:
        return timed_frames(split, run, first % len(split), count)
    ids = [(first + offset) % len(split) for offset in range(count * batch)]
    calls = [split.rows(ids[start : start + batch]) for start in range(0, len(ids), batch)]
    run(calls[0])
    times = []
    for call in calls:
        began = time.perf_counter_ns()
        run(call)
        times.append(time.perf_counter_ns() - began)
    return times


def timed_frames(split: Split, run: Run, index: int, count: int) -> list[int]:
    """The first ``count`` frames of a sequence, the state handed on; handing it on is not timed."""
    times: list[int] = []

    def clocked(feeds: dict[str, Array]) -> dict[str, Array]:
        began = time.perf_counter_ns()
        outputs = run(feeds)
        times.append(time.perf_counter_ns() - began)
        return outputs

    frames = fed.sequence(split, index, clocked)
    for _ in range(min(count, split.steps - 1) + 1):
        next(frames)
    return times[1:]


def reply(job: dict[str, Any], split: Split, run: Run, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "time":
        return {"ns": timed(split, run, request["first"], request["count"], job["batch"])}
    other = fed.read(Path(request["split"])) if "split" in request else split
    outputs = fed.answers(other, request["ids"], job["batch"], run)
    kept = {name: array for name, array in outputs.items() if not job["keep"] or name in job["keep"]}
    np.savez(request["save"], allow_pickle=False, **kept)
    return {"saved": request["save"]}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints goes to the log, never between two replies
    job = json.loads(Path(sys.argv[1]).read_text())
    split = fed.read(Path(job["split"]))
    began = time.perf_counter()
    run = runtimes.load(job["engine"], Path(job["path"]), job["settings"], job["outputs"])
    print(json.dumps({"ready": time.perf_counter() - began}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(reply(job, split, run, json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
