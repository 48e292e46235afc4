"""``python -m benchmarks.doors PACKAGES NETS OUT.json [NAME ...]``: the whole of ``optimize`` behind each front door.

Each network comes in as its framework left it, with labelled samples and a budget; recorded are the verdict, what was
proven, the speed-up against the framework's own default, and by how much the conversion changed the answers. Needs the
frameworks. One basic-pitch through three doors: ``benchmarks.pitch``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import hasten
from benchmarks.networks import chords, glosses, income
from hasten.errors import HastenError
from hasten.machine import machine
from hasten.trial import Result, plain

CLIPS, ROWS = 600, 3000


@dataclass(frozen=True)
class Case:
    """``make(packages, prepared networks, scratch folder)`` gives network and data; ``asked`` is what is asked for."""

    make: Callable[[Path, Path, Path], tuple[Any, Any]]
    asked: Mapping[str, Any] = field(default_factory=dict)


def pitch(packages: Path, nets: Path, scratch: Path) -> tuple[Any, Any]:
    """Basic-pitch as TFLite, and synthesised chords."""
    sounds, notes = chords.clips(CLIPS)
    np.savez(scratch / "chords.npz", input_2=sounds, labels=notes)
    return packages / "basic_pitch/nmp.tflite", scratch / "chords.npz"


def efficientnet(packages: Path, nets: Path, scratch: Path) -> tuple[Any, Any]:
    """A module and a DataLoader of images with labels."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.networks import imagenet_cnn

    network = imagenet_cnn.load(packages / "efficientnet_lite0/efficientnet-lite0-57934424.pth")
    with np.load(nets / "efficientnet_views/samples.npz") as found:
        return network, DataLoader(TensorDataset(*map(torch.from_numpy, (found["x"], found["labels"]))), 16)


def minilm(packages: Path, nets: Path, scratch: Path) -> tuple[Any, Any]:
    """A module of two inputs and a DataLoader of ids, masks and labels."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.networks import sentence_encoder

    network = sentence_encoder.load(packages / "minilm_l6/model.safetensors")
    with np.load(nets / "minilm_l6/samples.npz") as found:
        columns = [torch.from_numpy(found[name][:ROWS]) for name in ("input_ids", "attention_mask", "labels")]
    return network, DataLoader(TensorDataset(*columns), 16)


def adult(packages: Path, nets: Path, scratch: Path) -> tuple[Any, Any]:
    """Keras' old format, which counts as code."""
    features, rich = income.rows(packages / "data_tabular/adult.csv.zip")
    np.savez(scratch / "adult.npz", dense_input=features, labels=rich)
    return packages / "adult_mlp/adult.h5", scratch / "adult.npz"


def keras(body: str, packages: Path, nets: Path, scratch: Path) -> tuple[Any, Any]:
    """A small network saved by Keras on the spot; random samples, whose answers must stay the same."""
    from tests.doors import kerases

    path = kerases.make(scratch, body)
    with np.load(scratch / f"{body}.npz") as made:
        like = {name: made[name] for name in made.files if not name.startswith("wanted")}
    rng, data = np.random.default_rng(0), {}
    for name, one in like.items():
        shape = (ROWS, *one.shape[1:])
        whole = rng.integers(1, 40, shape) if one.dtype.kind == "i" else rng.standard_normal(shape)
        data[name] = whole.astype(one.dtype)
    return path, data


NOTES = {"metric": chords.whole_note_f1, "max_drop": "1%"}
SAME = {"max_drop": "agree:99%"}
CASES = {
    "basic_pitch TFLite to TFLite": Case(pitch, {**NOTES, "engines": ["litert"]}),
    "efficientnet_lite0": Case(efficientnet, {"max_drop": "2%"}),
    "minilm_l6": Case(minilm, {"metric": glosses.reciprocal_rank, "max_drop": "1%"}),
    "adult_mlp": Case(adult, {"metric": "auc", "max_drop": "0.5%", "trust": True, "batch": 64}),
    "keras cnn": Case(partial(keras, "cnn"), SAME),
    "keras gelu": Case(partial(keras, "gelu"), SAME),
    "keras bilstm": Case(partial(keras, "bilstm"), SAME),
}


def through(case: Case, packages: Path, nets: Path, scratch: Path, seconds: float | None) -> dict[str, Any]:
    """One network through the whole of ``optimize``."""
    network, data = case.make(packages, nets, scratch)
    found = hasten.optimize(network, data, seconds=seconds, out=scratch / "out", **case.asked)
    return {**summary(found), "files": sorted(p.name for p in (scratch / "out").iterdir())}


def summary(found: Result) -> dict[str, Any]:
    """What a result says, in numbers."""
    winner, proof = found.winner, found.winner.confirm
    score = found.as_given.search.baseline if found.as_given.search else None
    return {
        "door": found.format, "conversion_error": found.conversion,
        "verdict": found.verdict, "sentence": found.sentence, "metric": found.metric, "budget": found.budget,
        "baseline": f"{found.as_given.candidate.engine}: {found.as_given.executed}", "baseline_score": score,
        "winner": winner.candidate.label, "engine": winner.candidate.engine, "executed": winner.executed,
        "speedup": winner.timing.speedup if winner.timing else None,
        "interval": [winner.timing.low, winner.timing.high] if winner.timing else None,
        "median_ms": winner.timing.median_ms if winner.timing else None,
        "score": proof.value if proof else None, "confirm_baseline": proof.baseline if proof else None,
        "drop": proof.drop if proof else None, "upper": proof.upper if proof else None,
        "n_confirm": found.provable.n_confirm, "seconds": round(found.seconds, 1), "warnings": list(found.warnings),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("nets", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--seconds", type=float, help="for each search")
    arguments = parser.parse_args()
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"networks": {}}
    known["machine"] = plain(machine())
    for name in arguments.names or CASES:
        with tempfile.TemporaryDirectory(prefix="hasten-") as folder:
            try:
                row = through(CASES[name], arguments.packages, arguments.nets, Path(folder), arguments.seconds)
            except HastenError as fault:
                row = {"verdict": "refused", "reason": str(fault)}
        row["command"] = f"python -m benchmarks.doors PACKAGES NETS OUT {name!r}"
        known["networks"][name] = row
        print(name, json.dumps(row), flush=True)
        arguments.out.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
