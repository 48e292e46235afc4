"""An engine that kills the search itself when it runs a network: what a machine that freezes looks like afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar
from tests.engines.quick import export as export
from tests.engines.quick import formats as formats
from tests.engines.quick import missing as missing
from tests.engines.quick import settings as settings
from tests.engines.quick import version as version

name = "tests.engines.deadly"
spins = False


def lossy_settings(cores: int) -> list[dict[str, Scalar]]:
    return []


class _Kills:
    def run(self, feeds: Feeds) -> list[Array]:
        os.kill(os.getppid(), signal.SIGKILL)
        return []

    def executed(self) -> str:
        return "nothing"

    def close(self) -> None:
        """Nothing is held."""


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """Loading succeeds; the first inference ends everything."""
    return _Kills()
