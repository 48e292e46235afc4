"""Uses of the test samples: each new question asked of them wears them out a little.

A user who asks the same samples again and again is told yes by luck one day. So questions are counted, by the data's
digest, in the user's cache folder, and the j-th question is tested at a level of ``worn_alpha(alpha, j)``.

Within a question the candidates are tested one after another, each at four fifths of the level that is left. A test
that fails spends its level, a test that passes spends nothing. This is the fallback procedure (Wiens and Dmitrienko, J.
Biopharm. Stat. 15:929 (2005)), one of the graphs of Bretz et al. (Stat. Med. 28:586 (2009)): whatever is true of the
candidates, the chance that any is called inside the budget falsely stays below the question's level. The levels of the
false candidates before the first false acceptance are all spent and add up to at most the whole; that true ones pass or
fail only changes how much is left, and leaves most when all pass. The order is fixed before the first test, and only
the last candidates of it may be left out.

The same question asked again continues: its answers are known, and a new candidate gets a part of what is left.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hasten import durable, owned
from hasten.measure.sequential import FIRST

SCHEMA = 2
SPENT = 0.01  # of a question's level: with less left, asking again is a new question


@dataclass
class Tried:
    """A candidate's test: its share of the question's level, and whether it passed."""

    share: float
    passed: bool


@dataclass
class Look:
    """One question, the sizes of the looks at the samples that were planned for it, and the tests that answered it."""

    question: str
    sizes: list[int] = field(default_factory=list)
    tests: dict[str, Tried] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """The share of the question's level that no failed test has spent."""
        return max(0.0, 1.0 - sum(test.share for test in self.tests.values() if not test.passed))

    def share(self, key: str) -> float:
        """The share for the test of a candidate: as before where it was tested, else four fifths of what is left."""
        known = self.tests.get(key)
        return known.share if known else FIRST * self.left

    def open_to(self, keys: Sequence[str]) -> bool:
        """True when testing ``keys`` needs no new question: all were tested, or there is level left for the others."""
        return self.left > SPENT or all(key in self.tests for key in keys)


@dataclass
class Ledger:
    """The questions to the samples with the digest ``data``, oldest first; ``warnings``: why some may be missing."""

    data: str
    question: str
    looks: list[Look] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def number(self, order: Sequence[str] = ()) -> int:
        """Which question to these samples a test of ``order`` would be, counted from 1."""
        same = (i for i, look in enumerate(self.looks, 1) if look.question == self.question and look.open_to(order))
        return next(same, len(self.looks) + 1)

    def begin(self, order: Sequence[str], sizes: Sequence[int] = ()) -> int:
        """Count a test of ``order`` as a question, before it starts, unless it continues one. Returns its number."""
        with self._alone():
            number = self.number(order)
            if number > len(self.looks):
                self.looks.append(Look(self.question, list(sizes)))
        return number

    def share(self, number: int, key: str) -> float:
        """The share of the level of question ``number`` for the test of a candidate."""
        return self.looks[number - 1].share(key)

    def tested(self, number: int, key: str, share: float, passed: bool) -> None:
        """Remember how a candidate fared in question ``number``. What was tested before keeps its outcome."""
        with self._alone():
            self.looks[number - 1].tests.setdefault(key, Tried(share, passed))

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
            if found["schema"] == 1:
                return [_of_schema_1(look) for look in found["looks"]]
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


def _of_schema_1(look: dict[str, Any]) -> Look:
    """A question as version 1 kept it: the first failure had spent the whole level."""
    passed = msgspec.convert(look["passed"], list[str])
    tests = {key: Tried(1.0, True) for key in passed}
    if failed := msgspec.convert(look["failed"], str):
        tests[failed] = Tried(1.0, False)
    return Look(msgspec.convert(look["question"], str), [], tests)


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
