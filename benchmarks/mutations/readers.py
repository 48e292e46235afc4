"""The child: damages seeds by number, lets hasten read each file, and reports a line of JSON for each."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.mutations.formats import damages
from hasten import registry
from hasten.errors import HastenError
from hasten.machine import peak_bytes
from hasten.model import TensorSpec
from hasten.protocols import Door

MEMORY = 4 << 30  # bytes that a child may allocate, as for a reader of data
WHOLE = 60  # one file in so many goes through all of a slow door
NAMES = {"recipe": "recipe.json", "manifest": "manifest.json", "report": "report.json", "journal": "journal.jsonl"}
IMAGES = ("png", "tiff", "jpeg")
DATA = ("npz", "npy", "csv", "csv.gz", "parquet", *IMAGES)
X = TensorSpec("x", ("N", 3), "float32")
IMAGE = TensorSpec("x", ("N", 3, 16, 16), "float32")


def child(kind: str, seeds: list[Path], command: bool) -> None:
    """Answer the lines ``first count`` of standard input; libraries that print do so elsewhere."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    place = Path.cwd()
    ways, read = damages(kind), (commanded if command else READERS[kind])
    contents = [_main_file(seed).read_bytes() for seed in seeds]
    good = _placed(kind, seeds[0], contents[0], place / "good")  # frameworks are imported before the clock runs
    if read(kind, good, 0) != "valid":
        raise SystemExit(f"the seed of {kind} is not valid")
    for line in sys.stdin:
        first, count = map(int, line.split())
        for number in range(first, first + count):
            rng = random.Random(f"{kind} {number}")  # each file by itself, so that any can be made again
            i = number % len(seeds)
            damaged = ways[number // len(seeds) % len(ways)](contents[i], rng)
            work = place / "work"
            shutil.rmtree(work, ignore_errors=True)
            path = _placed(kind, seeds[i], damaged, work)
            answer = _answer(kind, number, path, read)
            print(json.dumps({"number": number, **answer}), file=answers, flush=True)


def _main_file(seed: Path) -> Path:
    return seed / "saved_model.pb" if seed.is_dir() else seed


def _placed(kind: str, seed: Path, damaged: bytes, work: Path) -> Path:
    """The damaged file where a reader expects it."""
    work.mkdir()
    if seed.is_dir():
        shutil.copytree(seed, work / "model")
        (work / "model" / "saved_model.pb").write_bytes(damaged)
        return work / "model"
    if kind in IMAGES:
        (work / "images").mkdir()
        (work / "images" / f"1.{kind}").write_bytes(damaged)
        return work / "images"
    path = work / NAMES.get(kind, f"file.{kind}")
    path.write_bytes(damaged)
    return path


def _answer(kind: str, number: int, path: Path, read: Callable[[str, Path, int], str]) -> dict[str, Any]:
    begun = time.perf_counter()
    text = ""
    try:
        fate = read(kind, path, number)
    except HastenError as refusal:
        text = str(refusal)
        clear = refusal.message and refusal.help and refusal.exit_code in (2, 3, 4, 5)
        fate = "refused" if clear else "unclear"
    except Exception as fault:
        fate, text = "foreign", f"{type(fault).__name__}: {fault}"
    seconds = time.perf_counter() - begun
    return {"fate": fate, "text": _class(text, path), "seconds": seconds, "peak": peak_bytes()}


def _class(text: str, path: Path) -> str:
    """A message without paths, names and numbers, so that like ones are counted together."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text.replace(str(path), "FILE").replace("\n", " "))
    return re.sub(r"[0-9][0-9,._]*", "N", re.sub(r"\S*/\S*", "PATH", text))[:200]


def _onnx(kind: str, path: Path, number: int) -> str:
    from hasten.safety.stage import stage
    from hasten.search.build import inspect

    inspect(str(stage(path, path.parent / "stage")))
    return "valid"


def _door(kind: str, path: Path, number: int) -> str:
    """The check of a door and the framework's reader; the whole door for one file in ``WHOLE``."""
    name = {"pt2": "torch", "savedmodel": "tensorflow"}.get(kind, kind)
    door = registry.find("frontends", name)
    if not door.accepts(path):
        return "not accepted"
    folder = path.parent / "door"
    folder.mkdir()
    if kind == "tflite" or number % WHOLE == 0:
        door.load(path, Door(folder=folder))
    elif kind == "pt2":
        from hasten.frontends.torch import read_program
        from hasten.safety.program import check_program

        check_program(path, folder / "program.pt2")
        read_program(folder / "program.pt2", path)
    elif kind == "keras":
        from hasten.frontends import keras

        framework = keras.start_keras("torch", folder)
        keras.traced(keras.read_model(framework, keras.checked(path, Door(folder=folder)), False, None))
    else:
        from hasten.safety import savedmodel

        contents = savedmodel.read(path)
        savedmodel.check(contents, savedmodel.choose(contents, None, str(path)), str(path))
    return "valid"


def _data(kind: str, path: Path, number: int) -> str:
    from hasten.samples import load_samples

    spec = IMAGE if kind in IMAGES else X
    store = load_samples(path).spool(path.parent / "samples", (spec,))
    store.sample(len(store) - 1)
    return "valid"


def _recipe(kind: str, path: Path, number: int) -> str:
    from hasten.read_result import read_recipe

    read_recipe(path)
    return "valid"


def _manifest(kind: str, path: Path, number: int) -> str:
    from hasten.result_files import read_manifest

    read_manifest(path.parent)
    return "valid"


def _report(kind: str, path: Path, number: int) -> str:
    from hasten.result_files import read_report

    read_report(path.parent)
    return "valid"


def _journal(kind: str, path: Path, number: int) -> str:
    from hasten.journal import Journal

    journal = Journal(path, {"model": "m", "data": "d"})
    journal.recall("screen", "k1", dict)
    return "valid"


READERS: dict[str, Callable[[str, Path, int], str]] = {
    "onnx": _onnx, "tflite": _door, "pt2": _door, "keras": _door, "savedmodel": _door, **dict.fromkeys(DATA, _data),
    "recipe": _recipe, "manifest": _manifest, "report": _report, "journal": _journal,
}  # fmt: skip


def commanded(kind: str, path: Path, number: int) -> str:
    """What a command does in the user's own process: networks and data go to workers, their errors come back."""
    if kind in DATA:
        from hasten.search.reading import read

        read(path, path.parent / "samples", (IMAGE if kind in IMAGES else X,))
        return "valid"
    from hasten import cli

    code = cli.main(["inspect", str(path)])
    return "valid" if code == 0 else "refused" if code in (2, 3, 4) else "foreign"
