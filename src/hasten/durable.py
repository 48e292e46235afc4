"""Writing so that a crash at any moment leaves the old or the new, never a mixture: every file that lasts passes here.

``_write``, ``_sync`` and ``_rename`` are the only calls that can fail for want of disk; a test makes the k-th of them
fail, for every k.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hasten.errors import EnvironmentFault

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EBUSY}
PIECE = 1 << 20
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def put(path: Path, data: bytes) -> None:
    """Write a new file and wait for the disk."""
    with path.open("wb", buffering=0) as file:
        _write(file.fileno(), data)
        _sync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another, in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        put(beside, data)
        _rename(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add to a file, which may be new, and wait for the disk. A fault may leave a part of ``data`` behind."""
    new = not path.exists()
    with path.open("ab", buffering=0) as file:
        _write(file.fileno(), data)
        _sync(file.fileno())
    if new:
        _sync_folder(path.parent)


def cut(path: Path, size: int) -> None:
    """Shorten a file to its first ``size`` bytes."""
    with path.open("rb+") as file:
        file.truncate(size)
        _sync(file.fileno())


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes, making folders on the way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as given, target.open("wb", buffering=0) as file:
        while piece := given.read(PIECE):
            _write(file.fileno(), piece)
        _sync(file.fileno())


def swap(building: Path, place: Path) -> None:
    """Put the folder ``building`` in the place of ``place``; if that existed, it is at ``building`` afterwards.

    Linux exchanges the two names in one step; elsewhere ``place`` is missing for a moment.
    """
    if not place.exists():
        _rename(building, place)
    elif not _exchange(building, place):
        old = place.with_name(f".{place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        _rename(place, old)
        _rename(building, place)
        _rename(old, building)
    _sync_folder(place.parent)


@contextmanager
def disk(what: str) -> Iterator[None]:
    """A full or failing disk becomes a sentence that says ``what`` could not be written.

    Raises:
        EnvironmentFault: no space, quota, permission, or the disk itself.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno not in DISK:
            raise
        raise EnvironmentFault(
            f"cannot write {what}",
            cause=fault.strerror or str(fault),
            help="free some space or name another folder with --out, then run the same command again",
        ) from fault


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _rename(source: Path, target: Path) -> None:
    source.replace(target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot, and have nothing to wait for
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(call(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0)
