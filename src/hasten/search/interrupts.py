"""Ctrl-C wraps a search up, and loses nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """The first Ctrl-C asks the search to wrap up with what it has; the second, or the system's word, ends it."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT or asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.getsignal(n) for n in known}  # what nohup or a shell ignores stays ignored
    heard = [n for n in known if before[n] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, on_signal)
    try:
        yield asked
    finally:
        for number in heard:
            signal.signal(number, before[number])
