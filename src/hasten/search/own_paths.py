"""Messages name the user's files, never the copies that a run works on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hasten.errors import HastenError


@contextmanager
def own_paths(folder: Path, *given: Path) -> Iterator[None]:
    """Inside, errors that name a copy below ``folder`` come out with the path in ``given`` of the same file name."""
    try:
        yield
    except HastenError as fault:
        fault.message, fault.cause, fault.help = (
            without_folder(text, folder, given) for text in (fault.message, fault.cause, fault.help)
        )
        fault.args = (fault.message,)
        raise


def without_folder(text: str, folder: Path, given: Sequence[Path] = ()) -> str:
    """``text`` with paths below ``folder`` replaced: by the user's own where the name is the same, else by the name."""
    if str(folder) not in text:
        return text
    below = re.escape(str(folder)) + r"(?:/[^/\n]+)*?/"
    for path in given:
        text = re.sub(below + re.escape(path.name) + r"(?![\w.-])", lambda _, path=path: str(path), text)  # type: ignore[misc]
    text = re.sub(re.escape(str(folder)) + r"(?:/[^/\s'\",;:)]+)*/([^/\s'\",;:)]+)", r"\1", text)
    return text.replace(f"{folder}/", "").replace(str(folder), "the run's folder")
