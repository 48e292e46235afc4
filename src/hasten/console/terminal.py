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

from hasten.report.words import clean

_ASCII = str.maketrans({
    "✓": "+", "✗": "x", "★": "*", "×": "x", "−": "-", "–": "-", "·": "|", "→": ">", "←": "<", "±": "~", "≤": "<",
    "─": "-", "…": ".", "µ": "u", "\u00a0": " ", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "|", "▎": "|",
    "▏": "|",
})  # fmt: skip
GOOD, BAD, SOFT = "green", "yellow", "dim"


def write(text: str, stream: IO[str]) -> None:
    """Write and flush; a reader that is gone (``| head``, a closed terminal) and a poor encoding are no errors."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as fault:
        if fault.errno not in (errno.EPIPE, errno.EIO):
            raise
        # whatever is left in the buffer must not raise again when the interpreter closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(renderable: RenderableType, stream: IO[str] | None = None) -> None:
    """Render for ``stream`` (standard output): colours on a terminal only, as wide as it is; NO_COLOR is obeyed."""
    stream = stream or sys.stdout
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
