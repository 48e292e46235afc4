"""How a request to another process fails: the process dies, or it refuses; and whose fault that is."""

from __future__ import annotations

from hasten.errors import EnvironmentFault, HastenError, InputError, gist
from hasten.machine import memory_bytes

NO_MEMORY = ("bad_alloc", "allocate memory", "unable to allocate", "out of memory", "not enough memory", "memoryerror")
MORE_MEMORY = "close other programs, or use a machine or a container with more memory"


class WorkerDied(Exception):
    """A child that is gone. ``status`` is "crashed" or "timeout"; the text is a sentence for people.

    ``killed``: somebody else killed it. ``memory``: it died for want of memory.
    """

    def __init__(self, text: str, status: str = "crashed", *, killed: bool = False, memory: bool = False) -> None:
        super().__init__(text)
        self.status, self.killed, self.memory = status, killed, memory


class CallFailed(Exception):
    """The child is alive and refuses: ``kind`` is the exception's class name, the text its message.

    ``ours`` is the same as one of our own errors, where it was one.
    """

    def __init__(self, kind: str, text: str, ours: HastenError | None = None) -> None:
        super().__init__(text)
        self.kind, self.ours = kind, ours


def names_memory(text: str) -> bool:
    """True for a message of a runtime or a library that ran out of memory."""
    lower = text.lower()
    return any(sign in lower for sign in NO_MEMORY)


def short_of_memory(fault: WorkerDied | CallFailed) -> bool:
    """Did the process lack memory?"""
    if isinstance(fault, WorkerDied):
        return fault.memory
    return fault.kind == "MemoryError" or names_memory(str(fault))


def blamed(fault: WorkerDied | CallFailed, what: str, *, process: str = "", help: str = "") -> HastenError:  # noqa: A002
    """The error for the user's own network when its process died or refused.

    A process that was killed, or lacked memory, is the machine's fault; anything else is the input's. ``process`` names
    the one that died.
    """
    if isinstance(fault, CallFailed) and fault.ours is not None:
        return fault.ours
    died = f"{process}: {fault}" if process else str(fault)
    cause = f"{fault.kind}: {gist(str(fault)) or type(fault).__name__}" if isinstance(fault, CallFailed) else died
    if short_of_memory(fault):
        total, free = (n >> 20 for n in memory_bytes())
        figures = f"{free} of {total} MiB of memory are free now"
        return EnvironmentFault(f"{what}: not enough memory", cause=f"{cause}; {figures}", help=MORE_MEMORY)
    if isinstance(fault, WorkerDied) and fault.killed:
        total, free = (n >> 20 for n in memory_bytes())
        cause += f"; another process or the system did that, {free} of {total} MiB of memory are free now"
        return EnvironmentFault(what, cause=cause, help="run the same command again")
    return InputError(what, cause=cause, help=help)
