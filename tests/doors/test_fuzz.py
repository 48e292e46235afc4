"""A few of the damaged files of ``benchmarks.mutations``: refused with a sentence or read, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.mutations.__main__ import one_kind

from tests.doors.extras import needs

pytestmark = needs("torch", "onnxscript", "keras", "h5py")


@pytest.mark.parametrize("kind", ["pt2", "keras"])
def test_damaged_files_are_refused_or_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    monkeypatch.chdir(Path(__file__).parents[2])
    row = one_kind(kind, 24, tmp_path, 0)
    assert not row.findings
    assert row.files == 24
    assert row.fates["refused"] > 4
