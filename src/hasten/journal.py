"""What a run has finished, so that a run that died can go on: one line a step, added as it happens, read back once.

    crc32 SPACE {"do": "done", "step": "screen", "key": "1f0c...", "value": ..., "at": 12.4} NEWLINE

A search is a program whose measurements are written down here. To go on, the program runs again from its beginning and
takes from the journal what was measured before. A line that was torn by the end of its process is cut off; what follows
a damaged one is measured again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zlib import crc32

import msgspec

from hasten import bounded, durable, typed_json
from hasten.errors import EnvironmentFault, HastenError, InputError

T = TypeVar("T")
SCHEMA = 1
STRIKES = 2  # unfinished runs after which what was under way in them is left alone
MOST_BYTES = 256 << 20

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The first line: what the run was asked."""

    schema: int
    identity: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Step:
    """Any other line."""

    do: Literal["start", "begin", "done", "stopped"]
    step: str = ""
    key: str = ""
    value: Any = None
    at: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0


class Journal:
    """``seconds`` is the time that the earlier runs had used at their last step. Without a path nothing is written."""

    def __init__(self, path: Path | None = None, identity: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.seconds = 0.0
        self.noted = 0
        self._past: dict[tuple[str, str], Record] = {}
        self._strikes: Counter[str] = Counter()
        self._lock = threading.Lock()
        if path is not None:
            self._open(path, dict(identity or {}))

    def __len__(self) -> int:
        """How many finished steps earlier runs left."""
        return len(self._past)

    def recall(self, step: str, key: str, kind: type[T]) -> tuple[T, float] | None:
        """What an earlier run found in this step, and the time that it had used by then; None when it is to be done."""
        record = self._past.get((step, key))
        if record is None or record["value"] is None:
            return None
        with suppress(msgspec.ValidationError):
            return typed_json.convert(record["value"], kind), float(record["at"])
        return None

    def begin(self, step: str, key: str) -> None:
        """Say that a step is under way, so that a run which ends in its middle is held against it."""
        self._add({"do": "begin", "step": step, "key": key})

    def note(self, step: str, key: str, value: object, at: float) -> None:
        """Write down what a step found; None only says that it is over."""
        self._add({"do": "done", "step": step, "key": key, "value": value, "at": at})
        self.noted += value is not None

    @property
    def kept(self) -> bool:
        """True when there is a finished step to go on from, of this run or of an earlier one."""
        return self.path is not None and (self.noted > 0 or len(self) > 0)

    def stopped(self) -> None:
        """Say that this run ends early by itself; nothing that was under way is to blame.

        On a full disk, what was under way is cut off the journal instead, which needs no room.
        """
        try:
            self._add({"do": "stopped"})
        except EnvironmentFault:
            with suppress(OSError):
                self._forget_begun()

    def _forget_begun(self) -> None:
        if self.path is None:
            return
        records, size = good(self.path.read_bytes())
        while records and records[-1]["do"] == "begin":
            size -= len(line(records.pop()))
        durable.cut(self.path, size)

    def to_blame(self, key: str) -> bool:
        """True for what was under way in two runs that died."""
        return self._strikes[key] >= STRIKES

    def suspect(self, key: str) -> bool:
        """True for what was under way in a run that died: it had better be alone next time."""
        return self._strikes[key] > 0

    def _add(self, record: Record) -> None:
        if self.path is None:
            return
        with self._lock, durable.disk(f"the journal {self.path}"):
            durable.append(self.path, line(record))

    def _open(self, path: Path, identity: Record) -> None:
        records, damaged = self._read(path)
        header = records[0] if records else {}
        if header.get("schema") != SCHEMA or header.get("identity") != identity:
            if records or damaged:
                self.warnings.append(f"{why_not(header, identity)}; starting afresh")
            path.unlink(missing_ok=True)
            self._add({"schema": SCHEMA, "identity": identity})
        else:
            if damaged:
                self.warnings.append(f"{damaged} in the journal of the unfinished run; what is lost is done again")
            self._replay(records[1:])
        self._add({"do": "start"})

    def _read(self, path: Path) -> tuple[list[Record], str]:
        """The good records from the start, and what was wrong behind them; the file is cut there."""
        if not bounded.kind_of(path):
            return [], ""
        try:
            content = bounded.read(path, MOST_BYTES)
        except InputError as fault:
            return [], fault.message
        records, at = good(content)
        rest = content[at:]
        if not rest:
            return records, ""
        with durable.disk(f"the journal {path}"):
            if rest.count(b"\n") == 0:  # torn by the end of the process that wrote it
                durable.cut(path, at)
                return records, ""
            durable.replace(path.with_name(path.name + ".corrupt"), content)
            durable.cut(path, at)
        return records, f"damage behind record {len(records)}"

    def _replay(self, records: list[Record]) -> None:
        under_way: set[tuple[str, str]] = set()
        for record in records:
            what, name = record["do"], (record.get("step", ""), record.get("key", ""))
            if what == "begin":
                under_way.add(name)
            elif what == "done":
                under_way.discard(name)
                self.seconds = max(self.seconds, record["at"])
                if record["value"] is not None:
                    self._past[name] = record
            elif what == "start":
                self._strikes.update({key for _, key in under_way})
            if what in ("start", "stopped"):
                under_way.clear()
        self._strikes.update({key for _, key in under_way})


def good(content: bytes) -> tuple[list[Record], int]:
    """The good records at the start of a journal, and how many bytes they take."""
    records, at = [], 0
    while (end := content.find(b"\n", at)) >= 0:
        record = parse(content[at:end])
        if record is None:
            break
        records.append(record)
        at = end + 1
    return records, at


def left(path: Path) -> tuple[Record, int]:
    """The first record of a journal that a run left, and how many steps are finished in it."""
    try:
        records, _ = good(bounded.read(path, MOST_BYTES))
    except (OSError, HastenError):
        return {}, 0
    done = sum(r.get("do") == "done" and r.get("value") is not None for r in records)
    return (records[0] if records else {}), done


def line(record: Record) -> bytes:
    """A record as it is written: a checksum, a space, JSON, a newline."""
    body = msgspec.json.encode(record)
    return b"%08x %b\n" % (crc32(body), body)


def parse(text: bytes) -> Record | None:
    """A line without its newline; None when its checksum does not fit, or a field is none of a journal's."""
    checksum, space, body = text[:8], text[8:9], text[9:]
    if space != b" " or checksum != b"%08x" % crc32(body):
        return None
    with suppress(msgspec.DecodeError, RecursionError, ValueError):
        found = msgspec.json.decode(body, type=dict[str, Any])
        msgspec.convert(found, _Step if "do" in found else _Header)
        return found if found.get("do") != "done" or {"value", "at"} <= found.keys() else None
    return None


def why_not(header: Record, identity: Record) -> str:
    """Why an unfinished run cannot be gone on with."""
    if not header:
        return "the journal of the unfinished run is damaged"
    if header.get("schema") != SCHEMA:
        return f"the unfinished run wrote its journal as version {header.get('schema')}, this hasten reads {SCHEMA}"
    before = header.get("identity") or {}
    other = sorted(k for k in {*before, *identity} if before.get(k) != identity.get(k))
    return f"the unfinished run had another {' and another '.join(other)}"
