"""For tests of extensions: functions that misbehave inside a worker, and a check that an engine keeps its promises."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hasten.protocols import Array, Engine
from hasten.trial import Scalar


def crash(signal_name: str) -> dict[str, Any]:
    """Die by a signal, as a runtime with a bug does."""
    os.kill(os.getpid(), getattr(signal, signal_name))
    time.sleep(5)
    return {}


def leave(code: int) -> dict[str, Any]:
    """Exit without an answer."""
    sys.stdout.flush()
    os._exit(code)


def hang(seconds: float) -> dict[str, Any]:
    """Never answer in time, and ignore polite requests to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)
    return {}


def eat(mebibytes: int) -> dict[str, Any]:
    """Take memory and touch it."""
    held = [np.ones(1 << 20, np.uint8) for _ in range(mebibytes)]
    time.sleep(1)
    return {"held": len(held)}


def chatter(mebibytes: int) -> dict[str, Any]:
    """Print far too much."""
    for _ in range(mebibytes):
        sys.stdout.write("x" * (1 << 20))
        sys.stdout.flush()
    time.sleep(1)
    return {}


def check_engine(engine: Engine, onnx: Path, feeds: Mapping[str, Array], wanted: list[Array], folder: Path) -> None:
    """Assert what every engine promises: names, native formats, an export that loads, answers that agree.

    ``wanted`` are the float32 outputs of ``onnx`` on ``feeds`` in graph order; they are met within 1e-3 of their scale.
    """
    assert engine.missing() is None
    assert engine.version()
    assert "f32" in engine.formats()
    choices = engine.settings(2)
    assert choices, "the stock default comes first"
    artefact = engine.export(onnx, folder)
    for chosen in choices:
        _check_answers(engine, artefact, chosen, feeds, wanted)


def _check_answers(
    engine: Engine, artefact: Path, chosen: Mapping[str, Scalar], feeds: Mapping[str, Array], wanted: list[Array]
) -> None:
    runner = engine.load(artefact, chosen)
    for _ in range(2):
        for got, want in zip(runner.run(feeds), wanted, strict=True):
            scale = max(float(np.abs(want).max()), 1e-6)
            assert got.shape == want.shape
            assert float(np.abs(got - want).max()) <= 1e-3 * scale, chosen
    assert runner.executed()
    runner.close()
