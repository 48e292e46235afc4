"""The programs of docs/serving.md run against a module that was handed over."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten.model import TensorSpec
from tests.test_artefacts import X, network, write

PAGE = (Path(__file__).parent.parent / "docs" / "serving.md").read_text("utf-8")
PLAIN, STREAM, FASTAPI, BATCH = (
    compile(text, "serving.md", "exec") for text in re.findall(r"```python\n(.*?)```", PAGE, re.S)
)
ONES = np.ones((1, 3), np.float32)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the module will be, and is looked for."""
    (tmp_path / "out").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "out"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path / "out"
    sys.modules.pop("example", None)


def test_a_program_imports_the_module(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(out, network(out.parent / "m.onnx"), outputs=["y"])
    invalidate_caches()
    exec(PLAIN, {})
    assert capsys.readouterr().out == "(1, 2)\n"


def test_a_stream_keeps_its_state(out: Path) -> None:
    specs = (X, TensorSpec("h", ("N", 2), "float32"))
    made = network(out.parent / "m.onnx", state=True)
    write(out, made, inputs=specs, outputs=["y", "h_out"], state={"h": "h_out"})
    invalidate_caches()
    space: dict[str, Any] = {"stream": [{"x": ONES}] * 5}
    exec(STREAM, space)
    assert space["outputs"]["h_out"].tolist() == [[5.0, 5.0]]


def test_requests_share_a_call(out: Path) -> None:
    write(out, network(out.parent / "m.onnx"), outputs=["y"])
    invalidate_caches()
    space: dict[str, Any] = {}
    exec(BATCH, space)
    answers = space["run_together"]([{"x": k * ONES} for k in range(4)])
    assert [a["y"].tolist() for a in answers] == [[[3.0 * k, 3.0 * k]] for k in range(4)]


@pytest.mark.skipif(find_spec("fastapi") is None or find_spec("httpx") is None, reason="needs fastapi and httpx")
@pytest.mark.filterwarnings("ignore")
def test_the_service_answers_and_refuses(out: Path) -> None:
    from fastapi.testclient import TestClient  # type: ignore[import-not-found,unused-ignore]

    write(out, network(out.parent / "m.onnx"), outputs=["y"])
    invalidate_caches()
    space: dict[str, Any] = {}
    exec(FASTAPI, space)
    with TestClient(space["app"]) as client:
        assert client.post("/run", json={"x": [[0.1, 0.2, 0.7]]}).json()["y"][0] == pytest.approx([1.0, 1.0])
        refused = client.post("/run", json={"z": [[1, 2, 3]]})
        assert refused.status_code == 422
        assert "no input is called 'z'" in refused.text
