"""One process a candidate: the parent's side.

The child runs ``hasten.serve`` in a bare interpreter with an empty folder to stand in, its own session, a scrubbed
environment and its output in a file. It is treated as hostile: replies are length-limited JSON and raw arrays, never
pickles. When it crashes, hangs or eats memory, the parent gets a ``WorkerDied`` with a sentence, and goes on.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import msgspec

import hasten
from hasten import errors, scratch
from hasten.machine import memory_bytes, private_bytes
from hasten.wire import HEADER, MAX_HEADER, pack, unpack_arrays

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")
POLL_SECONDS = 0.05
PIPE_BYTES = 1 << 20
MAX_LOG_BYTES = 64 << 20
_live: set[Worker] = set()
_peaks: WeakSet[Peak] = WeakSet()


class WorkerDied(Exception):
    """A child that is gone. ``status`` is "crashed" or "timeout"; the text is a sentence for people."""

    def __init__(self, text: str, status: str = "crashed") -> None:
        super().__init__(text)
        self.status = status


class CallFailed(Exception):
    """The child is alive and says no: ``kind`` is the exception's class name, the text its message."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Worker:
    """A child process that answers one request at a time. Close it, or use it in a ``with``."""

    def __init__(self, *, memory_limit: int | None = None, name: str = "worker") -> None:
        self.name = name
        self.spins = True  # until its engine is known to leave the cores alone after a call
        self.usual_ms = float("inf")  # of an inference, once some were timed
        self._held, self._asked = False, ""
        self._memory_limit = memory_limit or int(memory_bytes()[1] * 0.9) or None
        self._folder = scratch.Temporary("worker")
        self._log = self._folder.path / "log.txt"
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        _widen(self._replies)
        home = Path(hasten.__file__).resolve().parent.parent
        boot = f"import sys; sys.path.insert(0, {str(home)!r}); sys.path += {_extra_paths()!r}"
        boot += "; from hasten.serve import main; main()"
        environment = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ} | {"HF_HUB_OFFLINE": "1"}
        environment["TMPDIR"] = str(self._folder.path)  # what it leaves there goes with it
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-X", "faulthandler", "-c", boot, str(commands), str(replies), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder.path,
                env=environment,
                pass_fds=(commands, replies),
                start_new_session=True,
            )
        os.close(commands)
        os.close(replies)
        self._started = time.monotonic()
        _live.add(self)

    def call(self, operation: str, *, seconds: float = 600.0, **arguments: Any) -> Any:
        """Ask the child for ``operation``; arrays come back as a list under the key ``arrays``.

        Raises:
            WorkerDied: it crashed, ran past ``seconds`` or past its memory.
            CallFailed: it raised an exception and lives on.
            HastenError: it raised one of ours; the same error is raised here.
        """
        self.ask(operation, **arguments)
        return self.answer(seconds=seconds)

    def ask(self, operation: str, **arguments: Any) -> None:
        """Send a request and do not wait; ``answer`` has to follow. Raises WorkerDied where nobody listens."""
        self._asked = operation
        if self._held:
            self._signal(signal.SIGCONT)
            self._held = False
        try:
            self._write(b"".join(pack({"operation": operation, "arguments": arguments}, [])))
        except BrokenPipeError:
            raise self._died(f"in {operation}") from None

    def answer(self, *, seconds: float = 600.0) -> Any:
        """What the child says to the last request. Raises as ``call`` does."""
        deadline, operation = time.monotonic() + seconds, self._asked
        try:
            header = self._read(HEADER.size, deadline, operation)
            size, payload = HEADER.unpack(header)
            if size > MAX_HEADER:
                raise self._died(f"sent a header of {size} bytes")
            reply = msgspec.json.decode(self._read(size, deadline, operation))
            arrays = unpack_arrays(reply["arrays"], self._read(payload, deadline, operation))
        except (msgspec.MsgspecError, KeyError, ValueError) as fault:
            raise self._died(f"sent an answer that cannot be read ({fault})") from fault
        if "told" in reply:
            raise _ours(reply["error"])(**reply["told"])
        if "error" in reply:
            raise CallFailed(reply["error"], reply.get("text", ""))
        return {**reply["value"], "arrays": arrays} if arrays else reply["value"]

    def hold(self) -> None:
        """Stop a child whose threads would go on burning the cores, right where it is; the next call lets it go on."""
        if self.spins and not self._held:
            self._held = True
            self._signal(signal.SIGSTOP)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._commands, view) :]

    def _read(self, size: int, deadline: float, operation: str) -> bytearray:
        """Exactly ``size`` bytes, straight into their place. The child is looked at every ``POLL_SECONDS``."""
        buffer = bytearray(size)
        rest, look = memoryview(buffer), 0.0
        while rest:
            ready, _, _ = select.select([self._replies], [], [], POLL_SECONDS)
            if ready:
                count = os.readv(self._replies, [rest])
                if not count:
                    raise self._died(f"in {operation}")
                rest = rest[count:]
            if time.monotonic() > look:
                self._watch(deadline, operation)
                look = time.monotonic() + POLL_SECONDS
        return buffer

    def _watch(self, deadline: float, operation: str) -> None:
        """Stop a child that is over its time, its memory or its output."""
        note_memory()
        used = private_bytes(self._process.pid)
        if self._memory_limit and used > self._memory_limit:
            raise self._died(
                f"in {operation}: used {used >> 20} MiB, over its {self._memory_limit >> 20} MiB", kill=True
            )
        if time.monotonic() > deadline:
            fault = self._died(f"in {operation}: no answer in time", kill=True)
            fault.status = "timeout"
            raise fault
        if self._log.stat().st_size > MAX_LOG_BYTES:
            raise self._died(f"in {operation}: wrote over {MAX_LOG_BYTES >> 20} MiB of output", kill=True)

    def _died(self, where: str, *, kill: bool = False) -> WorkerDied:
        if kill:
            self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        after = time.monotonic() - self._started
        code = self._process.returncode
        text = where
        if not kill and code is not None:
            text = f"{'killed by ' + signal.Signals(-code).name if code < 0 else f'exit {code}'} {where}"
        tail = self.log_tail()
        self.close()
        return WorkerDied(f"{text} after {after:.1f} s" + (f" ({tail})" if tail else ""))

    def log_tail(self) -> str:
        """The last line that the child printed, for a reason; empty when it printed nothing."""
        with suppress(OSError):
            lines = self._log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
            useful = [line for line in lines if line.strip() and not line.startswith(("  File", "Thread", "Current"))]
            return useful[-1][:200] if useful else ""
        return ""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def close(self) -> None:
        """End the child and everything that it started; it has nothing to tidy."""
        if self not in _live:
            return
        _live.discard(self)
        note_memory()
        for end in (self._commands, self._replies):
            with suppress(OSError):
                os.close(end)
        self._signal(signal.SIGKILL)  # of the group: what it started is in it
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


def _ours(name: str) -> type[errors.HastenError]:
    """One of our errors by its name; whatever else a child may say is a rejected input."""
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, errors.HastenError) else errors.InputError


def once(function: str, arguments: Mapping[str, Any], *, seconds: float = 600.0) -> Any:
    """Call ``"hasten.module:function"`` with keyword arguments in a process of its own; plain JSON in and out."""
    with Worker(name=function) as worker:
        return worker.call("call", seconds=seconds, function=function, keywords=dict(arguments))


def _extra_paths() -> list[str]:
    """Import paths of this process that a bare interpreter would not find (editable installs, PYTHONPATH).

    They come last, so that nothing in them hides a module of the standard library.
    """
    return [str(Path(p).resolve()) for p in sys.path if Path(p).is_dir()]
