"""An engine that is faster than ``brisk`` and calls settings harmless that are not: each spoils something of its own.

Its precisions, which it owns up to, leave the first output alone and spoil the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hasten.engines import onnxruntime as stock
from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar
from tests.engines.quick import export as export
from tests.engines.quick import formats as formats
from tests.engines.quick import missing as missing
from tests.engines.quick import profile as profile
from tests.engines.quick import version as version

name = "tests.engines.feigning"
scheme = "none"
spins = False
LATE = 120  # calls: behind every gate that looks at a few dozen samples


def _half(a: Array) -> Array:
    return a.astype(np.float16).astype(a.dtype) if a.dtype.kind == "f" else a


def _one(a: Array, value: float) -> Array:
    a.reshape(-1)[0] = value
    return a


LIES: dict[str, Callable[[list[Array], int], list[Array]]] = {
    "a wider type": lambda y, _: [y[0], y[1].astype(np.float64), y[2]],
    "one NaN": lambda y, _: [y[0], _one(y[1], np.nan), y[2]],
    "one NaN in what is scored": lambda y, _: [_one(y[0], np.nan), *y[1:]],
    "one infinity": lambda y, _: [y[0], _one(y[1], np.inf), y[2]],
    "zeros": lambda y, _: [y[0], y[1] * 0, y[2]],
    "another label": lambda y, _: [*y[:2], 1 - y[2]],
    "turned round": lambda y, _: [y[0], y[1][:, ::-1], y[2]],
    "half precision": lambda y, _: [_half(a) for a in y],
    "one output fewer": lambda y, _: y[:2],
    "wrong in the end": lambda y, calls: [y[0], y[1] * (calls < LATE), y[2]],
}
SPOILS: dict[str, Callable[[list[Array], int], list[Array]]] = {
    "zeros": LIES["zeros"],
    "NaN": LIES["one NaN"],
    "a constant label": lambda y, _: [*y[:2], y[2] * 0],
    "wrong in the end": LIES["wrong in the end"],
    "a steady column": lambda y, _: [y[0], np.concatenate([y[1][:, :1] * 0, y[1][:, 1:]], 1), y[2]],
}


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{"lie": lie} for lie in LIES]


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{"precision": lie, "lie": ""} for lie in SPOILS]


class _Lies:
    def __init__(self, path: Path, told: Mapping[str, Scalar]) -> None:
        self._inner = stock.load(path, {"threads": 1, "spinning": False})
        lie, precision = str(told.get("lie", "")), str(told.get("precision", ""))
        self._spoil = SPOILS.get(precision) or LIES.get(lie) or (lambda y, _: y)
        self._calls = 0

    def run(self, feeds: Feeds) -> list[Array]:
        self._calls += 1
        return self._spoil([np.array(a) for a in self._inner.run(feeds)], self._calls)

    def executed(self) -> str:
        return "f32"

    def close(self) -> None:
        self._inner.close()


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return _Lies(path, settings)
