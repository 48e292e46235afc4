"""Harsh machines: the command line on a small network with no disk, little memory, few files, odd names and clocks.

    python -m benchmarks.hardship [NAME ...]

Each condition is a real ``python -m hasten`` in a process of its own. It holds when the exit code is one of those that
the documentation gives, no traceback is printed, a result that is there is whole, and nothing is left in the temporary
folder. With names, only those rows of the stored table are run again. Conditions that need rights or tools that are
missing here are skipped, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests import networks

from benchmarks.markdown import table
from hasten.machine import machine
from hasten.trial import plain

RESULT = Path(__file__).parent / "results" / "hardship.json"
DONE, MACHINE, KEPT = (0, 1), (4,), (4, 5)
LIMIT_SECONDS, STOPPED_SECONDS, BURNERS = 180.0, 30.0, 4
GIB = 1 << 30
SEARCH = ("optimize", "--engines", "onnxruntime", "--time", "3s", "-q")
BACKWARDS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static int calls;
static time_t shift(void) { return ++calls > 20 ? -86400L * (calls % 40) : 0; }
int clock_gettime(clockid_t id, struct timespec *t) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += shift();
    return done;
}
time_t time(time_t *t) { struct timespec n; clock_gettime(CLOCK_REALTIME, &n); if (t) *t = n.tv_sec; return n.tv_sec; }
"""


class NotHere(Exception):
    """The condition cannot be made on this machine."""


@dataclass
class Run:
    """One command: its folder, its surroundings, and what came of it."""

    home: Path
    model: str = "m.onnx"
    data: str = "d.npz"
    out: str = "out"
    environment: dict[str, str] = field(default_factory=dict)
    wrap: Sequence[str] = ()  # a command that runs it
    before: Callable[[], None] | None = None  # in the child, before it starts
    meanwhile: Callable[[int], None] | None = None  # with its number, while it runs
    arguments: Sequence[str] = ()

    def __call__(self, wanted: Sequence[int]) -> dict[str, object]:
        """Run it. Returns the exit code, the seconds, and what is wrong; nothing is wrong with an empty text."""
        temporary = self.home / "tmp"
        temporary.mkdir(exist_ok=True)
        command = [*self.wrap, sys.executable, "-m", "hasten", *SEARCH, *self.arguments]
        command += ["--data", self.data, "--out", self.out, "--", self.model]
        paths = os.pathsep.join([str(Path.cwd() / "src"), str(Path.cwd())])
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": paths, **self.environment}
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=self.home, env=environment, preexec_fn=self.before, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        if self.meanwhile is not None:
            threading.Thread(target=self.meanwhile, args=(process.pid,), daemon=True).start()
        try:
            text = process.communicate(timeout=LIMIT_SECONDS)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text = process.communicate()[0].decode(errors="replace")
            return {"exit": -9, "seconds": LIMIT_SECONDS, "wrong": "it did not end", "said": text[-300:]}
        wrong = self._wrong(process.returncode, wanted, text, Path(environment["TMPDIR"]))
        seconds = round(time.monotonic() - begun, 1)
        return {"exit": process.returncode, "seconds": seconds, "wrong": wrong, "said": text.strip()[-300:]}

    def _wrong(self, code: int, wanted: Sequence[int], text: str, temporary: Path) -> str:
        out = os.path.join(os.fsencode(self.home), os.fsencode(self.out))  # noqa: PTH118 - bytes
        found = [f"exit {code}, wanted {' or '.join(map(str, wanted))}"] * (code not in wanted)
        found += ["a traceback"] * ("Traceback" in text)
        found += ["no cause or help"] * (code > 1 and not ("cause: " in text or "help: " in text))
        if code in DONE:
            found += ["no whole result"] * (not os.path.isfile(os.path.join(out, b"manifest.json")))  # noqa: PTH113, PTH118
        elif os.path.isdir(out) and os.listdir(out):  # noqa: PTH112, PTH208
            found.append("half a result")
        with suppress(OSError):
            left = [p.name for p in temporary.iterdir() if not p.name.startswith(".")]
            found += [f"left in the temporary folder: {name}" for name in left[:1]]
        return "; ".join(found)


def small(home: Path, model: str = "m.onnx", data: str = "d.npz") -> Run:
    """A network of a few layers, and its samples."""
    (home / "made").mkdir(parents=True, exist_ok=True)
    path = networks.mlp(home / "made" / "m.onnx")
    x = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    np.savez(home / "made" / "d.npz", x=x, labels=networks.answers(path, x).argmax(1))
    for name, given in ((model, "m.onnx"), (data, "d.npz")):
        target = os.path.join(os.fsencode(home), os.fsencode(name))  # noqa: PTH118 - bytes
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        shutil.copyfile(os.fsencode(home / "made" / given), target)
    return Run(home, model, data)


def mounted(stack: ExitStack, place: Path, options: str) -> Path:
    """A file system of its own at ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, check=False)
    if made.returncode:
        raise NotHere("mounting needs root")
    stack.callback(lambda: subprocess.run(["umount", "-l", place], check=False))
    return place


def full_out(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """The disk of ``--out`` holds 48 kB."""
    run, place = small(home), mounted(stack, home / "disk", "size=48k")
    run.out = str(place / "out")
    return run, KEPT


def full_tmp(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """The temporary folder holds 4 kB."""
    run = small(home)
    run.environment = {"TMPDIR": str(mounted(stack, home / "full", "size=4k"))}
    return run, (*DONE, *MACHINE)


def small_files(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """No file may be larger than 2 kB (ulimit -f)."""
    run = small(home)
    run.before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    return run, KEPT


def read_only(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """``--out`` lies on a read-only disk."""
    run, place = small(home), mounted(stack, home / "disk", "ro,size=1m")
    run.out = str(place / "out")
    return run, (2, 4)


def no_shm(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """``/dev/shm`` is empty and read-only."""
    run = small(home)
    script = 'mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$@"'
    run.wrap = ("unshare", "-m", "sh", "-c", script, "sh")
    if os.getuid() or not shutil.which("unshare"):
        raise NotHere("a mount namespace needs root")
    return run, DONE


def few_files(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """64 open files (ulimit -n)."""
    run = small(home)
    run.before = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    return run, DONE


def little_memory(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """1 GiB of memory for the parent and all children together (a cgroup)."""
    run, group = small(home), _group(stack, GIB)
    run.before = lambda: print(os.getpid(), file=(group / "cgroup.procs").open("w"))
    return run, DONE


def least_memory(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """120 MiB of memory for all together (a cgroup): too little for a runtime."""
    run, group = small(home), _group(stack, 120 << 20)
    run.before = lambda: print(os.getpid(), file=(group / "cgroup.procs").open("w"))
    return run, (*DONE, *MACHINE)


def _group(stack: ExitStack, limit: int) -> Path:
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    group = (old if old.is_dir() else new) / f"hasten-hardship-{os.getpid()}"
    try:
        group.mkdir()
        name = "memory.limit_in_bytes" if old.is_dir() else "memory.max"
        (group / name).write_text(str(limit))
    except OSError as fault:
        raise NotHere(f"no memory cgroup can be made: {fault.strerror}") from fault

    def remove() -> None:
        for _ in range(50):
            with suppress(OSError):
                group.rmdir()
                return
            time.sleep(0.1)

    stack.callback(remove)
    return group


def data_limit(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """1 GiB of private memory for each process (ulimit -d)."""
    run = small(home)
    run.before = lambda: resource.setrlimit(resource.RLIMIT_DATA, (GIB, GIB))
    return run, DONE


def one_core(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """One core (taskset)."""
    run, core = small(home), min(os.sched_getaffinity(0))
    run.before = lambda: os.sched_setaffinity(0, {core})
    return run, DONE


def busy(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """Four other processes that compute without a pause."""
    for _ in range(BURNERS):
        burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        stack.callback(burner.wait)
        stack.callback(burner.kill)
    return small(home), DONE


def stopped_parent(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """SIGSTOP of the parent for 30 s."""
    run = small(home)
    run.meanwhile = lambda number: _stop(number)
    return run, DONE


def stopped_child(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """SIGSTOP of a child for 30 s."""
    run = small(home)

    def meanwhile(number: int) -> None:
        time.sleep(5)
        found = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        if found:
            _stop(int(found[0]), 0.0)

    run.meanwhile = meanwhile
    return run, DONE


def _stop(number: int, after: float = 4.0) -> None:
    time.sleep(after)
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        os.kill(number, signal.SIGCONT)


def clock_back(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """The wall clock jumps back by days, again and again (a preloaded library)."""
    run, library = small(home), home / "backwards.so"
    (home / "backwards.c").write_text(BACKWARDS)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotHere("no compiler")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(home / "backwards.c"), "-ldl"]
    subprocess.run(command, check=True)
    run.environment = {"LD_PRELOAD": str(library)}
    return run, DONE


def monotonic_late(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
    """The machine has run for three years (a time namespace)."""
    run = small(home)
    run.wrap = ("unshare", "--time", "--monotonic", "94608000", "--boottime", "94608000", "--fork")
    if subprocess.run([*run.wrap, "true"], capture_output=True, check=False).returncode:
        raise NotHere("no time namespace")
    return run, DONE


def locale(name: str) -> Callable[[Path, ExitStack], tuple[Run, Sequence[int]]]:
    """A condition for one locale."""

    def condition(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
        run = small(home, "Iİıi.onnx" if name != "C" else "m.onnx")
        run.environment = {"LC_ALL": name, "LANG": name}
        if name != "C":
            place = home / "locales"
            place.mkdir()
            made = subprocess.run(
                ["localedef", "-i", name.partition(".")[0], "-f", "UTF-8", str(place / name)],
                capture_output=True, check=False,
            )  # fmt: skip
            if made.returncode:
                raise NotHere(f"localedef cannot make {name}")
            run.environment["LOCPATH"] = str(place)
        return run, DONE

    condition.__doc__ = f"LC_ALL={name}."
    return condition


def named(what: str, stem: str, wanted: Sequence[int] = DONE) -> Callable[[Path, ExitStack], tuple[Run, Sequence[int]]]:
    """A condition for the names of all three paths."""

    def condition(home: Path, stack: ExitStack) -> tuple[Run, Sequence[int]]:
        run = small(home, f"{stem}.onnx", f"{stem}.npz")
        run.out = f"{stem}.out"
        if stem.startswith("-"):
            run.data, run.out = f"./{run.data}", f"./{run.out}"
        return run, wanted

    condition.__doc__ = f"Paths with {what}."
    return condition


CONDITIONS: Mapping[str, Callable[[Path, ExitStack], tuple[Run, Sequence[int]]]] = {
    "disk full": full_out,
    "temporary folder full": full_tmp,
    "file size limit": small_files,
    "read-only": read_only,
    "no /dev/shm": no_shm,
    "64 open files": few_files,
    "1 GiB of memory": little_memory,
    "120 MiB of memory": least_memory,
    "1 GiB a process": data_limit,
    "one core": one_core,
    "busy machine": busy,
    "parent stopped": stopped_parent,
    "child stopped": stopped_child,
    "clock set back": clock_back,
    "three years up": monotonic_late,
    "locale C": locale("C"),
    "locale tr_TR": locale("tr_TR.UTF-8"),
    "spaces": named("spaces", " a b  c "),
    "newlines": named("newlines", "a\nb"),
    "quotes": named("quotes and signs", "a'b\"c`d$(e)&;|<>*?#%{}~é漢"),
    "leading dash": named("a leading dash", "--help"),
    "no UTF-8": named("bytes that are no UTF-8", "a\udcff\udcfeb", (*DONE, 2, 3)),
    "250 letters": named("names of 250 letters", "n" * 245, (*DONE, 2)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CONDITIONS))
    asked = parser.parse_args().names
    rows: dict[str, dict[str, object]] = {}
    for name, condition in CONDITIONS.items():
        if asked and name not in asked:
            continue
        told = (condition.__doc__ or "").strip().splitlines()[0]
        with tempfile.TemporaryDirectory(prefix="hardship-") as home, ExitStack() as stack:
            try:
                run, wanted = condition(Path(home), stack)
                rows[name] = {"condition": told, "wanted": list(wanted), **run(wanted)}
            except NotHere as reason:
                rows[name] = {"condition": told, "skipped": str(reason)}
        print(f"{name}: {rows[name]}", flush=True)
    stored = json.loads(RESULT.read_text())["rows"] if asked and RESULT.is_file() else {}
    RESULT.write_text(json.dumps({"machine": plain(machine()), "rows": {**stored, **rows}}, indent=1) + "\n")
    cells = [
        (name, str(row["condition"]), str(row.get("exit", "")), str(row.get("seconds", "")), _verdict(row))
        for name, row in rows.items()
    ]
    print(table(("", "condition", "exit", "s", ""), cells))
    sys.exit(any(row.get("wrong") for row in rows.values()))


def _verdict(row: Mapping[str, object]) -> str:
    return f"skipped: {row['skipped']}" if "skipped" in row else str(row["wrong"]) or "holds"


if __name__ == "__main__":
    main()
