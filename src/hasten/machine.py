"""What this machine is: usable cores, instruction sets, memory, versions. Linux is read in full, others in part."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hasten.trial import Machine

PACKAGES = (
    "hasten", "numpy", "scipy", "onnx", "onnx-ir", "onnxruntime", "openvino", "ai-edge-litert", "torch", "keras",
    "tensorflow", "tensorflow-cpu",
)  # fmt: skip
GROUP_FILES = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
INTERESTING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8")
INTERESTING_ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")


def now() -> str:
    """The time in ISO 8601, to the second, with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


@cache
def cores() -> int:
    """Cores this process may use: its affinity, cut by a cgroup's CPU quota, never below one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            usable = min(usable, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, usable)


@cache
def cpuinfo() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    block = text.split("\n\n", 1)[0]
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in block.splitlines())}


@cache
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that decide which arithmetic is fast here."""
    flags = set((cpuinfo().get("flags") or cpuinfo().get("Features") or "").split())
    return tuple(f for f in INTERESTING + INTERESTING_ARM if f in flags)


def memory_bytes() -> tuple[int, int]:
    """Physical memory and what is free for us now, in bytes; a cgroup limit counts."""
    fields = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            fields[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return 0, 0
    total, free = fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
    for limit, used in _group_limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _group_limits() -> Iterator[tuple[int, int]]:
    """Limit and use of memory of each cgroup that this process is in, of version 1 or 2, up to the root."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, name in (group for group in groups if len(group) == 3):
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
            limit, used = GROUP_FILES[controllers]
            inside = Path(name.lstrip("/"))
            for place in (inside, *inside.parents):
                try:
                    counted = dict(line.split() for line in (root / place / "memory.stat").read_text().splitlines())
                    cached = int(counted.get("total_inactive_file", counted.get("inactive_file", 0)))  # given up first
                    yield int((root / place / limit).read_text()), int((root / place / used).read_text()) - cached
                except (OSError, ValueError):
                    continue


def oom_kills() -> int:
    """How many processes this system has killed for want of memory since it started; 0 where it does not count."""
    for place in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        try:
            counted = dict(line.split() for line in Path(place).read_text().splitlines())
            return int(counted["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def versions() -> dict[str, str]:
    """Versions of python and of the packages that decide a result; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> Machine:
    """This machine, for the manifest and the report."""
    return Machine(
        cpu=cpuinfo().get("model name") or platform.processor() or platform.machine(),
        cores=cores(),
        instruction_sets=instruction_sets(),
        memory_bytes=memory_bytes()[0],
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=versions(),
    )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process in bytes; 0 once it is gone or where /proc does not exist."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def private_bytes(pid: int) -> int:
    """Resident memory that is a process's own, without files it has mapped; 0 where it cannot be read."""
    try:
        _, resident, shared = (int(v) for v in Path(f"/proc/{pid}/statm").read_text().split()[:3])
    except (OSError, ValueError):
        return 0
    return max(0, resident - shared) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int | str = "self") -> int:
    """Peak resident memory (VmHWM) of a process in bytes; 0 where it cannot be read."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def load_flags() -> tuple[str, ...]:
    """Reasons to distrust a timing taken now: other load, throttling."""
    found = []
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores() + 1:
        found.append(f"load average {os.getloadavg()[0]:.1f} on {cores()} cores")
    try:
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/cpu.stat").read_text().splitlines())
        if int(stat.get("nr_throttled", 0)):
            found.append("the CPU quota has throttled this machine")
    except (OSError, ValueError):
        pass
    return tuple(found)
