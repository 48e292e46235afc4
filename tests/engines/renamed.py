"""``quick``, whose setting that narrows the arithmetic is called ``fast_math`` in place of ``precision``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hasten.protocols import Runner
from hasten.trial import Scalar
from tests.engines import quick
from tests.engines.quick import export as export
from tests.engines.quick import missing as missing
from tests.engines.quick import scheme as scheme
from tests.engines.quick import settings as settings
from tests.engines.quick import version as version

name = "tests.engines.renamed"
spins = False


def formats() -> frozenset[str]:
    return quick.formats() | {"int8"}


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{"fast_math": True}]


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return quick.load(path, {"precision": "good"} if settings.get("fast_math") else {})
