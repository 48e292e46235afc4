"""An engine whose every precision is wrong in a way of its own: what a search must notice and survive."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hasten.engines import onnxruntime as stock
from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar
from tests.engines.quick import export as export
from tests.engines.quick import missing as missing
from tests.engines.quick import profile as profile
from tests.engines.quick import settings as settings
from tests.engines.quick import version as version

name = "tests.engines.lying"
scheme = "none"  # no quantizer writes for it
spins = False
LIES = ("shape", "type", "fewer", "swapped", "nan", "constant", "exit", "print", "random", "text")


def formats() -> frozenset[str]:
    return frozenset({"f32"})


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{"precision": lie} for lie in LIES]


class _Lies:
    def __init__(self, path: Path, lie: str) -> None:
        self._inner = stock.load(path, {"threads": 1, "spinning": False})
        self._lie = lie
        self._random = np.random.default_rng()

    def run(self, feeds: Feeds) -> list[Array]:
        first, *rest = (np.array(a) for a in self._inner.run(feeds))
        if self._lie == "exit":
            os._exit(0)
        if self._lie == "print":
            os.write(1, b'{"told": {}}\n' * 10)  # what a careless protocol would read as an answer
            return [-first, *rest]
        lies: dict[str, list[Array]] = {
            "shape": [first[..., :-1], *rest],
            "type": [(first * 100).astype(np.int8), *rest],
            "fewer": [first],
            "swapped": [*rest, first],
            "nan": [np.full_like(first, np.nan), *rest],
            "constant": [np.zeros_like(first), *rest],
            "random": [self._random.standard_normal(first.shape).astype(np.float32), *rest],
            "text": [np.full(first.shape, "yes"), *rest],
        }
        return lies.get(self._lie, [first, *rest])

    def executed(self) -> str:
        return "nothing that is true"

    def close(self) -> None:
        self._inner.close()


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return _Lies(path, str(settings.get("precision", "")))
