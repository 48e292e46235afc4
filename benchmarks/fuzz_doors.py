"""``python -m benchmarks.fuzz_doors OUT.json [--count 10000] [--door torch]``: damaged files at the front doors.

Each file is a good one with bits flipped, cut, spliced, or with values of its JSON exchanged and packed anew. It goes
through ``accepts`` in this process, and in a worker with limits through the door's checks and the framework's reader;
what is read must answer. Each twentieth file goes through the whole door, to ONNX, which takes most of the time. What
counts: every file is refused with a sentence or read, a worker may die, this process may not. A run that was cut short
goes on from OUT.json. Needs the framework.
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
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.mutations import MUTATIONS
from hasten import registry
from hasten.errors import HastenError
from hasten.protocols import Door
from hasten.search.findings import Converted
from hasten.worker import CallFailed, Worker, WorkerDied

SECONDS, WHOLE_SECONDS, MEMORY = 60.0, 300.0, 4 << 30
WHOLE = 20  # one file in so many is converted
EXAMPLES, KEEP = 60, 50  # messages that are kept; files after which a run is stored
ALLOWED = ("not accepted", "refused", "read", "does not run", "converted", "worker died")
FILES_A_WORKER = 500  # a worker is replaced now and then, as a search would


@dataclass
class Told:
    """What became of a door's first ``files`` damaged files, with an example of each kind of message."""

    door: str
    files: int = 0
    seconds: float = 0.0
    whole: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, fate: str, text: str) -> None:
        """One more file."""
        self.files += 1
        self.fates[fate] += 1
        if len(self.examples) < EXAMPLES or fate not in ALLOWED:
            self.examples.setdefault(f"{fate}: {text[:60]}", text[:300])

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "fates": dict(self.fates), "unclear": self.fates["unclear"], "each_whole": WHOLE}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Told:
        """As it was stored, to go on."""
        kept = {name: stored[name] for name in ("door", "files", "seconds", "whole", "examples")}
        return cls(**kept, fates=Counter(stored["fates"]))


def run(told: Told, seed_file: Path, count: int, keep: Callable[[], None] = lambda: None) -> Told:
    """Damage ``seed_file`` until ``told`` speaks of ``count`` files; ``keep`` is called now and then."""
    data, reader, whole = seed_file.read_bytes(), Reader(told.door), Whole(told.door)
    began = time.perf_counter() - told.seconds
    with tempfile.TemporaryDirectory(prefix="hasten-fuzz-") as name:
        path, place = Path(name, "fuzzed"), Path(name, "place")
        while told.files < count:
            rng = random.Random(f"{told.door} {told.files}")  # each file by itself, so that a run can go on
            path.write_bytes(MUTATIONS[told.files % len(MUTATIONS)](data, rng))
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            if not registry.find("frontends", told.door).accepts(path):
                told.add("not accepted", "")
            elif told.files // len(MUTATIONS) % WHOLE:
                told.add(*reader.read(path, place))
            else:
                told.whole += 1
                told.add(*whole.convert(path, place))
            told.seconds = round(time.perf_counter() - began, 1)
            if told.files % KEEP == 0:
                keep()
    reader.close()
    whole.close()
    keep()
    return told


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
        safe = keras_door.checked(path, Door(folder=place))
        module, arrays, _ = keras_door.traced(keras_door.read_model(keras, safe, False, None))
        call, example = (lambda tensors: [module(*tensors)]), [torch.from_numpy(a) for a in arrays]
    try:
        with torch.inference_mode():
            call(example)
    except Exception:  # weights that do not fit their operators: the door or the baseline says so
        return "does not run"
    return "read"


class Whole:
    """A worker that takes one file after another through the whole door."""

    def __init__(self, door: str) -> None:
        self._door, self._files = door, 0
        self._worker: Worker | None = None

    def convert(self, path: Path, place: Path) -> tuple[str, str]:
        """Fate and text of a file: "refused", "converted", "worker died", or "unclear" with what was raised."""
        if self._files == FILES_A_WORKER:
            self.close()
        self._worker = self._worker or Worker(name="fuzz", memory_limit=MEMORY)
        self._files += 1
        options = {"folder": str(place), "trust": False, "module": None, "signature": None, "example": None}
        asked = {"name": self._door, "path": str(path), "options": options}
        try:
            function = "hasten.frontends.door:convert"
            self._worker.call("call", Converted, seconds=WHOLE_SECONDS, function=function, keywords=asked)
        except HastenError as refusal:
            return ("refused" if refusal.message and refusal.help else "unclear"), str(refusal)
        except WorkerDied as fault:
            self._worker, self._files = None, 0
            return "worker died", str(fault)
        except CallFailed as fault:
            return "unclear", f"{fault.kind}: {fault}"
        return "converted", ""

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
        self._worker, self._files = None, 0


def seeds(folder: Path) -> dict[str, Path]:
    """A good file a door; small, since many a damaged one still converts, which takes most of the time."""
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
    known = {d["door"]: d for d in json.loads(arguments.out.read_text())} if arguments.out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for door, path in seeds(Path(folder)).items():
            if arguments.door and door not in arguments.door:
                continue
            told = Told.read(known[door]) if door in known else Told(door)

            def keep(told: Told = told) -> None:
                known[told.door] = told.plain()
                arguments.out.write_text(json.dumps(list(known.values()), indent=1) + "\n")

            run(told, path, arguments.count, keep)
            print(json.dumps({k: v for k, v in told.plain().items() if k != "examples"}), flush=True)


if __name__ == "__main__":
    main()
