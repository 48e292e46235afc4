"""A few conditions of ``benchmarks.hardship`` that take seconds; all of them are run by that command."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks.hardship import CONDITIONS, NotHere

from hasten import machine


@pytest.mark.parametrize("name", ["file size limit", "newlines"])
def test_small_hardships_hold(tmp_path: Path, name: str) -> None:
    with ExitStack() as stack:
        try:
            run, wanted = CONDITIONS[name](tmp_path, stack)
        except NotHere as reason:
            pytest.skip(str(reason))
        found = run(wanted)
    assert not found["wrong"], found


@pytest.mark.parametrize(
    ("line", "limit", "use"),
    [
        ("0::/inner", "memory.max", "memory.current"),
        ("9:memory:/inner", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_the_limit_of_a_container_counts_and_its_file_cache_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, limit: str, use: str
) -> None:
    group = tmp_path / "inner"
    group.mkdir()
    (group / limit).write_text(str(1 << 30))
    (group / use).write_text(str(900 << 20))
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {700 << 20}\n")
    (tmp_path / "cgroup").write_text(f"4:cpu:/x\n{line}\n")
    real = Path

    def place(*parts: str) -> Path:
        text = str(real(*parts))
        if text == "/proc/self/cgroup":
            return tmp_path / "cgroup"
        return tmp_path if text.startswith("/sys/fs/cgroup") else real(*parts)

    monkeypatch.setattr(machine, "Path", place)
    total, free = machine.memory_bytes()
    assert total == 1 << 30
    assert 0 < free <= (1 << 30) - (200 << 20)
