"""How many search samples a candidate is looked at on: the faster the network, the more; and none twice for nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hasten.search import screening
from hasten.search.field import Run
from hasten.trial import Candidate, Status
from tests.test_confirm import a_run, quality, trial


def on(tmp_path: Path, samples: int, usual_ms: float, status: Status = "ok") -> tuple[Run, Candidate]:
    """A run with so many search samples, and a candidate that was looked at once."""
    seen = trial("int8", 2.0, quality(0.0, 0.01), status=status)
    run = a_run(tmp_path, seen)
    run.splits, run.usual_ms = replace(run.splits, search=np.arange(samples)), usual_ms
    return run, seen.candidate


@pytest.mark.parametrize(
    ("samples", "usual_ms", "least", "most"),
    [
        (2000, 8.0, 256, 256),
        (2000, 4.0, 512, 512),
        (2000, 1.0, 256, 1024),
        (2000, 0.1, 256, 2000),
        (100, 8.0, 256, 100),
        (2000, 0.0, 512, 512),  # not yet timed
    ],
)
def test_a_faster_network_is_looked_at_on_more_samples(
    samples: int, usual_ms: float, least: int, most: int, tmp_path: Path
) -> None:
    run, _ = on(tmp_path, samples, usual_ms)
    assert screening.affordable(run, least) == most


@pytest.mark.parametrize(
    ("samples", "usual_ms", "looks"),
    [(2000, 8.0, ["deep screen"]), (2000, 0.1, []), (200, 8.0, [])],
)
def test_a_deep_look_is_left_out_where_the_first_was_as_deep(
    samples: int, usual_ms: float, looks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, candidate = on(tmp_path, samples, usual_ms)
    taken: list[str] = []

    def step(self: Run, name: str, candidate: Candidate, work: Callable[[], object]) -> bool:
        taken.append(name)
        return True

    monkeypatch.setattr(Run, "step", step)
    assert screening.screen(run, candidate, 512) == quality(0.0, 0.01)
    assert taken == looks


def test_what_is_out_stays_out(tmp_path: Path) -> None:
    run, candidate = on(tmp_path, 200, 8.0, status="rejected")
    assert screening.screen(run, candidate, 512) is None
