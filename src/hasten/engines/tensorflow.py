"""TensorFlow as its owner runs it: one signature of a SavedModel, float32.

Only the baseline: it serves the owner's file, and nothing is made faster in it. The graph is the signature's alone, run
in a session: what TensorFlow's own loader would run beside it does not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hasten.extras import pip
from hasten.frontends.extras import installed
from hasten.frontends.tensorflow import session
from hasten.protocols import Array, Feeds, Runner
from hasten.safety import savedmodel
from hasten.trial import Scalar

name = "tensorflow"
spins = True
takes = ("tensorflow",)
writes = "savedmodel"
SETTINGS = {"signature": str}


def missing() -> str | None:
    """None when TensorFlow is installed; importing it takes seconds, so only its metadata are read."""
    if all(installed(package) == (0,) for package in ("tensorflow", "tensorflow-cpu")):
        return f"tensorflow is not installed; {pip('tensorflow')}"
    return None


def version() -> str:
    """TensorFlow's own version."""
    from importlib.metadata import version as of

    return of("tensorflow-cpu" if installed("tensorflow-cpu") != (0,) else "tensorflow")


def formats() -> frozenset[str]:
    """As it is."""
    return frozenset({"f32"})


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """The default alone."""
    return [{}]


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """None: another precision would be another graph."""
    return []


def export(source: Path, directory: Path) -> Path:
    """The owner's folder is its own format."""
    return source


class _Signature:
    """A session that computes one signature."""

    def __init__(self, path: Path, chosen: Mapping[str, Scalar]) -> None:
        contents = savedmodel.read(path)
        asked = chosen.get("signature")
        found = contents.signatures[savedmodel.choose(contents, str(asked) if asked else None, path.name)]
        self._session = session(path, contents, found)
        self._names = list(found.inputs)
        self._call = self._session.make_callable(list(found.outputs.values()), list(found.inputs.values()))

    def run(self, feeds: Feeds) -> list[Array]:
        return [np.asarray(a) for a in self._call(*(feeds[n] for n in self._names))]

    def executed(self) -> str:
        """What it is by default."""
        return "f32"

    def close(self) -> None:
        self._session.close()


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """A signature; the setting is ``signature``."""
    return _Signature(path, settings)
