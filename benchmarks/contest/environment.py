"""The peers' own Python environment, made once, and what a process in it sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINNED = (
    "onnxruntime==1.32.0",
    "openvino==2026.4.1",
    "nncf==3.4.0",
    "onnx==1.23.2",
    # what the metrics need, so that accuracy control validates with the very metric that judges
    "scipy>=1.14",
    "msgspec>=0.20",
)


def python(envs: Path) -> str:
    """The interpreter of the peers' environment below ``envs``, which is made when it is not there."""
    folder = envs.resolve() / "peers"
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(PINNED):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin/pip"), "install", "--quiet", *PINNED], check=True)
        done.write_text("\n".join(PINNED))
    return str(folder / "bin/python")


def variables() -> dict[str, str]:
    """The environment of every process here: this checkout first, nothing else changed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
