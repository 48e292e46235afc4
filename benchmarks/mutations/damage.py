"""Damage that fits any file: bits, pieces, numbers, foreign content; JSON with odd values; archives packed anew."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

Damage = Callable[[bytes, random.Random], bytes]
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 62,
    1 << 70,
    1e308,
    0.5,
    "",
    "x" * 300,
    "../../x",
    "/etc/passwd",
    "torch.os.system",
    "\u202e\x00",
    [],
    {},
    [[]],
    [0] * 1000,
    {"a": {"a": {"a": 1}}},
)
NUMBERS = (0, 1, 2, 7, 255, 256, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FOREIGN = (
    b"",
    b"\x00" * 64,
    b"PK\x03\x04" + bytes(60),
    b"\x93NUMPY\x01\x00v\x00{'descr'",
    b"\x1f\x8b\x08" + bytes(9),
    b"PAR1",
    b"\x89PNG\r\n\x1a\n",
    b"II*\x00\x08\x00\x00\x00",
    b"\xff\xd8\xff\xe0",
    b"{" * 200_000,
    b"[" * 200_000,
    b"<!DOCTYPE html>",
    b"\x80\x04\x95.",
    b"\xff\xfe\x00a",
    b"version https://git-lfs.github.com/spec/v1\n",
    b"\x08\x0a" * 50_000,
    b'{"a":' * 50_000,
)


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits turned."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end, or a piece from the middle, is missing."""
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.5 else data[:at] + data[at + rng.randrange(1, 4096) :]


def splice(data: bytes, rng: random.Random) -> bytes:
    """A piece is copied over another."""
    size = rng.randrange(1, 2048)
    a, b = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    return data[:b] + data[a : a + size] + data[b + size :]


def doubled(data: bytes, rng: random.Random) -> bytes:
    """A piece comes twice, or many times."""
    a = rng.randrange(len(data) + 1)
    piece = data[a : a + rng.randrange(1, 512)]
    return data[:a] + piece * rng.choice((2, 2, 50)) + data[a:]


def number(data: bytes, rng: random.Random) -> bytes:
    """A field of two, four or eight bytes has an extreme value; the beginning and the end are hit most."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        size, order = rng.choice((2, 4, 8)), rng.choice(("little", "big"))
        edge = min(len(changed), rng.choice((32, 256, 4096, 1 << 30)))
        at = rng.randrange(edge + 1)
        at = at if rng.random() < 0.6 else max(0, len(changed) - at)
        value = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.getrandbits(8 * size)
        changed[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little" if order == "little" else "big")
    return bytes(changed)


def foreign(data: bytes, rng: random.Random) -> bytes:
    """Content of another kind stands before, after, inside, or in place of the file."""
    other = rng.choice(FOREIGN)
    at = rng.randrange(len(data) + 1)
    return rng.choice(
        (other, other + data, data + other, data[:at] + other + data[at + len(other) :], data[:8] + other)
    )


PLAIN: tuple[Damage, ...] = (flip, cut, splice, doubled, number, foreign)


def exchanged(entry: bytes, rng: random.Random) -> bytes:
    """JSON with one to three values replaced by odd ones, by others of it, doubled, or left out."""
    try:
        value = json.loads(entry)
    except (ValueError, RecursionError):  # weights may begin like JSON
        return flip(entry, rng)
    for _ in range(rng.randrange(1, 4)):
        places = list(slots(value))
        if not places:
            break
        holder, key = rng.choice(places)
        dice = rng.random()
        if dice < 0.15 and isinstance(holder, dict):
            del holder[key]
        elif dice < 0.25 and isinstance(holder, dict):
            holder[rng.choice(("extra", "__class__", "a" * 500))] = rng.choice(ODD)
        elif dice < 0.3 and isinstance(holder, list):
            holder.extend(holder[:1] * rng.choice((1, 1000)))
        else:
            other, name = rng.choice(places)
            drawn = other.get(name) if isinstance(other, dict) else None
            holder[key] = rng.choice(ODD) if rng.random() < 0.7 else drawn
    try:
        return json.dumps(value, default=str).encode()
    except (ValueError, RecursionError):  # a value was put into itself
        return flip(entry, rng)


def slots(root: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested JSON."""
    found, pending = [], [root]
    while pending:
        value = pending.pop()
        keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in list(keys):
            found.append((value, key))
            if len(found) < 20_000:
                pending.append(value[key])
    return found


def nested(data: bytes, rng: random.Random) -> bytes:
    """A value of the JSON is nested thousands deep."""
    depth = rng.choice((500, 5000, 100_000))
    try:
        value = json.loads(data)
        holder, key = rng.choice(slots(value))
        holder[key] = "NESTED"
    except (ValueError, IndexError, RecursionError):
        return b"[" * depth + data
    deep = "[" * depth + "]" * depth if rng.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
    return json.dumps(value).replace('"NESTED"', deep).encode()


def inside(damage: Damage) -> Damage:
    """An entry of the archive is damaged, and the archive is whole: what is read deeper is reached."""

    def packed(data: bytes, rng: random.Random) -> bytes:
        def change(name: str, entry: bytes, chosen: bool) -> tuple[str, bytes]:
            return name, damaged(entry) if chosen and entry else entry

        def damaged(entry: bytes) -> bytes:
            return exchanged(entry, rng) if entry[:1] in b"{[" and rng.random() < 0.7 else damage(entry, rng)

        return repacked(data, rng, change)

    return packed


def repacked(data: bytes, rng: random.Random, change: Callable[[str, bytes, bool], tuple[str, bytes]]) -> bytes:
    """The archive with a chosen entry changed; bytes that are no archive get a bit flipped."""
    out = io.BytesIO()
    try:
        with (
            warnings.catch_warnings(),
            zipfile.ZipFile(io.BytesIO(data)) as archive,
            zipfile.ZipFile(out, "w") as target,
        ):
            warnings.simplefilter("ignore")  # of names that come twice
            chosen = rng.choice(archive.namelist())
            for entry in archive.namelist():
                name, content = change(entry, archive.read(entry), entry == chosen)
                target.writestr(zipfile.ZipInfo(name), content)  # without the time of day: the same again
    except (zipfile.BadZipFile, OSError, ValueError):
        return flip(data, rng)
    return out.getvalue()


def renamed(data: bytes, rng: random.Random) -> bytes:
    """An entry has another name: of a neighbour, outside the archive, absurdly long, or of another kind."""
    odd = ("../x", "/abs", "a" * 5000, "", "x\x00y", "labels.npy", "x.py", "data.pkl", "é.npy")

    def change(name: str, entry: bytes, chosen: bool) -> tuple[str, bytes]:
        return (rng.choice(odd) if chosen else name), entry

    return repacked(data, rng, change)


def packing(data: bytes, rng: random.Random) -> bytes:
    """Entries twice, zeros that unpack to a hundred megabytes, other compressions, more than is there."""
    out = io.BytesIO()
    ways = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    try:
        with (
            warnings.catch_warnings(),
            zipfile.ZipFile(io.BytesIO(data)) as archive,
            zipfile.ZipFile(out, "w") as target,
        ):
            warnings.simplefilter("ignore")
            for entry in archive.namelist():
                content, how = archive.read(entry), rng.choice(ways)
                if rng.random() < 0.05:
                    content, how = content[:128] + bytes(rng.choice((10**6, 10**8))), zipfile.ZIP_DEFLATED
                target.writestr(zipfile.ZipInfo(entry), content, how, 1 if how != zipfile.ZIP_LZMA else None)
                if rng.random() < 0.1:
                    target.writestr(zipfile.ZipInfo(entry), content)
    except (zipfile.BadZipFile, OSError, ValueError):
        return flip(data, rng)
    return number(out.getvalue(), rng) if rng.random() < 0.5 else out.getvalue()


def header(data: bytes, rng: random.Random) -> bytes:
    """A field of a zip header (size, method, flags, offset) has an extreme value."""
    places = [i for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06") for i in found(data, mark)]
    if not places:
        return flip(data, rng)
    changed, at = bytearray(data), rng.choice(places)
    field = at + rng.choice((6, 8, 10, 14, 18, 20, 22, 24, 26, 28, 42))
    changed[field : field + 4] = struct.pack("<I", rng.choice(NUMBERS))
    return bytes(changed[: max(len(data), field + 4)])


def found(data: bytes, mark: bytes) -> list[int]:
    """Where ``mark`` occurs."""
    places: list[int] = []
    at = data.find(mark)
    while at >= 0 and len(places) < 1000:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


JSON: tuple[Damage, ...] = (*PLAIN, *(exchanged,) * 8, nested)
ZIP: tuple[Damage, ...] = (*PLAIN, *(inside(flip), inside(number), inside(splice)) * 2, renamed, packing, header)
