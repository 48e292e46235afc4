"""Result folders that were written in no time: a small network that is its own result, with all that verify reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hasten import artefacts
from hasten.machine import machine
from hasten.model import TensorSpec, file_digest
from hasten.result_files import Asked
from hasten.trial import Candidate, Result, Scalar, plain
from tests import networks, results

SPLITS = {"calibrate": 300, "search": 1900, "confirm": 2800}
INPUTS = (TensorSpec("x", ("N", 16), "float32"),)


def result_of(model: Path, *, engine: str = "onnxruntime", settings: dict[str, Scalar] | None = None) -> Result:
    """The sample result as if it were about ``model``."""
    base = results.met()
    candidate = Candidate(steps=base.winner.candidate.steps, engine=engine, settings=settings or {}, label="int8")
    winner = replace(base.winner, candidate=candidate)
    rows = tuple(winner if t is base.winner else t for t in base.trials)
    return replace(base, winner=winner, trials=rows, model_sha256=file_digest(model), machine=machine())


def write(
    folder: Path, *, artefact: Path | None = None, result: Callable[[Result], Result] | None = None,
    engine: str = "onnxruntime", settings: dict[str, Scalar] | None = None, **asked: Any,
) -> Path:  # fmt: skip
    """``folder/out`` about ``folder/m.onnx`` and ``folder/x.npy``; ``asked`` are fields of the question."""
    model = folder / "m.onnx"
    if not model.exists():
        networks.mlp(model)
        np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32))
    about = result_of(model, engine=engine, settings=settings)
    fields: dict[str, Any] = {
        "model": str(model), "data": str(folder / "x.npy"), "made_up": False, "metric": None, "metric_by": "choice",
    }  # fmt: skip
    artefacts.write(
        folder / "out", result=result(about) if result else about, artefact=artefact or model, inputs=INPUTS,
        splits=SPLITS, extra={"question": Asked(**{**fields, **asked})}, force=True, building=folder / "building",
    )  # fmt: skip
    return folder / "out"


def edit(out: Path, name: str, change: Callable[[dict[str, Any]], object], *, listed: bool = True) -> None:
    """Change a JSON file of the folder, and its digest in the manifest, as somebody who means harm would."""
    body = json.loads((out / name).read_bytes())
    change(body)
    (out / name).write_text(json.dumps(body))
    if listed and name != "manifest.json":
        digest, size = file_digest(out / name), (out / name).stat().st_size
        edit(out, "manifest.json", lambda manifest: manifest["files"].update({name: digest}))
        edit(out, "manifest.json", lambda manifest: manifest["sizes"].update({name: size}))


def listed(out: Path) -> None:
    """Take the digests of all files anew."""
    found = {p.relative_to(out).as_posix(): file_digest(p) for p in out.rglob("*") if p.is_file()}
    found.pop("manifest.json")
    sizes = {name: (out / name).stat().st_size for name in found}
    edit(out, "manifest.json", lambda manifest: manifest.update(files=plain(found), sizes=sizes))
