"""Who takes part: the peers, and hasten through its command line."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contest import environment, watch
from benchmarks.contest.watch import Spent
from benchmarks.contest.workers import Contestant
from benchmarks.networks.bundle import Bundle

BASELINE = "ort f32"
HASTEN = "hasten"
SERVED = (".onnx", ".xml", ".tflite", ".pt2")  # files that an engine loads


@dataclass(frozen=True)
class Peer:
    """``build`` names a function of ``benchmarks.contest.build``; empty: the network as it is."""

    name: str
    build: str
    engine: str
    settings: dict[str, Any] = field(default_factory=dict)


F32, BF16 = {"INFERENCE_PRECISION_HINT": "f32"}, {"INFERENCE_PRECISION_HINT": "bf16"}
PEERS = (
    Peer(BASELINE, "", "onnxruntime"),
    Peer("ort static int8", "ort_static", "onnxruntime"),
    Peer("ort static int8, linear layers", "ort_static_linear", "onnxruntime"),
    Peer("ort dynamic int8", "ort_dynamic", "onnxruntime"),
    Peer("openvino f32", "", "openvino", F32),
    Peer("openvino bf16", "", "openvino", BF16),
    Peer("nncf int8", "nncf_int8", "openvino", F32),
    Peer("nncf int8 + bf16", "nncf_int8", "openvino", BF16),
    Peer("nncf accuracy control", "nncf_accuracy", "openvino", F32),
)


def contestant(peer: Peer, python: str, path: str) -> Contestant:
    """A peer with the artefact that it serves."""
    return Contestant(name=peer.name, python=python, engine=peer.engine, path=path, settings=peer.settings)


def command(bundle: Bundle, out: Path) -> list[str]:
    """The line that a person would type for this network."""
    meta = bundle.meta
    line = [str(Path(sys.executable).with_name("hasten")), "optimize", str(bundle.model), "--data", str(bundle.data)]
    line += ["--metric", meta.metric, "--max-drop", meta.budget, "--out", str(out), "--json"]
    line += ["--output", meta.output] if meta.output else []
    line += ["--groups", meta.groups] if meta.groups else []
    line += ["--per-tensor"] if meta.per_tensor else []
    line += ["--batch", str(meta.batch)] if meta.batch != 1 else []
    for state, source in meta.state.items():
        line += ["--state", f"{state}={source}"]
    return line


def run_hasten(bundle: Bundle, out: Path, log: Path, seconds: float, mb: float) -> Spent:
    """Optimise the network with hasten's defaults; time and memory of the whole process tree.

    Exit code 1 means that nothing faster was found inside the budget: an answer, with a folder like any other.
    """
    fresh = {"XDG_CACHE_HOME": str(out.with_name("cache"))}  # earlier benchmarks are no looks at the samples
    shutil.rmtree(fresh["XDG_CACHE_HOME"], ignore_errors=True)
    env = environment.variables() | fresh
    spent = watch.watched(command(bundle, out), log, env=env, seconds=seconds, mb=mb)
    if spent.returncode == 1 and (out / "recipe.json").exists():
        return Spent(seconds=spent.seconds, peak_mb=spent.peak_mb, returncode=0, reason="", output=spent.output)
    return spent


def hasten_answer(out: Path) -> Contestant:
    """What hasten's folder says to serve: its engine, its settings, its artefact."""
    recipe = json.loads((out / "recipe.json").read_text())
    path = next(p for p in sorted(out.glob("model.*")) if p.suffix in SERVED)
    return Contestant(
        name=HASTEN,
        python=sys.executable,
        engine=f"hasten:{recipe['engine']}",
        path=str(path),
        settings=recipe["settings"],
    )
