"""Folders that are provably ours: made by hasten for this user, opened without following links, and locked while used.

    hasten.marker   what the folder is for, when its lock was made, and a signature
    lock            empty; held by the process that uses the folder, so that the system frees it however that ends

Other people's files can bring a folder of any name and content. A folder is believed when its marker names the moment
at which the system made ``lock`` (an archive or a checkout cannot set that), or is signed with this user's key (a copy
on the same account). A folder that is not believed is never changed: nothing in it is written, swept or removed.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import secrets
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARKER, LOCK, KEY = "hasten.marker", "lock", "key"
KEY_BYTES, MOST_BYTES = 32, 1000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotOurs(Exception):
    """A folder that hasten must not touch; the text is the reason."""


class Busy(Exception):
    """Another process uses the folder."""


@dataclass(frozen=True)
class Owned:
    """A folder of ours, open and locked."""

    path: Path
    folder: int  # descriptors
    lock: int

    def sweep(self, keep: Collection[str] = ()) -> None:
        """Remove what is in the folder, but for ``keep``; no link is followed."""
        device = os.fstat(self.folder).st_dev
        for name in _names(self.folder):
            if name not in (MARKER, LOCK, *keep):
                with suppress(OSError):
                    _remove(name, self.folder, device)

    def remove(self) -> None:
        """Remove the folder with all that is in it. What cannot be removed stays, marked as ours."""
        self.sweep()
        if set(_names(self.folder)) <= {MARKER, LOCK}:
            for name in (MARKER, LOCK):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self.folder)
            with suppress(OSError):
                self.path.rmdir()

    def check(self, files: Collection[str] = (), folders: Collection[str] = ()) -> None:
        """Raises ``NotOurs`` where one of these names is there and is no plain file, or no plain folder, of ours."""
        for name in (*files, *folders):
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
                _plain(found, name, os.fstat(self.folder), folder=name in folders)

    def only_plain(self, name: str) -> None:
        """Remove the links, devices and second names of other files that lie anywhere below the folder ``name``."""
        own = os.fstat(self.folder)
        with suppress(FileNotFoundError):
            for _, folders, files, at in os.fwalk(name, dir_fd=self.folder, follow_symlinks=False):
                for one in (*folders, *files):
                    try:
                        found = os.stat(one, dir_fd=at, follow_symlinks=False)
                        _plain(found, one, own, folder=stat.S_ISDIR(found.st_mode))
                    except NotOurs:
                        _remove(one, at, own.st_dev)

    def close(self) -> None:
        """Let the folder go."""
        os.close(self.lock)
        os.close(self.folder)


def take(path: Path, kind: str) -> Owned:
    """Make the folder ``path``, or take over one that hasten made for ``kind``.

    Raises:
        NotOurs: there is something else of this name. Busy: another process uses it. OSError: the disk.
    """
    while True:
        made = _make(path)
        try:
            folder = os.open(path, _FOLDER)
        except FileNotFoundError:  # the run before has just removed it
            continue
        except OSError as fault:
            raise NotOurs(_why_not_opened(path, fault)) from fault
        try:
            lock = _locked(path, folder, kind, made=made)
        except BaseException:
            os.close(folder)
            raise
        if lock is not None:
            return Owned(path, folder, lock)
        os.close(folder)


def _make(path: Path) -> bool:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _why_not_opened(path: Path, fault: OSError) -> str:
    if path.is_symlink():
        return "it is a link"
    return "it is not a folder" if fault.errno == errno.ENOTDIR else (fault.strerror or str(fault)).lower()


def _locked(path: Path, folder: int, kind: str, *, made: bool) -> int | None:
    """The descriptor of the folder's lock, held; None where the folder was removed meanwhile."""
    found = os.fstat(folder)
    if not made:
        if found.st_uid != os.geteuid():
            raise NotOurs(f"it belongs to user {found.st_uid}")
        if found.st_dev != path.parent.stat().st_dev:
            raise NotOurs("it is on another device")
    names = set(_names(folder))
    if MARKER not in names and names - {LOCK}:
        raise NotOurs("hasten did not make it: it holds other files and no marker of hasten")
    try:
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=folder)
    except FileNotFoundError:  # removed between the two calls
        return None
    except OSError as fault:
        raise NotOurs(f"{LOCK!r} in it is no plain file ({fault.strerror})") from fault
    try:
        _plain(os.fstat(lock), LOCK, found)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _still_there(path, folder, lock):
            os.close(lock)
            return None
        _believe(folder, lock, kind)
    except BaseException as fault:
        os.close(lock)
        if isinstance(fault, BlockingIOError):
            raise Busy(str(path)) from fault
        raise
    return lock


def _still_there(path: Path, folder: int, lock: int) -> bool:
    try:
        here = os.path.samestat(path.lstat(), os.fstat(folder))
        return here and os.path.samestat(os.stat(LOCK, dir_fd=folder, follow_symlinks=False), os.fstat(lock))
    except FileNotFoundError:
        return False


def _plain(found: os.stat_result, name: str, within: os.stat_result, *, folder: bool = False) -> None:
    """Raises ``NotOurs`` unless this is a regular file with one name, or a folder, of the owner of the folder."""
    if stat.S_ISLNK(found.st_mode):
        raise NotOurs(f"{name!r} in it is a link")
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(found.st_mode):
        raise NotOurs(f"{name!r} in it is no plain {'folder' if folder else 'file'}")
    if not folder and found.st_nlink != 1:
        raise NotOurs(f"{name!r} in it is a second name of a file elsewhere")
    if (found.st_uid, found.st_dev) != (within.st_uid, within.st_dev):
        raise NotOurs(f"{name!r} in it belongs to another user, or is on another device")


def _believe(folder: int, lock: int, kind: str) -> None:
    """Raises ``NotOurs`` unless the marker is ours; a folder that was made a moment ago gets one."""
    born = str(os.fstat(lock).st_ctime_ns)
    found = _read(MARKER, folder)
    if found is None or not found.endswith(b"\n"):  # new, or its process ended while it made the folder
        if os.fstat(lock).st_size:
            raise NotOurs("hasten did not make it: its lock is not empty, and it has no marker of hasten")
        if found and not _text(kind, "", "", "").startswith(found[:6]):
            raise NotOurs(f"{MARKER!r} in it is not a marker of hasten")
        if set(_names(folder)) - {MARKER, LOCK}:
            raise NotOurs(f"{MARKER!r} in it is not whole")
        token = secrets.token_hex(16)
        _write(MARKER, folder, _text(kind, born, token, _signature(kind, token)))
        return
    lines = found.decode("ascii", "replace").split("\n")
    if lines[0] != f"hasten {kind} 1" or len(lines) < 5:
        raise NotOurs(f"{MARKER!r} in it is not a marker of hasten for a {kind}")
    signature = _signature(kind, lines[2])
    signed = bool(signature) and hmac.compare_digest(signature.encode(), lines[3].encode())
    if lines[1] != born and not signed:
        raise NotOurs("it was not made here: it is a copy, or came with files of others")


def _text(kind: str, born: str, token: str, signature: str) -> bytes:
    return "".join(f"{line}\n" for line in (f"hasten {kind} 1", born, token, signature)).encode()


def _read(name: str, folder: int) -> bytes | None:
    """A small plain file of the folder; None where there is none."""
    try:
        file = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise NotOurs(f"{name!r} in it is no plain file ({fault.strerror})") from fault
    try:
        _plain(os.fstat(file), name, os.fstat(folder))
        return os.read(file, MOST_BYTES)
    finally:
        os.close(file)


def _write(name: str, folder: int, data: bytes) -> None:
    with suppress(FileNotFoundError):  # one that was cut short
        os.unlink(name, dir_fd=folder)
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=folder)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def _remove(name: str, at: int, device: int) -> None:
    """Remove a file, a link or a whole folder; what is mounted in it stays."""
    try:
        os.unlink(name, dir_fd=at)
        return
    except (IsADirectoryError, PermissionError):
        folder = os.open(name, _FOLDER, dir_fd=at)
    try:
        if os.fstat(folder).st_dev != device:
            return
        for child in _names(folder):
            with suppress(OSError):
                _remove(child, folder, device)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=at)


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder that we made; no link is followed, nothing raised where it is gone."""
    with suppress(OSError):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _remove(path.name, parent, os.fstat(parent).st_dev)
        finally:
            os.close(parent)


def cache() -> Path:
    """This user's cache folder of hasten: ``$XDG_CACHE_HOME/hasten``, or ``~/.cache/hasten``."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    place = Path(home) if Path(home).is_absolute() else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111
    return place / "hasten"


def _signature(kind: str, token: str) -> str:
    """What only this user's hasten can write; empty where no key can be kept."""
    key = _key()
    return hmac.new(key, f"{kind} {token}".encode(), "sha256").hexdigest() if key else ""


def _key() -> bytes:
    place = cache()
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        known = _read(KEY, folder)
        if known is None:
            fresh = f".{KEY}.{secrets.token_hex(8)}"
            _write(fresh, folder, secrets.token_bytes(KEY_BYTES))
            with suppress(FileExistsError):  # another process was first
                os.rename(fresh, KEY, src_dir_fd=folder, dst_dir_fd=folder)
            known = _read(KEY, folder)
        return known if known is not None and len(known) == KEY_BYTES else b""
    except (OSError, NotOurs):
        return b""
    finally:
        os.close(folder)
