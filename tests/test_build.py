"""From a recipe to files: what lies in an artefact's folder, and what tells two of them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten import model
from hasten.model import TensorSpec
from hasten.samples import load_samples
from hasten.search.build import build
from hasten.search.forms import artefact_bytes
from tests import networks


def built(folder: Path, *, seed: int, engine: str = "onnxruntime") -> dict[str, Any]:
    source = networks.mlp(folder / f"{seed}.onnx", seed=seed)
    store = load_samples({"x": np.zeros((4, 16), np.float32)})
    place = store.spool(folder / f"samples{seed}", (TensorSpec("x", ("N", 16), "float32"),)).directory
    cache, out = folder / f"{seed}.npz", folder / engine / str(seed)
    return build(str(source), str(place), [0], str(cache), [{"name": "clean"}], engine, str(out))


def test_weights_in_a_file_of_their_own_tell_networks_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "EXTERNAL_ABOVE", 0)
    one, two, again = (built(tmp_path, seed=k) for k in (1, 2, 1))
    assert sorted(p.name for p in Path(one["artefact"]).parent.iterdir()) == ["model.data", "model.onnx"]
    assert one["digest"] == again["digest"] != two["digest"]
    assert one["bytes"] == sum(p.stat().st_size for p in Path(one["artefact"]).parent.iterdir())


def test_only_the_engines_own_format_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(model, "EXTERNAL_ABOVE", 0)
    made = built(tmp_path, seed=1, engine="openvino")
    folder = Path(made["artefact"]).parent
    assert sorted(p.name for p in folder.iterdir()) == ["model.bin", "model.xml"]
    assert made["bytes"] == artefact_bytes(folder / "model.xml") == sum(p.stat().st_size for p in folder.iterdir())
