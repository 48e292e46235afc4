"""How often these samples have judged: each new question asked of a confirm split wears it out a little.

Who asks the same samples again and again will be told yes by luck one day. So the answers are counted, by the data's
digest, in the user's cache folder, and the j-th question is tested at a level of ``worn_alpha(alpha, j)``.

The same question asked again is no new one: its answers are known. Only where a repeat wants to prove something that
was not tested before a failure ended it, this is a second chance, and counts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hasten import durable, owned

SCHEMA = 1


@dataclass
class Look:
    """One question, and the candidates whose tests answered it, in their order; only the last may have failed."""

    question: str
    passed: list[str] = field(default_factory=list)
    failed: str = ""

    def covers(self, order: Sequence[str]) -> bool:
        """True when testing ``order`` gives nobody a chance that this look did not give already."""
        for key in order:
            if key == self.failed:
                return True
            if key not in self.passed and self.failed:
                return False
        return True


@dataclass
class Ledger:
    """The looks at the samples with the digest ``data``, oldest first; ``warnings`` says why they may be too few."""

    data: str
    question: str
    looks: list[Look] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def number(self, order: Sequence[str] = ()) -> int:
        """Which look at these samples a proof of ``order`` would be, counted from 1."""
        same = (i for i, look in enumerate(self.looks, 1) if look.question == self.question and look.covers(order))
        return next(same, len(self.looks) + 1)

    def begin(self, order: Sequence[str]) -> int:
        """Count a proof of ``order`` as a look, before it starts, unless it repeats one. Returns its number."""
        with self._alone():
            number = self.number(order)
            if number > len(self.looks):
                self.looks.append(Look(self.question))
        return number

    def tested(self, number: int, key: str, passed: bool) -> None:
        """Remember how a candidate of look ``number`` fared; after a failure nothing counts any more."""
        with self._alone():
            look = self.looks[number - 1]
            if look.failed:
                return
            if not passed:
                look.failed = key
            elif key not in look.passed:
                look.passed.append(key)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The newest ledger with nobody else at it, then back to disk; in memory only where that cannot be."""
        path = place(self.data)
        lock = self._lock(path)
        try:
            if lock is not None:
                newest = self._read(path)
                self.looks = newest if len(newest) >= len(self.looks) else self.looks
            yield
            if lock is not None:
                durable.replace(path, msgspec.json.encode({"schema": SCHEMA, "looks": self.looks}))
        except OSError as fault:
            self._warn(path, fault)
        finally:
            if lock is not None:
                os.close(lock)

    def _lock(self, path: Path) -> int | None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as fault:
            self._warn(path, fault)
            return None
        return lock

    def _read(self, path: Path) -> list[Look]:
        try:
            found = msgspec.json.decode(path.read_bytes())
            if found["schema"] == SCHEMA:
                return msgspec.convert(found["looks"], list[Look])
            cause = f"it is of version {found['schema']}, this hasten reads {SCHEMA}"
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, KeyError, TypeError) as fault:
            cause = str(fault)
        self.warnings = [f"earlier looks at these samples are not known: {path} cannot be read ({cause})"]
        return []

    def _warn(self, path: Path, fault: OSError) -> None:
        self.warnings = [f"this look at the samples is not remembered: {path.parent}: {fault.strerror or fault}"]


def open_ledger(data: str, question: str) -> Ledger:
    """What is known of the samples with the digest ``data``."""
    ledger = Ledger(data, question)
    try:
        ledger.looks = ledger._read(place(data))
    except OSError as fault:
        ledger._warn(place(data), fault)
    return ledger


def place(data: str) -> Path:
    """Where the looks at these samples are kept: ``$XDG_CACHE_HOME/hasten/looks``, or below ``~/.cache``."""
    return owned.cache() / "looks" / f"{data[:32]}.json"
