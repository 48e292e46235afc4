"""One process a candidate: the parent's side.

The child is treated as hostile: a reply carries the number of its request, its header is decoded into the type that the
caller expects, sizes are bounded before anything is read, and nothing is unpickled. When a child crashes, hangs, eats
memory or answers falsely, the parent gets a ``WorkerDied`` with a sentence, and goes on; from then on the worker raises
that sentence.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np

from hasten import errors
from hasten.deaths import CallFailed as CallFailed
from hasten.deaths import WorkerDied as WorkerDied
from hasten.machine import memory_bytes
from hasten.process import Deadline, Process
from hasten.process import Peak as Peak
from hasten.wire import HEADER, MAX_HEADER, Reply, pack, read_reply, unpack_arrays

T = TypeVar("T")
AGAIN = 2
MAX_PAYLOAD, SMALL = 8 << 30, 64 << 20  # bytes; a small payload is taken whatever memory is free
UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, KeyError, OverflowError, RecursionError, MemoryError)
FROM_CHILDREN = {kind.__name__: kind for kind in (errors.UsageError, errors.InputError, errors.EnvironmentFault)}


class Worker:
    """A child process that answers one request at a time. Close it, or use it in a ``with``."""

    def __init__(self, *, memory_limit: int | None = None, name: str = "worker") -> None:
        self.name = name
        self.spins = True  # until its engine is known to leave the cores alone after a call
        self.usual_ms = float("inf")  # of an inference, once some were timed
        self._memory_limit = memory_limit or int(memory_bytes()[1] * 0.9) or None
        self.start()

    def start(self) -> None:
        """A new process with nothing loaded. Raises EnvironmentFault where the system gives none."""
        self._held, self._operation, self._number = False, "", 0
        self._process = Process(self._memory_limit)

    def call(
        self, operation: str, kind: type[T], *, seconds: float = 600.0, check: Callable[[T], str] | None = None,
        **arguments: Any,
    ) -> T:  # fmt: skip
        """Ask the child for ``operation``; its reply is a ``kind``, whose field ``arrays`` takes the arrays.

        ``check`` names what is wrong with a reply that has the right type, or returns an empty text.

        Raises:
            WorkerDied: it crashed, ran past ``seconds`` or past its memory, or its reply is no such answer.
            CallFailed: it raised an exception and lives on.
            HastenError: a function of ours raised one; the same error is raised here.
        """
        self.ask(operation, seconds=seconds, **arguments)
        return self.answer(kind, seconds=seconds, check=check)

    def ask(self, operation: str, *, seconds: float = 600.0, **arguments: Any) -> None:
        """Send a request and do not wait; ``answer`` has to follow. Raises WorkerDied where the child is gone."""
        self._process.alive(operation)
        self._operation, self._number = operation, secrets.randbits(63) + 1
        if self._held:
            self._process.send(signal.SIGCONT)
            self._held = False
        message = b"".join(pack({"operation": operation, "arguments": arguments}, [], self._number))
        self._process.write(message, Deadline(seconds), self._where)

    def answer(self, kind: type[T], *, seconds: float = 600.0, check: Callable[[T], str] | None = None) -> T:
        """The child's reply to the last request. Raises as ``call`` does."""
        self._process.alive(self._operation)
        if not self._number:
            raise RuntimeError(f"{self.name} was sent no request")
        deadline = Deadline(seconds)
        try:
            reply, arrays = self._receive(deadline)
            if not reply.error:
                value: T = msgspec.json.decode(reply.value, type=kind)
                wrong = self._given(value, arrays) or (check(value) if check else "")
                if wrong:
                    raise ValueError(wrong)
                return value
        except UNREADABLE as fault:
            text = (str(fault) or type(fault).__name__).splitlines()[0][:200]
            raise self._process.died(f"sent an answer that cannot be read ({text})", kill=True) from fault
        raise self._refusal(reply)

    def _receive(self, deadline: Deadline) -> tuple[Reply, list[Any]]:
        """One message: the header of the reply, and its arrays. Raises what is in ``UNREADABLE`` for any other."""
        number, size, payload = HEADER.unpack(self._read(bytearray(HEADER.size), deadline))
        if number != self._number:
            raise ValueError("it belongs to no request or to another one")
        self._number = 0
        if size > MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        reply = read_reply(self._read(bytearray(size), deadline), payload)
        most = MAX_PAYLOAD if payload <= SMALL else min(MAX_PAYLOAD, memory_bytes()[1] // 2 or MAX_PAYLOAD)
        if payload > most:
            raise ValueError(f"arrays of {payload >> 20} MiB, more than the {most >> 20} MiB that are taken at once")
        body = np.empty(payload, np.uint8)  # its pages are touched as bytes arrive, not before
        return reply, unpack_arrays(reply.arrays, self._read(body, deadline))

    def _read(self, buffer: T, deadline: Deadline) -> T:
        self._process.read(buffer, deadline, self._where)
        return buffer

    @property
    def _where(self) -> str:
        return f"in {self._operation}"

    @staticmethod
    def _given(value: object, arrays: list[Any]) -> str:
        """Put the arrays where the value has a place for them; else there may be none."""
        place = getattr(value, "arrays", None)
        if isinstance(place, list) and not place:
            place.extend(arrays)
            return ""
        return "arrays that nobody asked for" if arrays or place else ""

    def _refusal(self, reply: Reply) -> Exception:
        """What the child reports: one of our errors from a function of ours, else ``CallFailed``."""
        if reply.told is None:
            return CallFailed(reply.error, reply.text or reply.error)
        kind = FROM_CHILDREN.get(reply.error)
        if kind is None:
            return self._process.died(
                f"sent an answer that cannot be read (no error is called {reply.error[:40]!r})", kill=True
            )
        ours = kind(reply.told.message, cause=reply.told.cause, help=reply.told.help)
        if self._operation == "call":
            return ours
        return CallFailed(reply.error, "; ".join(filter(None, (ours.message, ours.cause))), ours)

    def hold(self) -> None:
        """Stop a child whose threads would go on burning the cores, right where it is; the next call lets it go on."""
        self._process.alive("a pause")
        if self.spins and not self._held:
            self._held = True
            self._process.send(signal.SIGSTOP)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def death(self) -> WorkerDied | None:
        """How the child ended; None while it lives, and where its owner closed it."""
        return self._process.death

    def log_tail(self) -> str:
        """The last line that the child printed, for a reason; empty when it printed nothing."""
        return self._process.log_tail()

    def close(self) -> None:
        """End the child and everything that it started."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def once(
    function: str, arguments: Mapping[str, Any], kind: type[T], *, seconds: float = 600.0,
    check: Callable[[T], str] | None = None,
) -> T:  # fmt: skip
    """Call ``"hasten.module:function"`` with keyword arguments in a process of its own; its value is a ``kind``.

    A process that somebody killed is started again, twice at most.
    """
    for _ in range(AGAIN):
        try:
            return _once(function, arguments, kind, seconds, check)
        except WorkerDied as fault:
            if not fault.killed or fault.memory:
                raise
    return _once(function, arguments, kind, seconds, check)


def _once(
    function: str, arguments: Mapping[str, Any], kind: type[T], seconds: float, check: Callable[[T], str] | None
) -> T:
    with Worker(name=function) as worker:
        return worker.call("call", kind, seconds=seconds, check=check, function=function, keywords=dict(arguments))
