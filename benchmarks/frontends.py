"""``python -m benchmarks.frontends PACKAGES NETS OUT.json [NAME ...]``: front door x engine.

Each network comes in as its framework left it. Recorded: that it works, the conversion's error (largest difference as a
share of an output's largest value, on 32 samples), and the speed of every engine, in float32 and in its narrow floats,
against the framework's own default, from interleaved rounds in warm processes. Needs the frameworks; Keras networks are
made on the spot. Inputs are the networks' own samples where there are some, else random.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hasten import compare, registry, replies
from hasten.errors import HastenError
from hasten.frontends.objects import as_file
from hasten.machine import cores, machine
from hasten.measure.timing import Workload, interleave, timing
from hasten.model import TensorSpec
from hasten.protocols import Door
from hasten.samples import SampleStore, load_samples
from hasten.search import forms, space
from hasten.search.enter import Entered, enter
from hasten.search.findings import Built
from hasten.trial import Candidate, Scalar, plain
from hasten.worker import CallFailed, Worker, WorkerDied
from hasten.worker import once as in_worker

SAMPLES, ROUNDS = 32, 20


@dataclass(frozen=True)
class Case:
    """A network at a door: ``make(packages, prepared networks, scratch folder)``, and how it is let in."""

    door: str
    make: Callable[[Path, Path, Path], tuple[Any, Any]]  # (network, data or None)
    trust: bool = False
    signature: str | None = None
    batch: int = 1


def efficientnet(packages: Path, nets: Path, folder: Path) -> tuple[Any, Any]:
    """A module with a DataLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.networks import imagenet_cnn

    network = imagenet_cnn.load(packages / "efficientnet_lite0/efficientnet-lite0-57934424.pth")
    images = np.load(nets / "efficientnet_lite0/samples.npz")["x"][:SAMPLES]
    return network, DataLoader(TensorDataset(torch.from_numpy(images)), 8)


def minilm(packages: Path, nets: Path, folder: Path) -> tuple[Any, Any]:
    """A module of two inputs with a DataLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.networks import sentence_encoder

    network = sentence_encoder.load(packages / "minilm_l6/model.safetensors")
    with np.load(nets / "minilm_l6/samples.npz") as found:
        columns = [torch.from_numpy(found[name][:SAMPLES]) for name in ("input_ids", "attention_mask")]
    return network, DataLoader(TensorDataset(*columns), 8)


def file(name: str, packages: Path, nets: Path, folder: Path) -> tuple[Any, Any]:
    """A file or folder that lies among the packages."""
    return packages / name, None


def keras(body: str, packages: Path, nets: Path, folder: Path) -> tuple[Any, Any]:
    """A network saved by Keras on the spot."""
    from tests.doors import kerases

    return kerases.make(folder, body), None


CASES = {
    "efficientnet_lite0": Case("torch", efficientnet),
    "minilm_l6": Case("torch", minilm),
    "adult_mlp": Case("keras", partial(file, "adult_mlp/adult.h5"), trust=True),
    "basic_pitch SavedModel": Case("tensorflow", partial(file, "basic_pitch/nmp")),
    "basic_pitch TFLite": Case("tflite", partial(file, "basic_pitch/nmp.tflite")),
    "basic_pitch ONNX": Case("onnx", partial(file, "basic_pitch/nmp.onnx")),
    "keras cnn": Case("keras", partial(keras, "cnn")),
    "keras gelu": Case("keras", partial(keras, "gelu")),
    "keras bilstm": Case("keras", partial(keras, "bilstm")),
}


def made_up(inputs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """Random samples: small numbers for integers, normal ones for floats."""
    rng = np.random.default_rng(0)
    columns = {}
    for spec in inputs:
        shape = (SAMPLES, *(d if isinstance(d, int) else 16 for d in spec.shape[1:]))
        whole = rng.integers(1, 40, shape) if "int" in spec.dtype else 0.1 * rng.standard_normal(shape)
        columns[spec.name] = whole.astype(spec.dtype)
    return columns


def measure(case: Case, packages: Path, nets: Path, folder: Path) -> dict[str, Any]:
    """The table's rows for one network."""
    scratch = folder / "made"
    scratch.mkdir()
    network, data = case.make(packages, nets, scratch)
    path, samples = as_file(network, data, folder / "given")
    entered = enter(path, folder, Door(trust=case.trust, signature=case.signature), samples)
    store = load_samples(samples if samples is not None else made_up(entered.inputs)).spool(
        folder / "samples", entered.inputs
    )
    return {
        "door": case.door,
        "trust": case.trust,
        "inputs": [str(i) for i in entered.inputs],
        "data": "its own samples" if data is not None else "random",
        "default": entered.origin.engine,
        "conversion_error": error(entered, store),
        "engines": race(entered, store, folder, case.batch),
    }


def error(entered: Entered, store: SampleStore) -> float | None:
    """The conversion's largest difference; None for ONNX, which is not converted."""
    if entered.origin.format == "onnx":
        return None
    answers = []
    origin = entered.origin
    for engine, path, settings in ((origin.engine, origin.path, origin.settings), ("onnxruntime", entered.graph, {})):
        with Worker(name=engine) as worker:
            replies.load(worker, engine, path, settings)
            ids = list(range(len(store)))
            answers.append(replies.run(worker, store.directory, ids).arrays)
    width = len(entered.outputs)
    return max(compare.across(*(side[k::width] for side in answers)).relative for k in range(width))


def ways(entered: Entered) -> dict[str, tuple[str, dict[str, Scalar]]]:
    """Label to (engine, settings): the framework's default first, then each engine's stock and narrow settings."""
    origin = entered.origin
    found = {f"{origin.engine} (as its owner)": (origin.engine, dict(origin.settings))}
    for name in ("onnxruntime", "openvino", "litert", "torch"):
        engine = registry.find("engines", name)
        if engine.missing() or forms.form_of(name, (), entered.forms) is None:
            continue
        stock = [s for s in engine.settings(cores()) if s.get("threads", cores()) == cores()]
        for settings in stock + [{**s, **n} for s in stock[-1:] for n in engine.lossy_settings(cores())]:
            label = " ".join([name, *(told(k, v) for k, v in settings.items() if k != "hint")])
            if (name, settings) not in found.values():
                found[label] = (name, dict(settings))
    return found


def told(key: str, value: Scalar) -> str:
    """A setting in a word or two."""
    return key if value is True else f"{value} threads" if key == "threads" else str(value)


def race(entered: Entered, store: SampleStore, folder: Path, batch: int) -> list[dict[str, Any]]:
    """Every way to serve the network in one interleaved field; those that cannot are told why."""
    work = Workload(str(store.directory), tuple(range(8 * batch)), batch)
    rows: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        sides = {}
        for number, (label, (engine, settings)) in enumerate(ways(entered).items()):
            worker = stack.enter_context(Worker(name=label))
            try:
                path = artefact(entered, engine, settings, folder / f"artefact{number}", store)
                replies.load(worker, engine, path, settings)
                rows[label] = {"way": label, "works": True, "executed": replies.executed(worker)}
                worker.spins = registry.find("engines", engine).spins
                sides[label] = worker
            except (WorkerDied, CallFailed, HastenError) as fault:
                rows[label] = {"way": label, "works": False, "reason": str(fault)[:300]}
        series = interleave(sides, work, rounds=ROUNDS)
    base = series.blocks[next(iter(sides))]
    for label, blocks in series.blocks.items():
        if label in series.lost:
            rows[label].update(works=False, reason=str(series.lost[label])[:300])
            continue
        found = timing(base, blocks)
        rows[label].update(
            speedup=round(found.speedup, 3), low=round(found.low, 3), high=round(found.high, 3),
            median_ms=round(found.median_ms, 4), pairs=found.pairs,
        )  # fmt: skip
    return list(rows.values())


def artefact(entered: Entered, engine: str, settings: dict[str, Scalar], place: Path, store: SampleStore) -> str:
    """The file that ``engine`` serves, built as the search builds it."""
    if engine == entered.origin.engine and settings == dict(entered.origin.settings):
        return str(entered.origin.path)
    form = forms.form_of(engine, (), entered.forms)
    assert form is not None
    steps = [plain(space.CLEAN)] if form == forms.GRAPH else []
    baked = forms.baked(Candidate(steps=(), engine=engine, settings=settings))
    arguments = {
        "source": str(entered.forms[form]), "steps": steps, "engine": engine, "directory": str(place), "form": form,
        "store": str(store.directory), "calibrate": [], "cache": str(place.parent / "stats.npz"), "baked": baked,
    }  # fmt: skip
    return str(in_worker("hasten.search.build:build", arguments, Built)["artefact"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("nets", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    arguments = parser.parse_args()
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"networks": {}}
    known["machine"] = plain(machine())
    for name in arguments.names or CASES:
        with tempfile.TemporaryDirectory(prefix="hasten-") as folder:
            try:
                known["networks"][name] = measure(CASES[name], arguments.packages, arguments.nets, Path(folder))
            except HastenError as fault:
                known["networks"][name] = {"door": CASES[name].door, "works": False, "reason": str(fault)}
        print(name, json.dumps(known["networks"][name]), flush=True)
        arguments.out.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
