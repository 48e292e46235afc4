"""Keras networks go through the whole of ``optimize`` in an environment that has no TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.doors import kerases
from tests.doors.extras import needs

pytestmark = [*needs("keras", "torch", "h5py", "onnxscript"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("tensorflow", "tf2onnx")
SEARCH = """
import importlib.util, json, sys
import numpy as np
import hasten

assert importlib.util.find_spec("tensorflow") is None
path, feeds, out = sys.argv[1:]
rng = np.random.default_rng(0)
with np.load(feeds) as made:
    like = {name: made[name] for name in made.files if not name.startswith("wanted")}
data = {
    name: rng.integers(1, 40, (240, *a.shape[1:])).astype(a.dtype) if a.dtype.kind == "i"
    else rng.standard_normal((240, *a.shape[1:])).astype(a.dtype)
    for name, a in like.items()
}
found = hasten.optimize(path, data, max_drop="agree:90%", engines=["onnxruntime"], seconds=8, out=out)
print(json.dumps({
    "verdict": found.verdict, "baseline": found.as_given.executed, "engine": found.as_given.candidate.engine,
    "speedup": found.speedup, "loaded": [m for m in sys.modules if m in ("torch", "keras")],
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with all that is installed here, but for TensorFlow."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    here = {"base": str(folder), "platbase": str(folder)}
    target = Path(sysconfig.get_path("purelib", "venv", here))
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if not installed.name.startswith(LEFT_OUT):
            (target / installed.name).symlink_to(installed)
    return folder / "bin" / "python"


@pytest.mark.parametrize("body", ["cnn", "gelu", "bilstm"])
def test_keras_is_optimised_without_tensorflow(python: Path, tmp_path: Path, body: str) -> None:
    path, out = kerases.make(tmp_path, body), tmp_path / "out"
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", SEARCH, str(path), str(tmp_path / f"{body}.npz"), str(out)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["engine"], found["baseline"]) == ("keras", "f32 (keras on torch)")
    assert found["verdict"] == "met"
    assert found["speedup"] > 1
    assert found["loaded"] == []  # frameworks are for the workers
    ran = subprocess.run([sys.executable, "example.py"], cwd=out, capture_output=True, text=True, timeout=120)
    assert "median latency" in ran.stdout, ran.stderr[-2000:]
