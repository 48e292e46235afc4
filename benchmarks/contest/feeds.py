"""Samples of one split as a network eats them, sequences step by step. Only numpy: runs in every environment.

A split is a folder: one ``<input>.npy`` for each input (axis 0 counts samples), ``labels.npy`` and ``feeds.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Outputs = dict[str, Array]
Shapes = dict[str, list[int]]
Run = Callable[[dict[str, Array]], Outputs]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Arrays by input, memory-mapped. ``shared`` ones serve every sample; ``state`` starts as zeros of its shape."""

    arrays: dict[str, Array]
    shared: dict[str, Array]
    labels: Array | None
    state: dict[str, str]
    state_shapes: Shapes

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def steps(self) -> int:
        """Frames of a sequence; 0 for a network without state."""
        return next(iter(self.arrays.values())).shape[1] if self.state else 0

    def rows(self, ids: list[int]) -> dict[str, Array]:
        """Samples ``ids``, copied to memory, joined on axis 0."""
        return {**{name: np.ascontiguousarray(array[ids]) for name, array in self.arrays.items()}, **self.shared}

    def start(self) -> dict[str, Array]:
        """The zero state of one sequence."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.state_shapes.items()}


def write(folder: Path, columns: Mapping[str, Array], ids: Array, state: dict[str, str], shapes: Shapes) -> None:
    """Write samples ``ids`` of ``columns`` (with ``labels``) as a split."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = [name for name, array in columns.items() if array.ndim == 0]
    for name, array in columns.items():
        np.save(folder / f"{name}.npy", array if name in shared else array[ids])
    inputs = [name for name in columns if name != "labels"]
    meta = {"inputs": inputs, "shared": shared, "state": state, "state_shapes": shapes}
    (folder / "feeds.json").write_text(json.dumps(meta))


def read(folder: Path) -> Split:
    """Open what ``write`` wrote."""
    meta = json.loads((folder / "feeds.json").read_text())
    loaded = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["inputs"]}
    labels = folder / "labels.npy"
    return Split(
        arrays={name: array for name, array in loaded.items() if name not in meta["shared"]},
        shared={name: np.array(loaded[name]) for name in meta["shared"]},
        labels=np.load(labels, mmap_mode="r") if labels.exists() else None,
        state=meta["state"],
        state_shapes=meta["state_shapes"],
    )


def sequence(split: Split, index: int, run: Run) -> Iterator[tuple[dict[str, Array], Outputs]]:
    """(feeds, outputs) of every frame of sequence ``index``, the state handed on from frame to frame."""
    whole, states = split.rows([index]), split.start()
    for step in range(split.steps):
        frame = {name: array[:, step] for name, array in whole.items() if name not in split.shared}
        feeds = {**frame, **split.shared, **states}
        outputs = run(feeds)
        states = {name: outputs[source] for name, source in split.state.items()}
        yield feeds, outputs


def answers(split: Split, ids: list[int], batch: int, run: Run) -> Outputs:
    """Outputs of samples ``ids`` by name, [n, ...]; of sequences [n, frames, ...]."""
    if split.state:
        parts = []
        for index in ids:
            frames = [outputs for _, outputs in sequence(split, index, run)]
            parts.append({name: np.concatenate([f[name] for f in frames])[None] for name in frames[0]})
    else:
        parts = [run(split.rows(ids[start : start + batch])) for start in range(0, len(ids), batch)]
    sized = [name for name, array in parts[0].items() if np.ndim(array) > 0]
    return {name: np.concatenate([part[name] for part in parts]) for name in sized}


def single_feeds(split: Split, count: int, run: Run) -> Iterator[dict[str, Array]]:
    """Up to ``count`` feeds for calibration: one sample each, or one frame each, taken evenly from the sequences."""
    if not split.state:
        yield from (split.rows([index]) for index in range(min(count, len(split))))
        return
    stride = max(1, len(split) * split.steps // count)
    seen = 0
    for index in range(len(split)):
        for feeds, _ in sequence(split, index, run):
            if seen % stride == 0:
                yield feeds
            seen += 1
