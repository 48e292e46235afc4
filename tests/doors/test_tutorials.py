"""The tutorials, run as they stand in the documentation, with the files that they speak of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doors.extras import needs

ROOT = Path(__file__).parents[2]
PACKAGES = Path(os.environ.get("HASTEN_PACKAGES", ROOT / ".bench" / "packages"))
NEEDS = {
    "pytorch": (("torch", "onnxscript"), "data_mnist5k/mnist_5k.csv.gz"),
    "keras": (("keras", "torch", "h5py"), "data_tabular/UCI_Credit_Card.csv"),
    "onnx": ((), "ppocr_v4/ch_PP-OCRv4_rec_infer.onnx"),
}
CASES = [pytest.param(name, marks=[*needs(*packages), pytest.mark.slow]) for name, (packages, _) in NEEDS.items()]


@pytest.mark.parametrize("name", CASES)
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    source = PACKAGES / NEEDS[name][1]
    if not source.exists():
        pytest.skip(f"no {source}; make bench fetches it")
    (tmp_path / source.name).symlink_to(source)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/tutorials/{name}.md").read_text(), re.S)
    assert len(blocks) == 2
    (tmp_path / "tutorial.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tutorial.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "faster" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()
