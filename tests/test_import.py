"""``import hasten`` is light: it loads no runtime and no framework, and nor does the command's help."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("onnxruntime", "openvino", "onnx", "onnx_ir", "scipy", "torch", "tensorflow", "pandas", "PIL")


def loaded(statement: str) -> set[str]:
    """Top-level modules after ``statement`` in a fresh interpreter."""
    names = "sorted({m.split('.')[0] for m in sys.modules})"
    code = f"{statement}\nimport sys, json\nprint(json.dumps({names}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    ["import hasten", "import hasten.trial, hasten.protocols", "import hasten.report.build, hasten.artefacts",
     "from hasten import cli; assert cli.main(['optimize', '--help']) == 0"],
)  # fmt: skip
def test_no_runtime_is_loaded(statement: str) -> None:
    assert not loaded(statement) & set(HEAVY)


def _seconds(code: str) -> float:
    """The best of three, so that other load on the machine does not count."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        best = min(best, time.perf_counter() - start)
    return best


def test_the_import_takes_under_half_a_second_more_than_python_itself() -> None:
    assert _seconds("import hasten") - _seconds("pass") < 0.5
