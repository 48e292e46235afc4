"""LiteRT with XNNPACK against ONNX Runtime and OpenVINO in float32: is it worth a place in the search?

    python -m benchmarks.litert build NETS WORK [--pitch nmp.tflite] [--names ppocr_cls ...]
    python -m benchmarks.litert time WORK --rounds 15

``build`` writes every artefact; ``time`` interleaves them, each in a warm process of its own, and prints the speed-up
over ONNX Runtime with its 95 % interval. NETS is what ``benchmarks.networks`` prepares; ``--pitch`` is basic-pitch's
TensorFlow Lite file, which is run as it is too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten import registry, replies
from hasten.measure.timing import Workload, interleave, timing
from hasten.samples import SampleStore, load_samples
from hasten.trial import Scalar
from hasten.worker import Worker

RESULT = Path(__file__).parent / "results" / "litert.json"
NAMES = ("efficientnet_lite0", "ppocr_cls")
CALIBRATE, JUDGED = 64, 64
CLEAN: dict[str, Any] = {"name": "clean", "options": {}}
STATIC: dict[str, Any] = {"name": "quantize", "options": {"scheme": "litert", "ranges": "mse"}}
WEIGHTS: dict[str, Any] = {"name": "quantize_hybrid", "options": {}}
OV: dict[str, Scalar] = {"precision": "f32", "hint": "LATENCY"}
BOTH: dict[str, Scalar] = {"threads": 2}
# of each: the engine, the passes, the settings
SIDES: dict[str, tuple[str, list[dict[str, Any]], dict[str, Scalar]]] = {
    "onnxruntime f32": ("onnxruntime", [CLEAN], {}),
    "openvino f32": ("openvino", [CLEAN], OV),
    "litert f32": ("litert", [CLEAN], BOTH),
    "litert f32, 1 thread": ("litert", [CLEAN], {}),
    "litert int8": ("litert", [CLEAN, STATIC], BOTH),
    "litert int8 weights": ("litert", [CLEAN, WEIGHTS], BOTH),
}


def chords(count: int, seconds_of_samples: int = 43844) -> NDArray[np.float32]:
    """Clips at 22,050 Hz of one to four harmonic tones: float32[count, samples, 1]."""
    random, time = np.random.default_rng(0), np.arange(seconds_of_samples) / 22050
    clips = np.zeros((count, seconds_of_samples))
    for clip in clips:
        for note in random.choice(np.arange(40, 85), random.integers(1, 5), replace=False):
            pitch, start = 440 * 2 ** ((note - 69) / 12), random.uniform(0, 1)
            tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
            clip += tone * np.exp(-3 * np.clip(time - start, 0, None)) * (time >= start)
    peaks = np.abs(clips).max(axis=1, keepdims=True)
    return np.asarray((clips / peaks * random.uniform(0.3, 0.9, (count, 1)))[..., None], np.float32)


def build(source: Path, data: Path, folder: Path, extra: dict[str, Any]) -> None:
    """Every artefact of one network, and how far its answers lie from the float network's."""
    from hasten.frontends.onnx import load
    from hasten.search.build import build as make

    model = load(source)
    meta = source.with_name("meta.json")
    groups = json.loads(meta.read_text()).get("groups") if meta.exists() else None
    store = load_samples(data, groups=groups or None).spool(folder / "spool", model.inputs)
    sides: dict[str, Any] = dict(extra)
    for label, (engine, steps, settings) in SIDES.items():
        target = folder / label.replace(" ", "_").replace(",", "")
        try:
            made = make(
                str(source), str(store.directory), range(CALIBRATE), str(folder / "cache"), steps, engine, str(target)
            )
        except Exception as fault:  # the row says why
            print(f"  {label}: {fault}", flush=True)
            continue
        sides[label] = {"engine": engine, "path": made["artefact"], "settings": settings, "bytes": made["bytes"]}
    reference = list(answers(sides["onnxruntime f32"], store))
    for label, side in sides.items():
        pairs = list(zip(reference, answers(side, store), strict=True))
        side["same_argmax"] = float(np.mean([(a.argmax(-1) == b.argmax(-1)).mean() for a, b in pairs]))
        side["relative_error"] = float(np.mean([np.abs(a - b).mean() / np.abs(a).mean() for a, b in pairs]))
        runner = registry.find("engines", side["engine"]).load(Path(side["path"]), side["settings"])
        runner.run(dict(store.sample(0)))
        side["executed"] = runner.executed()
        print(f"  {label}: {side['same_argmax']:.3f} {side['relative_error']:.2g} {side['executed']}", flush=True)
    (folder / "sides.json").write_text(json.dumps(sides, indent=2))


def answers(side: dict[str, Any], store: SampleStore) -> Iterator[NDArray[Any]]:
    """The first output on samples that calibration has not seen."""
    runner = registry.find("engines", side["engine"]).load(Path(side["path"]), side["settings"])
    for i in range(CALIBRATE, min(CALIBRATE + JUDGED, len(store))):
        yield runner.run(dict(store.sample(i)))[0]


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Each side's speed-up over ONNX Runtime."""
    sides = json.loads((folder / "sides.json").read_text())
    store = SampleStore.open(folder / "spool")
    work, found = Workload(str(store.directory), tuple(range(CALIBRATE, CALIBRATE + 8))), {}
    with ExitStack() as stack:
        workers = {label: stack.enter_context(Worker(name=label)) for label in sides}
        for label, side in sides.items():
            names = outputs(side)
            replies.load(workers[label], side["engine"], side["path"], side["settings"], names)
            workers[label].spins = bool(registry.find("engines", side["engine"]).spins)
        series = interleave(workers, work, rounds=rounds)
    base = series.blocks["onnxruntime f32"]
    for label, side in sides.items():
        told = timing(base, series.blocks[label])
        found[label] = {
            "speedup": round(told.speedup, 3), "low": round(told.low, 3), "high": round(told.high, 3), "n": told.pairs,
            "median_ms": round(told.median_ms, 3), "flags": list(told.flags),
            **{k: side[k] for k in ("same_argmax", "relative_error", "executed", "bytes") if k in side},
        }  # fmt: skip
        print(
            f"  {label:26} {told.speedup:.2f} [{told.low:.2f}, {told.high:.2f}] n={told.pairs} {told.median_ms:.2f} ms"
        )
    return found


def outputs(side: dict[str, Any]) -> list[str]:
    """Names of a network's outputs are only counted here."""
    from hasten.frontends import onnx, tflite

    path = Path(side["path"])
    if side["engine"] == "openvino":
        path = path.with_name("model.onnx")
    model = tflite.load(path) if path.suffix == ".tflite" else onnx.load(path)
    return [o.name for o in model.outputs]


def pitch(file: Path, folder: Path) -> None:
    """basic-pitch from its TensorFlow Lite file."""
    from hasten.frontends import tflite

    folder.mkdir(parents=True, exist_ok=True)
    model = tflite.load(file)
    model.save(folder / "source.onnx")
    np.savez(folder / "clips.npz", allow_pickle=False, **{model.inputs[0].name: chords(CALIBRATE + JUDGED)})
    given = {
        "litert as given": {"engine": "litert", "path": str(file), "settings": {}, "bytes": file.stat().st_size},
        "litert as given, 2 threads": {"engine": "litert", "path": str(file), "settings": BOTH},
    }
    build(folder / "source.onnx", folder / "clips.npz", folder, given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("build")
    made.add_argument("nets", type=Path)
    made.add_argument("work", type=Path)
    made.add_argument("--pitch", type=Path)
    made.add_argument("--names", nargs="*", default=NAMES)
    timed = commands.add_parser("time")
    timed.add_argument("work", type=Path)
    timed.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if given.command == "build":
        for name in given.names:
            print(name, flush=True)
            (given.work / name).mkdir(parents=True, exist_ok=True)
            build(given.nets / name / "model.onnx", given.nets / name / "samples.npz", given.work / name, {})
        if given.pitch is not None:
            print("basic_pitch", flush=True)
            pitch(given.pitch, given.work / "basic_pitch")
        return
    found = {}
    for folder in sorted(p.parent for p in given.work.glob("*/sides.json")):
        print(folder.name, flush=True)
        found[folder.name] = measure(folder, given.rounds)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
