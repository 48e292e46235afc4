"""A child process with its pipes, its folder and its limits: the parent's side of ``hasten.serve``.

The child runs in a bare interpreter with an empty folder to stand in, its own session, a scrubbed environment and its
output in a file. A process that is closed or dead raises the sentence of its end, whatever is wanted of it: its pipes'
numbers are never used again.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

import hasten
from hasten import scratch
from hasten.deaths import WorkerDied, names_memory
from hasten.errors import EnvironmentFault
from hasten.machine import oom_kills, private_bytes

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")
POLL_SECONDS = 0.05
STOPPED_SECONDS = 2.0  # between two looks: this process itself stood still
WAIT_SECONDS = 2.0  # for a child that closed its pipe to end
PIPE_BYTES = 1 << 20
MAX_LOG_BYTES = 64 << 20
TAIL = 4000
OF_THE_TRACE = ("File", "Thread", "Current", "Extension modules", "Fatal Python error", "<no Python frame>")
_live: set[Process] = set()
_peaks: WeakSet[Peak] = WeakSet()


class Deadline:
    """A moment until which a parent waits; time in which the parent itself was stopped does not count."""

    def __init__(self, seconds: float) -> None:
        self._seen = time.monotonic()
        self._end = self._seen + seconds

    def passed(self) -> bool:
        """Is it over? Asked every ``POLL_SECONDS``."""
        now = time.monotonic()
        if now - self._seen > STOPPED_SECONDS:
            self._end += now - self._seen
        self._seen = now
        return now > self._end


class Process:
    """A child that reads requests from one pipe and writes replies to another. Close it."""

    def __init__(self, memory_limit: int | None) -> None:
        """Start it.

        Raises:
            EnvironmentFault: the system gives no process, no descriptors or no temporary folder.
        """
        self._memory_limit = memory_limit
        self.death: WorkerDied | None = None
        self._ooms, self._started = oom_kills(), time.monotonic()
        self._commands = self._replies = self._log = -1
        try:
            with ExitStack() as undo:
                self._folder = scratch.Temporary("worker")
                undo.callback(self._folder.cleanup)
                self._child = self._spawn(undo)
                undo.pop_all()
        except OSError as fault:
            self._commands = self._replies = self._log = -1
            raise EnvironmentFault(
                "another process cannot be started",
                cause=f"{fault.strerror or fault}".lower(),
                help="free disk space in the temporary folder, memory, processes or open files (ulimit -a)",
            ) from fault
        _live.add(self)

    def _spawn(self, undo: ExitStack) -> subprocess.Popen[bytes]:
        self._log = _closing(undo, os.open(f"{self._folder.path}/log.txt", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        pipes = [_closing(undo, end) for _ in range(2) for end in os.pipe()]
        commands, self._commands, self._replies, replies = pipes
        os.set_blocking(self._commands, False)  # a child that reads nothing stops nobody
        _widen(self._replies)
        environment = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ} | {"HF_HUB_OFFLINE": "1"}
        environment["TMPDIR"] = str(self._folder.path)  # what it leaves there goes with it
        process = subprocess.Popen(
            [sys.executable, "-I", "-X", "faulthandler", "-c", boot(), str(commands), str(replies), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._folder.path,
            env=environment,
            pass_fds=(commands, replies),
            start_new_session=True,
        )
        os.close(commands)
        os.close(replies)
        return process

    def alive(self, wanted: str) -> None:
        """Raise the sentence of its death, for a child that is gone; a pipe's number may be another child's by now."""
        if self.death is not None:
            old = self.death
            raise WorkerDied(str(old), old.status, killed=old.killed, memory=old.memory)
        if self not in _live:
            raise WorkerDied(f"was closed before {wanted or 'a request'}")
        if self._gone():
            raise self.died(f"before {wanted}")

    def write(self, data: bytes, deadline: Deadline, where: str) -> None:
        """All of ``data``. A child that reads nothing is waited for until the deadline."""
        view = memoryview(data)
        while view:
            if _ready(self._commands, select.POLLOUT):
                try:
                    view = view[os.write(self._commands, view) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise self.died(where) from None
            else:
                self._watch(deadline, where)

    def read(self, buffer: Any, deadline: Deadline, where: str) -> None:
        """As many bytes as ``buffer`` takes, straight into it. The child is checked every ``POLL_SECONDS``."""
        rest, look = memoryview(buffer), 0.0
        while rest:
            ready = _ready(self._replies, select.POLLIN)
            if ready:
                count = os.readv(self._replies, [rest])
                if not count:
                    raise self.died(where)
                rest = rest[count:]
            if not ready or time.monotonic() > look:
                self._watch(deadline, where)
                look = time.monotonic() + POLL_SECONDS

    def _watch(self, deadline: Deadline, where: str) -> None:
        """Stop a child that is over its time, its memory or its output; notice one that is gone and left its pipe."""
        note_memory()
        used, limit = private_bytes(self._child.pid), self._memory_limit
        if limit and used > limit:
            text = f"{where}: used {used >> 20} MiB, over its {limit >> 20} MiB"
            raise self.died(text, kill=True, memory=True)
        if deadline.passed():
            raise self.died(f"{where}: no answer in time", kill=True, status="timeout")
        if os.fstat(self._log).st_size > MAX_LOG_BYTES:
            raise self.died(f"{where}: wrote over {MAX_LOG_BYTES >> 20} MiB of output", kill=True)
        if self._gone() and not _ready(self._replies, select.POLLIN):
            raise self.died(where)

    def died(self, where: str, *, kill: bool = False, status: str = "crashed", memory: bool = False) -> WorkerDied:
        """Close the child, and remember how it ended: by itself, or (``kill``) because of what it did."""
        patience = Deadline(0.0 if kill else WAIT_SECONDS)
        while not (gone := not kill and self._gone()) and not patience.passed():
            time.sleep(0.005)
        after, tail, ooms = time.monotonic() - self._started, self.log_tail(), oom_kills() > self._ooms
        starved = gone and names_memory(self._last_words())
        self.close()
        code = self._child.returncode if gone else None
        killed = code == -signal.SIGKILL
        memory = memory or (killed and ooms) or starved
        text = where if code is None else f"{_ending(code)} {where}"
        said = f" ({tail})" if tail else ""
        self.death = WorkerDied(f"{text} after {after:.1f} s{said}", status, killed=killed, memory=memory)
        return self.death

    def log_tail(self) -> str:
        """The last line that the child printed, for a reason; empty when it printed nothing."""
        lines = (line.strip() for line in self._last_words().splitlines())
        useful = [line for line in lines if line and not line.startswith(OF_THE_TRACE)]
        return useful[-1][:200] if useful else ""

    def _last_words(self) -> str:
        with suppress(OSError):
            size = os.fstat(self._log).st_size
            return os.pread(self._log, TAIL, max(0, size - TAIL)).decode(errors="replace")
        return ""

    def send(self, number: signal.Signals) -> None:
        """Signal the child's whole group; its number is its own until the child is waited for in ``close``."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    def _gone(self) -> bool:
        """Has the child ended? It is not waited for, so that its number and its group stay its own."""
        try:
            return os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def close(self) -> None:
        """End the child and everything that it started; it has nothing to tidy."""
        if self not in _live:
            return
        _live.discard(self)
        note_memory()
        ends, self._commands, self._replies, self._log = (self._commands, self._replies, self._log), -1, -1, -1
        for end in ends:
            with suppress(OSError):
                os.close(end)
        self.send(signal.SIGKILL)  # of the group: what it started is in it
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=10)
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid


def boot() -> str:
    """The program of a child: our own modules first, then the import paths of this process."""
    home = Path(hasten.__file__).resolve().parent.parent
    begin = f"import sys; sys.path.insert(0, {str(home)!r}); sys.path += {_extra_paths()!r}"
    return begin + "; from hasten.serve import main; main()"


def _closing(undo: ExitStack, descriptor: int) -> int:
    """A descriptor that ``undo`` closes."""
    undo.callback(os.close, descriptor)
    return descriptor


def _ready(end: int, event: int) -> bool:
    """Can a pipe be read or written, within ``POLL_SECONDS``? Its other end may be closed."""
    poll = select.poll()
    poll.register(end, event)
    return bool(poll.poll(POLL_SECONDS * 1000))


def _ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit {code}"
    names = {int(number): number.name for number in signal.Signals}
    return f"killed by {names.get(-code, f'signal {-code}')}"


def _widen(pipe: int) -> None:
    """Let a pipe hold a megabyte, where the system allows: outputs are large, and each piece costs two wake-ups."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Peak:
    """The highest memory of this process and its living children together while a run lasts; mapped files do not count.

    Runs side by side in one process share their memory, and each has a peak of its own.
    """

    def __init__(self) -> None:
        self._bytes = 0
        _peaks.add(self)

    def bytes(self) -> int:
        """The highest so far."""
        note_memory()
        return self._bytes

    def note(self, total: int) -> None:
        """One more observation."""
        self._bytes = max(self._bytes, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _peaks.discard(self)


def note_memory() -> None:
    """Let every run remember the highest memory of this process and its living children together."""
    if _peaks:
        total = private_bytes(os.getpid()) + sum(private_bytes(w.pid) for w in list(_live))
        for peak in list(_peaks):
            peak.note(total)


def _extra_paths() -> list[str]:
    """Import paths of this process that a bare interpreter would not find (editable installs, PYTHONPATH).

    They come last, so that nothing in them hides a module of the standard library.
    """
    return [str(Path(p).resolve()) for p in sys.path if Path(p).is_dir()]
