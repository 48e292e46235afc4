"""The parent's end of warm workers, and rounds in which all of them are timed in shuffled order."""

from __future__ import annotations

import json
import random
import select
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.contest import watch

PAUSE = 0.055  # seconds; a runtime's idle threads may spin for 45 ms after a call and tax whoever runs next
BLOCK_NS, MOST_CALLS, LEAST_CALLS = 20_000_000, 50, 3


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """An artefact with the runtime that serves it. ``python`` is the interpreter of its environment."""

    name: str
    python: str
    engine: str
    path: str
    settings: dict[str, Any]


class WorkerDied(Exception):
    """A worker ended or did not answer; the text says how."""


class Worker:
    """A process that has loaded one contestant and waits on its pipe."""

    def __init__(self, contestant: Contestant, job: dict[str, Any], folder: Path, env: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = contestant.name.replace(" ", "_").replace(",", "")
        job_file, self.log = folder / f"{stem}.json", folder / f"{stem}.log"
        own = {"engine": contestant.engine, "path": contestant.path, "settings": contestant.settings}
        job_file.write_text(json.dumps({**job, **own}))
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [contestant.python, "-m", "benchmarks.contest.serve", str(job_file)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env, text=True,
            )  # fmt: skip
        self.load_seconds = float(self._reply(120)["ready"])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, request: dict[str, Any], seconds: float = 600) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerDied(self._last_words()) from None
        return self._reply(seconds)

    def _reply(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            words = self._last_words() if ready else f"no answer in {seconds:g} s"
            self.close()
            raise WorkerDied(words)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        code = self.process.wait(10)
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return (lines[-1][:300] if lines else "") or f"ended with {code}"

    def block(self, first: int, count: int) -> float:
        """Median nanoseconds of ``count`` calls, after a pause and one untimed call."""
        time.sleep(PAUSE)
        return float(statistics.median(self.ask({"do": "time", "first": first, "count": count}, 120)["ns"]))

    def close(self) -> None:
        watch.end(self.process.pid)
        self.process.wait()


def rounds(workers: dict[str, Worker], pairs: int, baseline: str, batch: int, seed: int = 0) -> dict[str, list[float]]:
    """Median block times by worker, one a round; all run once a round, in shuffled order, on the same samples."""
    rng = random.Random(seed)
    warm = {name: [worker.block(k, LEAST_CALLS) for k in range(3)] for name, worker in workers.items()}
    count = int(min(MOST_CALLS, max(LEAST_CALLS, -(-BLOCK_NS // min(warm[baseline])))))
    times: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(pairs):
        order = list(workers)
        rng.shuffle(order)
        for name in order:
            times[name].append(workers[name].block(turn * count * batch, count))
    return times
