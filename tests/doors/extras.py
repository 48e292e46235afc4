"""Marks for tests that need a framework: skipped where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from hasten.api import inspect
from hasten.errors import InputError
from tests.reject import rejected


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
