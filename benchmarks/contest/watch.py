"""A command under limits: how long it ran, and the most memory that it and its children held."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL = 0.1  # seconds
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes


@dataclass(frozen=True, kw_only=True)
class Spent:
    """``reason`` is empty when the command ended well."""

    seconds: float
    peak_mb: float
    returncode: int
    reason: str
    output: str


def family(pid: int) -> list[int]:
    """A process and all its descendants, as Linux lists them."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def resident(pid: int) -> float:
    """MB of resident memory of a process and all its descendants; 0 when it is gone."""
    pages = 0
    for member in family(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * PAGE / 2**20


def proportional(pid: int) -> float:
    """MB of memory of a process and all its descendants, what several of them share counted once."""
    kb = 0
    for member in family(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kb / 2**10


def end(pid: int) -> None:
    """Kill a process that we started, with its descendants."""
    for member in reversed(family(pid)):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def watched(command: list[str], log: Path, *, env: dict[str, str], seconds: float, mb: float) -> Spent:
    """Run ``command`` with its error stream in ``log``; killed beyond ``seconds`` or ``mb``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began, highest, peak, reason = time.perf_counter(), 0.0, 0.0, ""
    with log.open("w") as errors, log.with_suffix(".out").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=env)
        while process.poll() is None:
            now = resident(process.pid)
            if now > 0.98 * highest:  # dearer to ask, so only near the summit
                highest, peak = max(highest, now), max(peak, proportional(process.pid))
            spent = time.perf_counter() - began
            if spent > seconds or peak > mb:
                reason = f"over {seconds:g} s" if spent > seconds else f"over {mb:g} MB"
                end(process.pid)
                break
            time.sleep(POLL)
        code = process.wait()
    if code and not reason:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        reason = last[-1][:300] if last else f"ended with {code}"
    output = log.with_suffix(".out").read_text(errors="replace")
    elapsed = time.perf_counter() - began
    return Spent(seconds=elapsed, peak_mb=peak, returncode=code, reason=reason, output=output)
