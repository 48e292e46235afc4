"""What ``kills`` works on and looks into: a network, processes, journals, output folders, what must be equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tests import networks

from hasten.journal import good
from hasten.model import file_digest
from hasten.trial import Result, decode


def records(journal: Path) -> list[dict[str, Any]]:
    """What a journal holds."""
    return good(journal.read_bytes())[0] if journal.is_file() else []


def since_start(journal: Path) -> list[dict[str, Any]]:
    """What the run under way has written."""
    found = records(journal)
    last = max((k for k, r in enumerate(found) if r.get("do") == "start"), default=-1)
    return found[last + 1 :]


def is_proof(record: Mapping[str, Any]) -> bool:
    """A candidate passed on the confirm split."""
    value = record.get("value")
    if record.get("do") != "done" or not str(record.get("step")).startswith("look ") or not isinstance(value, dict):
        return False
    return bool((value.get("confirm") or {}).get("met"))


def steps(journal: Path) -> set[tuple[str, str]]:
    """Finished steps of a journal."""
    return {(r["step"], r["key"]) for r in records(journal) if r.get("do") == "done" and r["value"] is not None}


def whole(out: Path) -> bool:
    """Every file of an output folder is what its manifest says."""
    if not out.exists():
        return True
    files = json.loads((out / "manifest.json").read_text())["files"]
    return all(file_digest(out / name) == digest for name, digest in files.items())


def essence(out: Path) -> dict[str, Any]:
    """What must be the same however often a search was disturbed."""
    result = decode((out / "report.json").read_bytes(), Result)
    files = json.loads((out / "manifest.json").read_text())["files"]
    return {
        "verdict": result.verdict,
        "winner": result.winner.candidate.key,
        "network": {name: digest for name, digest in files.items() if name.startswith("model")},
        "passes": sorted(t.candidate.key for t in result.trials if t.confirm is not None and t.confirm.met),
    }


def children(pid: int) -> list[int]:
    """Processes that a process started and that are still there."""
    with suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def living(temporary: Path) -> list[int]:
    """Processes that stand in a temporary folder."""
    found = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if cwd.readlink().is_relative_to(temporary):
                found.append(int(cwd.parent.name))
    return found


def prepare(work: Path) -> None:
    """Make a folder with the network and 500 samples, one in ten labelled wrongly."""

    work.mkdir(parents=True)
    path = networks.mlp(work / "m.onnx")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((500, 16)).astype(np.float32) * 2
    labels = networks.answers(path, x).argmax(1)
    wrong = rng.random(len(x)) < 0.1
    labels[wrong] = (labels[wrong] + 1) % 10
    np.savez(work / "d.npz", x=x, labels=labels)
    (work / "recipe.json").write_text('{"steps": [], "engine": "onnxruntime", "settings": {}}')
