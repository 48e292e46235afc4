"""The folder that every benchmark network becomes: ``model.onnx``, ``samples.npz``, ``meta.json``."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What a benchmark must know of a network beside its files.

    ``output`` is the output that the metric reads (empty: the only one), ``batch`` the batch that is timed,
    ``state`` maps each state input to the output that feeds it, ``budget`` is as on the command line, ``groups`` names
    the array of ``samples.npz`` that tells which samples belong together (empty: none). ``per_tensor``: int8 weights
    may have one scale each.
    """

    name: str
    metric: str
    licence: str
    notes: str
    output: str = ""
    batch: int = 1
    budget: str = "1%"
    groups: str = ""
    transformer: bool = False
    per_tensor: bool = False
    state: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A prepared network, read back from its folder."""

    folder: Path
    meta: Meta

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def data(self) -> Path:
        return self.folder / "samples.npz"


def write(folder: Path, model: Path | bytes, samples: dict[str, Array], meta: Meta) -> Bundle:
    """Write the three files of a network. ``samples`` holds the inputs by name, ``labels`` and perhaps ``groups``."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.onnx"
    if isinstance(model, bytes):
        target.write_bytes(model)
    else:
        shutil.copyfile(model, target)
    np.savez(folder / "samples.npz", allow_pickle=False, **samples)
    (folder / "meta.json").write_text(json.dumps(asdict(meta), indent=2) + "\n")
    return Bundle(folder, meta)


def read(folder: Path) -> Bundle:
    """The network prepared in ``folder``."""
    return Bundle(folder, Meta(**json.loads((folder / "meta.json").read_text())))


def distinct(rows: list[bytes]) -> list[int]:
    """Positions of the first of each group of equal rows, in order."""
    first: dict[bytes, int] = {}
    for position, row in enumerate(rows):
        first.setdefault(row, position)
    return sorted(first.values())
