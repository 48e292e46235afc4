"""``quick`` with a setting that changes no arithmetic and takes half the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hasten.protocols import Runner
from hasten.trial import Scalar
from tests.engines import quick
from tests.engines.quick import export as export
from tests.engines.quick import formats as formats
from tests.engines.quick import lossy_settings as lossy_settings
from tests.engines.quick import missing as missing
from tests.engines.quick import version as version

name = "tests.engines.tuned"
spins = False


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    return [{}, {"threads": 1}]


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    precision = {k: v for k, v in settings.items() if k == "precision"}
    return quick._Timed(path, precision, 0.5 if "threads" in settings else 1.0)
