"""Marks for tests that need a framework: skipped where it is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hasten.api import inspect
from hasten.errors import InputError
from hasten.example import example
from hasten.model_files import copy_model
from hasten.search.enter import Entered
from tests.reject import rejected
from tests.test_artefacts import chosen


def needs(*packages: str) -> list[pytest.MarkDecorator]:
    """The marks of a test that imports ``packages``; frameworks warn about themselves, which is not our fault."""
    missing = [p for p in packages if find_spec(p) is None]
    reason = f"needs {', '.join(packages)}"
    return [
        pytest.mark.extra,
        pytest.mark.skipif(bool(missing), reason=reason),
        pytest.mark.filterwarnings("ignore"),
    ]


def refused(path: Path, *parts: str, canary: Path | None = None, **options: str | bool) -> None:
    """The file is refused as it comes through its front door, with ``parts`` in the message, and nothing has run."""
    beside = {p.name for p in path.parent.iterdir()}
    with rejected(*parts, kind=InputError):
        inspect(path, **options)  # type: ignore[arg-type]
    assert canary is None or not canary.exists(), "code in the file has run"
    assert {p.name for p in path.parent.iterdir()} == beside, "something was left behind"


def run_example(entered: Entered, folder: Path) -> str:
    """What ``example.py`` of the owner's file in its own framework prints, where hasten cannot be imported."""
    folder.mkdir()
    origin = entered.origin
    file = copy_model(Path(origin.path), folder)
    result, outputs = chosen(origin.engine, dict(origin.settings)), [o.name for o in entered.outputs]
    (folder / "example.py").write_text(example(result, file, entered.inputs, {"batch": 2, "outputs": outputs}))
    hide = "import sys, runpy; sys.modules['hasten'] = None; del sys.argv[0]; "
    hide += "runpy.run_path(sys.argv[0], None, '__main__')"
    command = [sys.executable, "-W", "ignore", "-c", hide, str(folder / "example.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "median latency" in done.stdout
    return done.stdout
