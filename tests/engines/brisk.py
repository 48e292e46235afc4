"""``quick`` at a quarter of its times, for tests that search again and again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hasten.protocols import Runner
from hasten.trial import Scalar
from tests.engines import quick
from tests.engines.quick import export as export
from tests.engines.quick import formats as formats
from tests.engines.quick import lossy_settings as lossy_settings
from tests.engines.quick import missing as missing
from tests.engines.quick import settings as settings
from tests.engines.quick import version as version

name = "tests.engines.brisk"
spins = False


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    return quick._Timed(path, settings, 0.25)
