"""An engine whose time is known: a millisecond and a half for each float convolution, a fifth of it for each int8 one.

The answers are ONNX Runtime's; the rest of the time is slept away, so that other work on the machine changes little.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from hasten.engines import onnxruntime as stock
from hasten.protocols import Array, Feeds, Layer, Runner
from hasten.trial import Scalar
from tests.engines.quick import export as export
from tests.engines.quick import missing as missing
from tests.engines.quick import settings as settings
from tests.engines.quick import version as version

name = "tests.engines.mixing"
scheme = "openvino"
spins = False
FLOAT_MS, INT8_MS = 1.5, 0.3


def formats() -> frozenset[str]:
    return frozenset({"f32", "int8"})


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return []


def costs(path: Path) -> dict[str, float]:
    """Milliseconds of each convolution by name."""
    graph = onnx.load(str(path)).graph
    made = {output: node for node in graph.node for output in node.output}
    narrow = {n.name for n in graph.node if n.op_type == "Conv" and n.input[1] in made}
    return {n.name: INT8_MS if n.name in narrow else FLOAT_MS for n in graph.node if n.op_type == "Conv"}


class _Known:
    def __init__(self, path: Path) -> None:
        self._inner = stock.load(path, {"threads": 1, "spinning": False})
        self._seconds = sum(costs(path).values()) / 1e3

    def run(self, feeds: Feeds) -> list[Array]:
        until = time.perf_counter() + self._seconds
        outputs = self._inner.run(feeds)
        time.sleep(max(0.0, until - time.perf_counter()))
        return outputs

    def executed(self) -> str:
        return "known"

    def close(self) -> None:
        self._inner.close()


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return _Known(path)


def profile(path: Path, settings: Mapping[str, Scalar], feeds: Sequence[Feeds], seconds: float) -> Sequence[Layer]:
    return [Layer((node,), (), "Conv", ms) for node, ms in costs(path).items()]
