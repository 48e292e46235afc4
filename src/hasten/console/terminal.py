"""Text on a stream: colours and width where there is a terminal, plain characters where they must be."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import IO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hasten.errors import EnvironmentFault
from hasten.report.words import clean

_ASCII = str.maketrans({
    "✓": "+", "✗": "x", "★": "*", "×": "x", "−": "-", "–": "-", "·": "|", "→": ">", "←": "<", "±": "~", "≤": "<",
    "─": "-", "…": ".", "µ": "u", "\u00a0": " ", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "|", "▎": "|",
    "▏": "|",
})  # fmt: skip
GOOD, BAD, SOFT = "green", "yellow", "dim"


def write(text: str, stream: IO[str] | None, *, wanted: bool = False) -> None:
    """Write and flush; a reader that is gone (``| head``, a closed terminal) and a poor encoding are no errors.

    Raises:
        EnvironmentFault: the text is lost: the disk is full, or it is ``wanted`` whole and its reader is gone.
    """
    if stream is None:  # closed before the start
        if wanted:
            raise _lost("it is closed")
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as fault:
        # whatever is left in the buffer must not raise again when the interpreter closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        gone = fault.errno in (errno.EPIPE, errno.EIO)
        if stream is not sys.stderr and (wanted or not gone):
            raise _lost("its reader is gone" if gone else (fault.strerror or str(fault)).lower()) from fault


def _lost(cause: str) -> EnvironmentFault:
    help_ = "free some space, or send the output elsewhere; the result itself is in the output folder, if there is one"
    return EnvironmentFault("cannot write to standard output", cause=cause, help=help_)


def show(renderable: RenderableType, stream: IO[str] | None = None) -> None:
    """Render for ``stream`` (standard output): colours on a terminal only, as wide as it is; NO_COLOR is obeyed."""
    stream = stream or sys.stdout
    if stream is None:
        return
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(renderable)
    write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n", stream)


def lines(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Rows of (mark, text, style): the mark in a column of its own, so that wrapped text stays aligned."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, text, style in rows:
        grid.add_row(Text(mark, style=style), Text(clean(text), style=SOFT if style == SOFT else ""))
    return grid
