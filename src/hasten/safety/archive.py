"""Zip archives from strangers: looked at before anything is unpacked, and packed anew from what was looked at.

Two readers of one zip may see two different files: entries twice, a directory that disagrees with the entries, bytes
before the first or after the last. What is checked here is therefore written to a new archive, and only that one is
given to a framework.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hasten.errors import InputError

MAX_ENTRIES = 10_000
MAX_RATIO = 20  # unpacked over packed, beyond MAX_SLACK: weights hardly shrink, a bomb does by a thousand
MAX_SLACK = 64 << 20
MAX_DIRECTORY = 16 << 20  # bytes of the list of entries
END_BYTES = (1 << 16) + 200  # in which an archive ends, with its comment
ZIP64 = (1 << 32) - 1
AGAIN = "save it again, or fetch it from where it was made"
DATED = (1980, 1, 1, 0, 0, 0)  # every entry, so that the same contents give the same bytes


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, with its directory checked.

    Raises:
        InputError: it is damaged, encrypted, a bomb, or has names that repeat or leave the archive.
    """
    try:
        check_directory(path)
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        OSError,
        ValueError,
    ) as error:
        raise InputError(f"{path.name} is a damaged archive", cause=str(error)[:200], help=AGAIN) from error


def check_directory(path: Path) -> None:
    """Refuse an archive whose directory alone would fill the memory: ``zipfile`` reads all of it at once.

    Raises:
        zipfile.BadZipFile: the directory is too large, or there is none.
    """
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, END_BYTES), 2)
        tail = file.read(END_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if at < 0 or (size > MAX_DIRECTORY and size != ZIP64):
        raise zipfile.BadZipFile("it has no directory of entries" if at < 0 else f"its directory has {size:,} bytes")
    if size == ZIP64:
        start = tail.rfind(b"PK\x06\x06", 0, at)
        if start < 0 or int.from_bytes(tail[start + 40 : start + 48], "little") > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its directory is too large")


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        cause = f"it has {len(entries):,} entries, over {MAX_ENTRIES:,}"
        raise InputError(f"{path.name} is no model archive", cause=cause, help=AGAIN)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_SLACK + MAX_RATIO * path.stat().st_size:
        cause = f"its {path.stat().st_size:,} bytes would unpack to {total:,}"
        raise InputError(f"{path.name} is a zip bomb", cause=cause, help=AGAIN)
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if entry.flag_bits & 0x1:
            raise InputError(
                f"{path.name} is encrypted", cause=f"entry {name!r:.80}", help="save it without a password"
            )
        if name in seen or name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
            cause = f"entry {name!r:.80} repeats or leaves the archive"
            raise InputError(f"{path.name} is a damaged archive", cause=cause, help=AGAIN)
        if entry.external_attr >> 28 == 0xA:
            raise InputError(f"{path.name} holds a link", cause=f"entry {name!r:.80}", help=AGAIN)
        seen.add(name)


def names(path: Path) -> list[str]:
    """The names in an archive, empty where ``path`` is none; for a first look, nothing is checked."""
    try:
        check_directory(path)
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()[:MAX_ENTRIES]
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError):
        return []


def read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """An entry of at most ``limit`` bytes; its checksum is verified.

    Raises:
        InputError: it is not there, or larger.
    """
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise InputError(f"the archive has no {name!r:.80}", help=AGAIN) from None
    if size > limit:
        raise InputError(f"{name!r:.80} is too large", cause=f"{size:,} bytes, over {limit:,}", help=AGAIN)
    return archive.read(name)


def repack(archive: zipfile.ZipFile, target: Path, renamed: Callable[[str], str | None]) -> None:
    """Write the entries for which ``renamed`` has a name to ``target``, uncompressed, as torch maps its weights."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
        for entry in archive.infolist():
            name = renamed(entry.filename)
            if name is None:
                continue
            with archive.open(entry) as source, out.open(zipfile.ZipInfo(name, DATED), "w", force_zip64=True) as sink:
                while piece := source.read(1 << 20):
                    sink.write(piece)


def add(target: Path, name: str, data: bytes) -> None:
    """One more entry in an archive of our own."""
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as out:
        out.writestr(zipfile.ZipInfo(name, DATED), data)
