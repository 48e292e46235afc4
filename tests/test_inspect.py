"""Inspecting a network with data: labels count, nobody is told of a budget, and times may be borrowed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import hasten
from tests import networks


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_labels_are_scored_and_no_budget_is_spoken_of(tmp_path: Path, engine: str) -> None:
    if engine == "litert" and find_spec("ai_edge_litert") is None:
        pytest.skip("no LiteRT here")
    path = networks.mlp(tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((100, 16)).astype(np.float32)
    data, told = {"x": x, "labels": networks.answers(path, x).argmax(1)}, list[str]()
    facts = hasten.inspect(path, data, engines=[engine], listen=lambda event: told.append(event.text))
    assert facts["score"].startswith("top1 100.00 %")
    assert not [text for text in told if "confirm" in text or "certif" in text or "budget" in text]
    assert facts["regions"].teller == ("" if engine == "onnxruntime" else "onnxruntime")


def test_labels_that_contradict_the_network_are_a_warning_where_nothing_is_judged(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((100, 16)).astype(np.float32)
    data, told = {"x": x, "labels": (networks.answers(path, x).argmax(1) + 1) % 10}, list[str]()
    facts = hasten.inspect(path, data, engines=["onnxruntime"], listen=lambda event: told.append(event.text))
    assert facts["score"].startswith("top1 0.00 %")
    assert [text for text in told if "worse than a constant answer" in text]
