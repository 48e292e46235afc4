"""``python -m benchmarks.fuzz_doors OUT.json [--count 10000] [--door torch]``: damaged files at the front doors.

Each file is a good one with bits flipped, cut, spliced, or with values of its JSON exchanged and packed anew. It goes
through ``accepts`` in this process and the door in a worker with limits. What counts: every file is refused with a
sentence or converted, a worker may die, this process may not. Needs the door's framework.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hasten import registry
from hasten.errors import HastenError
from hasten.worker import CallFailed, Worker, WorkerDied

SECONDS, MEMORY = 60.0, 4 << 30
FILES_A_WORKER = 500  # a worker is replaced now and then, as a search would
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
                out.writestr(name, entry)
        return target.read_bytes()


def exchanged(entry: bytes, rng: random.Random) -> bytes:
    """JSON with one to three values replaced by odd ones, by others of it, or left out."""
    value = json.loads(entry)
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


def run(door: str, seed_file: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Fates of ``count`` damaged copies of ``seed_file``, with an example of each kind of message."""
    rng, data = random.Random(seed), seed_file.read_bytes()
    fates: Counter[str] = Counter()
    examples: dict[str, str] = {}
    worker: Worker | None = None
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hasten-fuzz-") as name:
        path, place = Path(name, "fuzzed"), Path(name, "place")
        for number in range(count):
            if worker is None or number % FILES_A_WORKER == 0:
                if worker is not None:
                    worker.close()
                worker = Worker(name="fuzz", memory_limit=MEMORY)
            path.write_bytes(MUTATIONS[number % len(MUTATIONS)](data, rng))
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            fate, text = once(worker, door, path, place)
            fates[fate] += 1
            examples.setdefault(f"{fate}: {text[:60]}", text[:300])
            worker = None if fate == "worker died" else worker
    if worker is not None:
        worker.close()
    unclear = fates["unclear"] + fates["parent"]
    return {"door": door, "files": count, "seed": seed, "seconds": round(time.perf_counter() - began, 1),
            "fates": dict(fates), "unclear": unclear, "examples": dict(list(examples.items())[:60])}  # fmt: skip


def once(worker: Worker, door: str, path: Path, place: Path) -> tuple[str, str]:
    """One file: "not accepted", "refused", "converted", "worker died", or "unclear" with what was raised."""
    if not registry.find("frontends", door).accepts(path):
        return "not accepted", ""
    options = {"folder": str(place), "trust": False, "module": None, "signature": None, "example": None}
    arguments = {"name": door, "path": str(path), "options": options}
    try:
        worker.call("call", seconds=SECONDS, function="hasten.frontends.door:convert", keywords=arguments)
    except HastenError as refusal:
        return ("refused" if refusal.message and refusal.help else "unclear"), str(refusal)
    except WorkerDied as fault:
        return "worker died", str(fault)
    except CallFailed as fault:
        return "unclear", f"{fault.kind}: {fault}"
    return "converted", ""


def seeds(folder: Path) -> dict[str, Path]:
    """A good file a door; small, since every third mutation still converts, which takes most of the time."""
    import torch
    from tests.doors import kerases, programs

    network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    program = programs.save(folder / "seed.pt2", network, (torch.zeros(2, 6),))
    return {"torch": program, "keras": kerases.make(folder, "mlp")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--door", choices=("torch", "keras"), action="append")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for door, path in seeds(Path(folder)).items():
            if not arguments.door or door in arguments.door:
                results.append(run(door, path, arguments.count))
                print(json.dumps({k: v for k, v in results[-1].items() if k != "examples"}), flush=True)
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
