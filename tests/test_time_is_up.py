"""A search whose time is up before narrow arithmetic was tried does not pass for one that found nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import hasten
from hasten.search.answer import TOO_SHORT
from tests import networks


def test_a_search_without_time_warns_that_more_may_be_found(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    data = {"x": x, "labels": networks.answers(path, x).argmax(1)}
    quick = "tests.engines.quick"
    result = hasten.optimize(path, data, max_drop="5%", engines=[quick], served_by=quick, seconds=0.01)
    assert result.verdict == "nothing_faster"
    assert TOO_SHORT in result.warnings
