"""Keras as its owner runs it: ``predict_on_batch`` on TensorFlow where that is installed, else on torch.

Only the baseline: it serves the owner's file, and nothing is made faster in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hasten.extras import pip
from hasten.frontends.extras import installed
from hasten.frontends.keras import input_names, packed, read_model, start_keras
from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar

name = "keras"
spins = True  # TensorFlow's pool
takes = ("keras",)
writes = "keras"
SETTINGS = {"backend": ("tensorflow", "torch"), "trust": (True,), "module": str}
CODE = ("trust", "module")


def missing() -> str | None:
    """None when Keras and one of its backends are installed."""
    if installed("keras") == (0,) or backend() is None:
        return f"keras is not installed; {pip('keras')}"
    return None


def backend() -> str | None:
    """TensorFlow, which is Keras' own default, else torch."""
    if any(installed(package) != (0,) for package in ("tensorflow", "tensorflow-cpu")):
        return "tensorflow"
    return "torch" if installed("torch") != (0,) else None


def version() -> str:
    """Keras' own version."""
    from importlib.metadata import version as of

    return of("keras")


def formats() -> frozenset[str]:
    """As it is."""
    return frozenset({"f32"})


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """The default alone."""
    return [{}]


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """None: a narrower policy would be another model."""
    return []


def export(source: Path, directory: Path) -> Path:
    """The owner's file is its own format."""
    return source


class _Model:
    """A loaded model; inputs by name, outputs in the model's order."""

    def __init__(self, path: Path, chosen: Mapping[str, Scalar]) -> None:
        self._backend = str(chosen.get("backend", backend()))
        self._keras = start_keras(self._backend, Path(tempfile.gettempdir()))
        module = chosen.get("module")
        self._model = read_model(self._keras, path, bool(chosen.get("trust")), str(module) if module else None)
        self._names = input_names(self._model)

    def run(self, feeds: Feeds) -> list[Array]:
        inputs: Any = packed(self._keras, self._model, [feeds[n] for n in self._names])
        answer = self._model.predict_on_batch(inputs)
        return [np.asarray(a) for a in self._keras.tree.flatten(answer)]

    def executed(self) -> str:
        """What it is by default."""
        return f"f32 (keras on {self._backend})"

    def close(self) -> None:
        del self._model


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """A model; the settings are ``backend``, ``trust`` and ``module``, as the front door was told."""
    return _Model(path, settings)
