"""``python -m benchmarks.mutations [--count N] [--kind npz ...] [--store]``: damaged files at every door and reader.

Each file is a good one with damage of its format: fields, chunks, headers, cells, entries of archives, and bits. It is
read in a child, as hasten reads it. A few of each kind go through a command as well, in whose process memory counts.
A file must be valid, or refused with an error of ours that has a help line, within ``SECONDS``. A child that dies is a
finding, except where hasten reads in a worker: there it is an answer. Kinds whose framework is missing are named.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.mutations import seeds
from benchmarks.mutations.readers import DATA, READERS, child

RESULT = Path(__file__).parent.parent / "results" / "mutations.json"
SHARES = {
    "onnx": 12,
    "tflite": 8,
    "pt2": 3,
    "keras": 3,
    "savedmodel": 4,
    "journal": 5,
    "recipe": 4,
    "manifest": 5,
    "report": 5,
}
SHARE = 6.4  # of the kinds of data, in percent
SECONDS, HUNG = 20.0, 60.0
PARENT_BYTES = 1 << 30
BATCH = 100
COMMAND = 400  # one file in so many goes through a command too
IN_WORKERS = ("onnx", "tflite", "pt2", "keras", "savedmodel", *DATA)  # where hasten itself reads in a worker
GOOD = ("valid", "refused", "not accepted")


@dataclass
class Row:
    """What came of the files of one kind."""

    kind: str
    files: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_file: int = -1
    peak_bytes: int = 0
    command_peak_bytes: int = 0
    commands: int = 0

    def add(self, answer: dict[str, Any], command: bool) -> None:
        """One more file."""
        fate, text = answer["fate"], answer["text"]
        if command:
            self.commands += 1
            self.command_peak_bytes = max(self.command_peak_bytes, answer["peak"])
            fate = fate if fate in GOOD else f"{fate} (command)"
        else:
            self.files += 1
            self.fates[fate] += 1
            self.peak_bytes = max(self.peak_bytes, answer["peak"])
            if fate == "refused":
                self.classes[text] += 1
            if answer["seconds"] > self.slowest:
                self.slowest, self.slowest_file = answer["seconds"], answer["number"]
        died = fate == "died" and self.kind in IN_WORKERS
        self.deaths += [f"{answer['number']}: {text}"] if fate == "died" else []
        if (fate not in GOOD and not died) or answer["seconds"] > SECONDS:
            self.findings.append(f"{answer['number']}: {fate} after {answer['seconds']:.1f} s: {text}")

    def plain(self) -> dict[str, Any]:
        """As JSON; of the messages, the most frequent ones."""
        found = {
            **vars(self),
            "fates": dict(self.fates),
            "findings": self.findings[:100],
            "slowest": round(self.slowest, 2),
        }
        return {**found, "classes": dict(self.classes.most_common(12)), "kinds_of_message": len(self.classes)}


def run(row: Row, places: list[Path], first: int, count: int, *, command: bool = False) -> None:
    """Let children read files ``first`` to ``first + count``; one that dies is replaced, and the file counted."""
    number, end = first, first + count
    line = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.mutations",
        "--child",
        row.kind,
        "--seeds",
        *map(str, places),
    ]
    home = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    while number < end:
        with tempfile.TemporaryDirectory(prefix="hasten-mutations-", dir=home) as folder:
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_absolute()), "HASTEN_MUTATIONS": "1"}
            process = subprocess.Popen(
                line + ["--command"] * command,
                stdin=pipe,
                stdout=pipe,
                stderr=nowhere,
                text=True,
                cwd=folder,
                env=environment,
            )
            number = _served(process, row, number, end, command)


class Lines:
    """The lines of a pipe, each within ``HUNG`` seconds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._held = descriptor, b""

    def next(self) -> tuple[bool, bytes]:
        """Did the pipe answer, and its next line; empty at its end."""
        while b"\n" not in self._held:
            if not select.select([self._descriptor], [], [], HUNG)[0]:
                return False, b""
            piece = os.read(self._descriptor, 1 << 16)
            if not piece:
                return True, b""
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        return True, line


def _absolute() -> list[str]:
    return [str(Path(p).resolve()) for p in (*os.environ.get("PYTHONPATH", "").split(os.pathsep), ".") if p]


def _served(process: subprocess.Popen[str], row: Row, number: int, end: int, command: bool) -> int:
    """Ask for a batch after another; the number to go on with."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    try:
        while number < end:
            count = min(BATCH, end - number)
            process.stdin.write(f"{number} {count}\n")
            process.stdin.flush()
            for _ in range(count):
                ready, line = lines.next()
                if not line:
                    if not ready:
                        process.kill()
                    process.wait(timeout=HUNG)
                    text = f"exit {process.returncode}" if ready else "no answer"
                    told = {
                        "fate": "died" if ready else "hung",
                        "text": text,
                        "seconds": 0.0 if ready else HUNG,
                        "peak": 0,
                    }
                    row.add({"number": number, **told}, command)
                    return number + 1
                row.add(json.loads(line), command)
                number += 1
    finally:
        process.kill()
        process.communicate()
    return number


def shares(count: int, kinds: list[str]) -> dict[str, int]:
    """How many files each kind gets of ``count`` for all kinds."""
    return {kind: max(1, round(count * SHARES.get(kind, SHARE) / 100)) for kind in kinds}


def missing(kind: str) -> str:
    """The first package that a kind needs and this environment lacks."""
    return next((name for name in seeds.NEEDS.get(kind, ()) if find_spec(name) is None), "")


def table(rows: list[Row]) -> str:
    """By kind: files, what came of them, the slowest and the memory."""
    head = (
        "kind",
        "files",
        "valid",
        "refused",
        "not taken",
        "died",
        "findings",
        "messages",
        "slowest s",
        "MiB",
        "parent MiB",
    )
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        counts = [row.files, *(row.fates[f] for f in (*GOOD, "died")), len(row.findings), len(row.classes)]
        memory = (row.peak_bytes >> 20, row.command_peak_bytes >> 20)
        lines.append((row.kind, *map(str, counts), f"{row.slowest:.1f}", *map(str, memory)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def one_kind(kind: str, count: int, folder: Path, first: int) -> Row:
    """Make the seeds of a kind and read its damaged files."""
    row, begun = Row(kind), time.perf_counter()
    places = seeds.make(kind, folder / kind)
    run(row, places, first, count)
    if kind in IN_WORKERS and count >= COMMAND:
        run(row, places, first, count // COMMAND, command=True)
    if row.command_peak_bytes > PARENT_BYTES:
        row.findings.append(f"a command took {row.command_peak_bytes >> 20} MiB")
    if kind not in IN_WORKERS and row.peak_bytes > PARENT_BYTES:
        row.findings.append(f"the parent took {row.peak_bytes >> 20} MiB")
    print(f"{kind}: {row.files} files in {time.perf_counter() - begun:.0f} s, {len(row.findings)} findings", flush=True)
    for finding in (*row.findings[:20], *row.deaths[:5]):
        print(f"  {finding}", flush=True)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--kind", action="append", choices=sorted(READERS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", nargs="*", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--command", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.seeds, asked.command)
        return 0
    kinds = asked.kind or list(READERS)
    absent = {kind: missing(kind) for kind in kinds if missing(kind)}
    todo = shares(asked.count, [kind for kind in kinds if kind not in absent])
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.workers) as pool:
        begun = time.perf_counter()
        rows = list(pool.map(lambda k: one_kind(k, todo[k], Path(folder), asked.first), todo))
        seconds = round(time.perf_counter() - begun)
    print(table(rows))
    for kind, package in absent.items():
        print(f"not run: {kind}, which needs {package}")
    files = sum(row.files for row in rows)
    print(f"{files} files in {seconds} s, {sum(len(row.findings) for row in rows)} findings")
    if asked.store:
        told = {"files": files, "seconds": seconds, "not_run": absent, "kinds": [row.plain() for row in rows]}
        RESULT.write_text(json.dumps(told, indent=1) + "\n")
    return int(any(row.findings for row in rows))


if __name__ == "__main__":
    sys.exit(main())
