"""An engine that is known to be five times faster than the stock one, because the stock one is made to wait.

Its "half" precision also answers wrongly on every fifth sample, so that a search has something to reject.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hasten.engines import onnxruntime as stock
from hasten.protocols import Array, Feeds, Layer, Runner
from hasten.trial import Scalar

name = "tests.engines.quick"
scheme = "onnxruntime"
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
    return [{"precision": "good"}, {"precision": "bad"}]


def export(onnx: Path, directory: Path) -> Path:
    return stock.export(onnx, directory)


class _Timed:
    """Milliseconds a call: 4 in full precision, 2 good, 1 bad; all times ``scale``."""

    def __init__(self, path: Path, settings: Mapping[str, Scalar], scale: float = 1.0) -> None:
        self._inner = stock.load(path, {"threads": 1, "spinning": False})
        self._precision = settings.get("precision", "full")
        self._seconds = scale * {"full": 0.004, "good": 0.002, "bad": 0.001}[str(self._precision)]

    def run(self, feeds: Feeds) -> list[Array]:
        time.sleep(self._seconds)
        outputs = [np.array(a) for a in self._inner.run(feeds)]
        if self._precision == "bad" and int(abs(float(next(iter(feeds.values())).ravel()[0])) * 1e4) % 5 == 0:
            outputs[0] = -outputs[0]
        return outputs

    def executed(self) -> str:
        return f"{self._precision}: 2 of 2 matrix products"

    def close(self) -> None:
        self._inner.close()


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return _Timed(path, settings)


def profile(path: Path, settings: Mapping[str, Scalar], feeds: Sequence[Feeds], seconds: float) -> Sequence[Layer]:
    return []
