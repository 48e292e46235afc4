"""Signals that end a command: every verb cleans up behind itself, and a search wraps up and loses nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_quiet = 0  # how many parts that must not be interrupted are under way


class Asked:
    """True once the search should wrap up. ``worth`` says whether there is something that a signal must not lose."""

    def __init__(self) -> None:
        self.flag = False
        self.worth: Callable[[], bool] = lambda: False
        self.acknowledge: Callable[[], None] = lambda: None  # called at once, in a thread of its own

    def is_set(self) -> bool:
        """Should the search end with what it has?"""
        return self.flag


@contextmanager
def interrupts(*, wraps_up: bool = False) -> Iterator[Asked]:
    """SIGINT, SIGTERM and SIGHUP raise ``KeyboardInterrupt``, so that nothing is left behind.

    With ``wraps_up`` the first Ctrl-C asks the search to end with what it has; so does the system's signal once there
    is something of ``worth``. The second signal ends it.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        first, asked.flag = not asked.flag, True
        if wraps_up and first and (number == signal.SIGINT or asked.worth()):
            threading.Thread(target=asked.acknowledge, daemon=True).start()  # what is interrupted may hold its locks
            return
        if _quiet:
            return
        raise KeyboardInterrupt

    before = {n: signal.getsignal(n) for n in ENDING}  # what nohup or a shell ignores stays ignored
    heard = [n for n in ENDING if before[n] not in (signal.SIG_IGN, None)]
    try:
        for number in heard:
            signal.signal(number, on_signal)
        yield asked
    finally:
        for number in heard:
            signal.signal(number, before[number])


@contextmanager
def undisturbed() -> Iterator[None]:
    """A part that no signal interrupts: it cleans up, or writes what is finished. It must be short."""
    global _quiet
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _quiet += 1
    try:
        yield
    finally:
        _quiet -= 1
