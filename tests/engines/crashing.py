"""An engine with a bug: it kills its process when it runs a network. Used to show that a search survives it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar
from tests.engines.quick import export as export
from tests.engines.quick import formats as formats
from tests.engines.quick import lossy_settings as lossy_settings
from tests.engines.quick import missing as missing
from tests.engines.quick import profile as profile
from tests.engines.quick import settings as settings
from tests.engines.quick import version as version

name = "tests.engines.crashing"
scheme = "onnxruntime"
spins = False


class _Dies:
    def run(self, feeds: Feeds) -> list[Array]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return []

    def executed(self) -> str:
        return "nothing"

    def close(self) -> None:
        """Nothing is held."""


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """Loading succeeds; the first inference does not."""
    return _Dies()
