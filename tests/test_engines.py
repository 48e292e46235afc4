"""Every engine keeps its promises on the same small networks, and says truthfully what it ran."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hasten import registry
from hasten.engines.executed import describe
from hasten.errors import UsageError
from hasten.testing import check_engine
from tests import networks

ENGINES = ("onnxruntime", "openvino")


@pytest.mark.parametrize("name", ENGINES)
def test_engines_keep_their_promises(name: str, tmp_path: Path) -> None:
    engine = registry.find("engines", name)
    path = networks.cnn(tmp_path / "cnn.onnx", size=16, depth=2)
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    (tmp_path / "own").mkdir()
    check_engine(engine, path, {"x": x}, [networks.answers(path, x)], tmp_path / "own")


def test_bf16_is_what_ran_when_it_is_native(tmp_path: Path) -> None:
    engine = registry.find("engines", "openvino")
    if "bf16" not in engine.formats():
        pytest.skip("this machine has no bf16 arithmetic")
    path = networks.cnn(tmp_path / "cnn.onnx")
    runner = engine.load(path, {"precision": "bf16"})
    assert runner.executed().startswith("bf16: 4 of 4 convolutions")


def test_float32_is_asked_for_by_name(tmp_path: Path) -> None:
    engine = registry.find("engines", "openvino")
    assert engine.load(networks.cnn(tmp_path / "cnn.onnx"), {}).executed() == "f32"
    assert all(s["precision"] == "f32" for s in engine.settings(8))


def test_executed_counts_shares_and_ignores_the_rest() -> None:
    counts = Counter({("convolutions", "int8"): 1, ("matrix products", "f32"): 2, ("", "int8"): 9})
    assert describe(counts) == "int8: 1 of 1 convolution"
    assert describe(Counter()) == "f32"


def test_an_unknown_engine_is_suggested() -> None:
    with pytest.raises(UsageError, match="no engine is called 'openvimo'") as told:
        registry.find("engines", "openvimo")
    assert "openvino" in told.value.help


def test_an_engine_by_its_module_path() -> None:
    assert registry.find("engines", "tests.engines.quick").name == "tests.engines.quick"
    with pytest.raises(UsageError, match="cannot be imported"):
        registry.find("engines", "tests.engines.nowhere")
