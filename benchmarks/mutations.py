"""Damage for files that are archives of JSON and weights: bits, pieces, and values that are none."""

from __future__ import annotations

import json
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (None, True, -1, 0, 1 << 62, 1e308, "", "x" * 300, "../../x", "torch.os.system", [], {}, [[]])


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits turned."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end, or a piece from the middle, is missing."""
    at = rng.randrange(len(data))
    return data[:at] if rng.random() < 0.5 else data[:at] + data[at + rng.randrange(1, 4096) :]


def splice(data: bytes, rng: random.Random) -> bytes:
    """A piece is copied over another."""
    size = rng.randrange(1, 2048)
    a, b = rng.randrange(len(data)), rng.randrange(len(data))
    return data[:b] + data[a : a + size] + data[b + size :]


def inside(data: bytes, rng: random.Random) -> bytes:
    """An entry of the archive is damaged, and the archive is whole: what is read deeper is reached."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a"), Path(folder, "b")
        source.write_bytes(data)
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as out:
            chosen = rng.choice(archive.namelist())
            for name in archive.namelist():
                entry = archive.read(name)
                if name == chosen and entry:
                    is_json = entry[:1] in b"{["
                    entry = exchanged(entry, rng) if is_json and rng.random() < 0.8 else flip(entry, rng)
                out.writestr(zipfile.ZipInfo(name), entry)  # without the time of day: the same again
        return target.read_bytes()


def exchanged(entry: bytes, rng: random.Random) -> bytes:
    """JSON with one to three values replaced by odd ones, by others of it, or left out."""
    try:
        value = json.loads(entry)
    except ValueError:  # weights may begin like JSON
        return flip(entry, rng)
    for _ in range(rng.randrange(1, 4)):
        places = list(slots(value))
        if not places:
            break
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            del holder[key]
        else:
            other, name = rng.choice(places)
            holder[key] = (
                rng.choice(ODD) if rng.random() < 0.7 else other.get(name) if isinstance(other, dict) else None
            )
    try:
        return json.dumps(value, default=str).encode()
    except ValueError:  # a value was put into itself
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


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, splice, inside, inside, inside)
