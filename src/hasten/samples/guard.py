"""Files of strangers under a reader: regular ones only, bounded, and each error is one of ours with the path."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hasten.errors import EnvironmentFault, HastenError, InputError

AGAIN = "copy the file again, or save it again from where it was made"
LESS = "split the data into smaller samples, or use a machine with more memory"
SLACK = 256 << 20  # bytes that any compressed file may unpack to
RATIO = 200  # beyond SLACK: unpacked bytes for each packed byte
MAX_SAMPLES = 100_000_000
NO_MEMORY = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """``path``, opened for reading. A FIFO, a device or a socket is refused before a byte is read.

    Raises:
        InputError: it is not a regular file, or cannot be opened.
    """
    plain = InputError(f"{path} is not a regular file", help="copy its content to a plain file")
    with readable(path):
        if not stat.S_ISREG(path.stat().st_mode):  # opening some devices has effects
            raise plain
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise plain
        yield file


@contextmanager
def readable(path: Path | str, form: str = "", help: str = AGAIN) -> Iterator[None]:  # noqa: A002
    """Whatever a reader of ``path`` raises inside becomes one of our errors; ``form`` is " as a table", for instance.

    Raises:
        InputError: the reader raised anything. EnvironmentFault: memory or file handles ran out.
    """
    try:
        yield
    except (HastenError, GeneratorExit):
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in NO_MEMORY):
            raise out_of_memory(path) from error
        raise InputError(f"cannot read {path}{form}", cause=why(error), help=help) from error


def out_of_memory(path: Path | str, figures: str = "") -> EnvironmentFault:
    """The error for a reader that needs more memory than it may have."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    limited = f"its reader may take {most >> 20:,} MiB" if most != resource.RLIM_INFINITY else "an allocation failed"
    return EnvironmentFault(f"there is too little memory to read {path}", cause=figures or limited, help=LESS)


def why(error: BaseException) -> str:
    """The first line of an error, cut; its type where it has no text."""
    text = str(error).strip().split("\n")[0][:200]
    if re.search("pickle|Python objects", text):
        return "it holds pickled Python objects, which can run code"
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()


def check_unpacked(path: Path | str, packed: int, unpacked: int) -> None:
    """Refuse a file that unpacks to far more than data does.

    Raises:
        InputError: it is a decompression bomb.
    """
    if unpacked > SLACK + RATIO * packed:
        cause = f"its {packed:,} bytes unpack to {unpacked:,} or more"
        raise InputError(f"{path} is a decompression bomb", cause=cause, help="save it without compression")


def check_count(path: Path | str, n: int) -> None:
    """Refuse an absurd number of samples.

    Raises:
        InputError: there are more than ``MAX_SAMPLES``.
    """
    if n > MAX_SAMPLES:
        cause = f"it claims {n:,} samples, over {MAX_SAMPLES:,}"
        raise InputError(f"{path} holds too many samples", cause=cause, help="save a part of them")
