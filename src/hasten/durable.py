"""Writing so that a crash at any moment leaves the old or the new, never a mixture: every file that lasts passes here.

No call follows a link in the place of the file that it writes, and none writes into a device or a second name.

``_write``, ``_sync`` and ``_rename`` are the only calls that can fail for want of disk; a test makes the k-th of them
fail, for every k.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hasten.errors import EnvironmentFault

DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EBUSY,
    errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG,
}  # fmt: skip
PIECE = 1 << 20
SET_ASIDE = ".old"
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def put(path: Path, data: bytes) -> None:
    """Write a new file and wait for the disk."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
        _write(file, data)
        _sync(file)


def replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another, in one step."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with opened(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        try:
            _write(file, data)
            _sync(file)
            _rename(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add to a file, which may be new, and wait for the disk. After a fault it is cut back to its old size."""
    new = not path.exists()
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        size = os.fstat(file).st_size
        try:
            _write(file, data)
            _sync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
    if new:
        _sync_folder(path.parent)


def cut(path: Path, size: int) -> None:
    """Shorten a file to its first ``size`` bytes."""
    with opened(path, os.O_WRONLY) as file:
        os.ftruncate(file, size)
        _sync(file)


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes, making folders on the way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as given, opened(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
        while piece := given.read(PIECE):
            _write(file, piece)
        _sync(file)


def swap(building: Path, place: Path) -> Path | None:
    """Put the folder ``building`` in the place of ``place``; the folder that was there before is returned.

    Linux exchanges the two names in one step. Elsewhere ``place`` is missing for a moment: its old folder is then
    called like ``building`` with ``SET_ASIDE`` added, and ``restore`` brings it back after a crash.
    """
    old = None
    if not place.exists():
        _rename(building, place)
    elif _exchange(building, place):
        old = building
    else:
        old = building.with_name(building.name + SET_ASIDE)
        _rename(place, old)
        try:
            _rename(building, place)
        except BaseException:
            _rename(old, place)
            raise
    _sync_folder(place.parent)
    return old


def restore(building: Path, place: Path) -> None:
    """After a crash in the middle of ``swap``: the old folder goes back to its place, if nothing else is there."""
    old = building.with_name(building.name + SET_ASIDE)
    if old.exists() and not os.path.lexists(place):
        _rename(old, place)


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


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A plain file under one name, open; a link, a device or a second name of another file is refused."""
    file = os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise OSError(errno.EPERM, "not a plain file", str(path))
        if flags & os.O_TRUNC:
            os.ftruncate(file, 0)
        yield file
    finally:
        os.close(file)


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
