"""Progress as it comes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hasten.console.terminal import BAD, write
from hasten.protocols import Event, Listener
from hasten.report.words import duration, known, one_line, times

STOPPING = "stopping after this step, with what is found so far; press Ctrl-C again to stop now"
SILENCE_SECONDS = 2.5  # then a line repeats what is under way; nobody waits for 3 s without one
TIME_IS_UP = "search time is over"  # the step that the line names goes on, then the test and the final timing


class Moving:
    """One line of text behind a mark that moves, so that a long step is seen to be alive."""

    def __init__(self) -> None:
        self.text = "starting"

    def __rich__(self) -> Text:
        mark = "|/-\\"[int(4 * time.monotonic()) % 4]
        return Text(f"{mark} {self.text}", no_wrap=True, overflow="ellipsis")


class Progress:
    """Draws events as they come: one live line on a terminal, else a plain line a trial. Collects nothing but ``best``.

    While a step takes long, the line is repeated with the time that it has taken.

    ``verbosity``: 0 warnings only, 1 a line a stage on a terminal, 2 a line a trial everywhere. ``steps`` prints a line
    a stage in any case.
    """

    def __init__(self, stream: IO[str] | None = None, verbosity: int = 1, *, steps: bool = False) -> None:
        self.best: float | None = None
        self._stream = stream or sys.stderr
        self._verbosity, self._steps = verbosity, steps
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        alive = self._console.is_terminal and not self._console.is_dumb_terminal and verbosity > 0
        self._moving = Moving()
        self._live = Live(self._moving, console=self._console, transient=True, refresh_per_second=4) if alive else None
        self._last: tuple[Event, float] | None = None  # the step under way, and when it began
        self._drawn = time.monotonic()
        self._ended, self._lock = threading.Event(), threading.RLock()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        if self._verbosity > 0 or self._steps:
            threading.Thread(target=self._repeat, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._live:
            self._live.stop()

    def _repeat(self) -> None:
        """Draw the step under way again whenever nothing was drawn for long."""
        while not self._ended.wait(SILENCE_SECONDS / 5):
            with self._lock:
                if self._last and not self._ended.is_set() and time.monotonic() - self._drawn > SILENCE_SECONDS:
                    event, began = self._last
                    self._drawn = now = time.monotonic()
                    left = None if event.seconds_left is None else max(0.0, event.seconds_left - (now - began))
                    text = f"{event.text}, for {now - began:.0f} s"
                    self._draw(replace(event, kind="waiting", text=text, seconds_left=left))

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._drawn = time.monotonic()
            if event.kind in ("trial", "stage") or self._last is None:
                self._last = (event, self._drawn)
            self._draw(event)

    def _draw(self, event: Event) -> None:
        self.best = event.best if known(event.best) else self.best
        if self._live:
            self._moving.text = line(event)
            self._live.refresh()
        if event.kind == "warning":
            self._print(f"warning: {one_line(event.text)}", BAD)
        elif self._wanted(event):
            self._print(line(event), "")

    def _wanted(self, event: Event) -> bool:
        """Whether an event gets a line of its own, beside the live line."""
        if event.kind == "waiting":
            return self._live is None
        if event.kind in ("stage", "note"):
            return self._verbosity > 0 or self._steps
        return self._verbosity > 1 or (self._verbosity == 1 and not self._live)

    def _print(self, text: str, style: str) -> None:
        if self._live:
            self._console.print(Text(text, style=style))
        else:
            write(text + "\n", self._stream)


def stopping() -> None:
    """Say on standard error that a first Ctrl-C was heard."""
    bare = sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()  # with ^C, and no live line
    write("\n" * bare + STOPPING + "\n", sys.stderr)


@contextmanager
def listening(listen: Listener | None, progress: bool | None) -> Iterator[Listener]:
    """The listener for a call in Python: the caller's own, one that draws on standard error, both, or none.

    ``progress`` None draws where a person watches, in a terminal or a notebook, and nothing else listens.
    """
    notebook = _in_notebook()
    watched = listen is None and (notebook or sys.stderr.isatty())
    if not (watched if progress is None else progress):
        yield listen or (lambda _: None)
        return
    with Progress(verbosity=0 if notebook else 1, steps=True) as drawn:

        def both(event: Event) -> None:
            drawn(event)
            if listen is not None:
                listen(event)

        yield both


def _in_notebook() -> bool:
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return kernel is not None and "IPKernelApp" in getattr(kernel, "config", {})


def line(event: Event) -> str:
    """An event as one line: where we are, what happened, the best so far, the time left."""
    where = event.stage + (f" {event.done}/{event.total}" if event.total else "")
    best = f"best {times(event.best)}" if known(event.best) else ""
    remaining = event.seconds_left if known(event.seconds_left) else None
    left = "" if remaining is None else f"{duration(remaining)} left" if remaining >= 1 else TIME_IS_UP
    return " · ".join(part for part in (where, one_line(event.text), best, left) if part)
