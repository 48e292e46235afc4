"""A disk that fails at its k-th operation, for every k."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hasten import durable


class Disk:
    """Counts what ``durable`` asks of the disk; the ``fails_at``-th operation fails, a write half-way."""

    def __init__(self, fails_at: int = 0, number: int = errno.ENOSPC) -> None:
        self.fails_at, self.number, self.done = fails_at, number, 0

    def next(self) -> None:
        self.done += 1
        if self.done == self.fails_at:
            raise OSError(self.number, os.strerror(self.number))


@contextmanager
def disk(fails_at: int = 0, number: int = errno.ENOSPC) -> Iterator[Disk]:
    """A ``Disk`` under everything that is written through ``durable``."""
    counted = Disk(fails_at, number)
    write, sync, rename = durable._write, durable._sync, durable._rename

    def failing_write(descriptor: int, data: bytes) -> None:
        try:
            counted.next()
        except OSError:
            write(descriptor, data[: len(data) // 2])
            raise
        write(descriptor, data)

    def failing_sync(descriptor: int) -> None:
        counted.next()
        sync(descriptor)

    def failing_rename(source: Path, target: Path) -> None:
        counted.next()
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "_write", failing_write)
        patch.setattr(durable, "_sync", failing_sync)
        patch.setattr(durable, "_rename", failing_rename)
        yield counted
