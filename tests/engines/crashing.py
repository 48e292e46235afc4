"""An engine with a bug: it kills its process when it runs a network. Used to show that a search survives it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from hasten.engines import onnxruntime as stock
from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar

name = "tests.engines.crashing"
spins = False


def missing() -> str | None:
    return None


def version() -> str:
    return "1"


def formats() -> frozenset[str]:
    return frozenset({"f32"})


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{}]


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{"precision": "half"}]


def export(onnx: Path, directory: Path) -> Path:
    return stock.export(onnx, directory)


class _Dies:
    def run(self, feeds: Feeds) -> list[Array]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return []

    def executed(self) -> str:
        return "nothing"

    def close(self) -> None:
        """Nothing is held."""


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return _Dies()
