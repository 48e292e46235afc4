"""A real network: basic-pitch, audio to notes, in LiteRT as its authors ship it, as our graph, and written back."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hasten.export import tflite as export
from hasten.frontends import tflite as door
from hasten.graph import evaluate
from tests.flat import litert

PACKAGE, MEMBER = "basic-pitch==0.4.0", "icassp_2022/nmp.tflite"


@pytest.fixture(scope="module")
def pitch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pitch")
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", PACKAGE]
    subprocess.run([*line, "--dest", str(folder)], check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [member] = [n for n in archive.namelist() if n.endswith(MEMBER)]
        (folder / "nmp.tflite").write_bytes(archive.read(member))
    return folder / "nmp.tflite"


@pytest.mark.network
def test_basic_pitch_agrees_with_its_own_runtime(pitch: Path, tmp_path: Path) -> None:
    model = door.load(pitch)
    assert [str(s) for s in model.inputs] == ["input_2[batch,43844,1] float32"]
    assert [s.name for s in model.outputs] == ["onset", "note", "contour"]
    assert Counter(n.op_type for n in model.graph.graph)["Transpose"] <= 2  # the file holds 44
    export.write(model.graph, tmp_path / "back.tflite")
    for batch in (1, 2):
        x = (0.3 * np.random.default_rng(batch).standard_normal((batch, 43844, 1))).astype(np.float32)
        wanted = litert(pitch, [x])
        [got] = evaluate.run(model.graph, [{"input_2": x}])
        for want, ours, back in zip(wanted, got.values(), litert(tmp_path / "back.tflite", [x]), strict=True):
            np.testing.assert_allclose(ours, want, rtol=0, atol=1e-4)
            np.testing.assert_allclose(back, want, rtol=0, atol=1e-6)
