"""Files that may come from anybody: opened only where they are regular, never through a link, read up to a limit."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from hasten.errors import InputError, UsageError

FILE = "a regular file"
PIECE = 1 << 20
PLAIN = re.compile(r"[^/\\:\x00-\x1f\x7f]+(/[^/\\:\x00-\x1f\x7f]+)*")
REGULAR = "give a folder of regular files, without links"
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(path: Path) -> str:
    """``"a regular file"``, ``"a link"``, ``"a FIFO"``, ...; empty where there is nothing. Nothing is opened."""
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
        return ""
    return next((name for test, name in _KINDS if test(mode)), FILE)


@contextmanager
def opened(path: Path, limit: int | None = None) -> Iterator[BinaryIO]:
    """A regular file of at most ``limit`` bytes, open for reading.

    Raises:
        UsageError: there is none, or it may not be read. InputError: it is a link, a FIFO, a device, or too large.
    """
    _require_regular(path, kind_of(path))
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags)
    except OSError as fault:
        why = (fault.strerror or str(fault)).lower()
        raise UsageError(f"cannot read {path}", cause=why, help="check the path and its permissions") from fault
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            _require_regular(path, "no regular file")
        if limit is not None and found.st_size > limit:
            cause = f"it has {found.st_size:,} bytes, and at most {limit:,} are read"
            raise InputError(f"{path} is too large", cause=cause, help="give a folder that hasten wrote")
        yield file


def _require_regular(path: Path, kind: str) -> None:
    if kind == FILE:
        return
    if not kind:
        raise UsageError(f"there is no {path}", cause="no such file", help="check the path")
    raise InputError(f"{path} is {kind}", cause="only regular files are read", help=REGULAR)


def read(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, at most ``limit`` of them. Raises as ``opened``."""
    with opened(path, limit) as file:
        return file.read(limit)


def size(path: Path) -> int:
    """The bytes of what lies at ``path``, without opening it; -1 where there is nothing."""
    try:
        return path.lstat().st_size
    except (OSError, ValueError):
        return -1


def digest(path: Path, limit: int | None = None) -> str:
    """The sha256 of a regular file. Raises as ``opened``."""
    found = sha256()
    with opened(path, limit) as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a list in ``folder`` names.

    Raises:
        InputError: the name is absolute, leads out of the folder, or passes through a link.
    """
    parts = name.split("/")
    if not PLAIN.fullmatch(name) or any(part in (".", "..") for part in parts):
        cause = "a name must be relative and lie inside the folder"
        raise InputError(f"{folder} lists the file {name!r:.120}", cause=cause, help="do not trust this folder")
    place = folder
    for part in parts[:-1]:
        place = place / part
        if kind_of(place) not in ("", "a folder"):
            raise InputError(f"{place} is {kind_of(place)}", cause="only folders and files are read", help=REGULAR)
    return folder / name
