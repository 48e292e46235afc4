"""``python -m benchmarks.fuzz_doors OUT.json [--count 10000] [--door torch]``: damaged files at the front doors.

Each file is a good one with bits flipped, cut, spliced, or with values of its JSON exchanged and packed anew. It goes
through ``accepts`` in this process, and in a worker with limits through the door's checks and the framework's reader;
what is read must answer. Each tenth file goes through the whole door, to ONNX, which takes most of the time. What
counts: every file is refused with a sentence or read, a worker may die, this process may not. Needs the framework.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hasten import registry
from hasten.errors import HastenError
from hasten.protocols import Door
from hasten.worker import CallFailed, Worker, WorkerDied

SECONDS, WHOLE_SECONDS, MEMORY = 60.0, 300.0, 4 << 30
WHOLE = 10  # each tenth file is converted
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


def run(door: str, seed_file: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Fates of ``count`` damaged copies of ``seed_file``, with an example of each kind of message."""
    rng, data = random.Random(seed), seed_file.read_bytes()
    fates: Counter[str] = Counter()
    examples: dict[str, str] = {}
    worker: Worker | None = None
    reader, wholes = Reader(door), 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hasten-fuzz-") as name:
        path, place = Path(name, "fuzzed"), Path(name, "place")
        for number in range(count):
            path.write_bytes(MUTATIONS[number % len(MUTATIONS)](data, rng))
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            if not registry.find("frontends", door).accepts(path):
                fate, text = "not accepted", ""
            elif number // len(MUTATIONS) % WHOLE:
                fate, text = reader.read(path, place)
            else:
                if worker is None or wholes % FILES_A_WORKER == 0:
                    if worker is not None:
                        worker.close()
                    worker = Worker(name="fuzz", memory_limit=MEMORY)
                wholes += 1
                fate, text = once(worker, door, path, place)
                worker = None if fate == "worker died" else worker
            fates[fate] += 1
            examples.setdefault(f"{fate}: {text[:60]}", text[:300])
    reader.close()
    if worker is not None:
        worker.close()
    return {
        "door": door, "files": count, "seed": seed, "seconds": round(time.perf_counter() - began, 1), "whole": wholes,
        "fates": dict(fates), "unclear": fates["unclear"], "examples": dict(list(examples.items())[:60]),
    }  # fmt: skip


class Reader:
    """A child that reads one file after another; it is replaced when it dies or hangs."""

    def __init__(self, door: str) -> None:
        self._line = [sys.executable, "-W", "ignore", "-m", "benchmarks.fuzz_doors", "-", "--child", door]
        self._child: subprocess.Popen[str] | None = None

    def read(self, path: Path, place: Path) -> tuple[str, str]:
        """Fate and text of a file: "read", "does not run", "refused", "unclear" or "worker died"."""
        if self._child is None:
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            self._child = subprocess.Popen(self._line, stdin=pipe, stdout=pipe, stderr=nowhere, text=True)
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{path}\t{place}\n")
        child.stdin.flush()
        answers = any(select.select([child.stdout], [], [], SECONDS)[0] for _ in range(2))  # both may have been paused
        line = child.stdout.readline() if answers else ""
        if not line:
            self.close()
            return "worker died", f"exit {child.returncode}" if answers else "it hung"
        fate, text = json.loads(line)
        return fate, text

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._child = None


def child(door: str) -> None:
    """Read the files that standard input names, an answer a line; libraries that print do so elsewhere."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        path, place = line.rstrip("\n").split("\t")
        try:
            fate = (read(door, Path(path), Path(place)), "")
        except HastenError as refusal:
            fate = ("refused" if refusal.message and refusal.help else "unclear", str(refusal))
        except Exception as fault:
            fate = ("unclear", f"{type(fault).__name__}: {fault}")
        print(json.dumps(fate), file=answers, flush=True)


def read(door: str, path: Path, place: Path) -> str:
    """Check a file as the door does, let the framework read what was checked, and run it."""
    import torch

    from hasten.engines.torch import flat_call
    from hasten.frontends import keras as keras_door
    from hasten.frontends.torch import read_program
    from hasten.safety.program import check_program

    if door == "torch":
        check_program(path, place / "program.pt2")
        call, example = flat_call(read_program(place / "program.pt2", path)), [torch.zeros(2, 6)]
    else:
        keras = keras_door.start_keras("torch", place)
        safe = keras_door._checked(path, Door(folder=place))
        module, arrays, _ = keras_door.traced(keras_door.read_model(keras, safe, False, None))
        call, example = (lambda tensors: [module(*tensors)]), [torch.from_numpy(a) for a in arrays]
    try:
        with torch.inference_mode():
            call(example)
    except Exception:  # weights that do not fit their operators: the door or the baseline says so
        return "does not run"
    return "read"


def once(worker: Worker, door: str, path: Path, place: Path) -> tuple[str, str]:
    """One file through the whole door: "refused", "converted", "worker died", or "unclear" with what was raised."""
    options = {"folder": str(place), "trust": False, "module": None, "signature": None, "example": None}
    arguments = {"name": door, "path": str(path), "options": options}
    try:
        worker.call("call", seconds=WHOLE_SECONDS, function="hasten.frontends.door:convert", keywords=arguments)
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
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for door, path in seeds(Path(folder)).items():
            if not arguments.door or door in arguments.door:
                results.append(run(door, path, arguments.count))
                print(json.dumps({k: v for k, v in results[-1].items() if k != "examples"}), flush=True)
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
