"""A few of the damaged files of ``benchmarks/fuzz_doors.py``: refused with a sentence or converted, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import fuzz_doors

from tests.doors import kerases, programs
from tests.doors.extras import needs

pytestmark = needs("torch", "onnxscript", "keras", "h5py")


@pytest.mark.parametrize("door", ["torch", "keras"])
def test_damaged_files_are_refused_or_read(door: str, tmp_path: Path) -> None:
    seed = programs.save(tmp_path / "seed.pt2") if door == "torch" else kerases.make(tmp_path, "mlp")
    half = fuzz_doors.run(fuzz_doors.Told(door), seed, 12).plain()
    found = fuzz_doors.run(fuzz_doors.Told.read(half), seed, 24)
    assert found.fates["unclear"] == 0, found.examples
    assert found.files == sum(found.fates.values()) == 24
    assert found.fates["refused"] > 4
