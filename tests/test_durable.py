"""Writing under faults: the old or the new, never a mixture."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hasten import durable
from hasten.errors import EnvironmentFault
from tests.faults import disk


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    durable.replace(path, b"old")
    with disk() as counted:
        durable.replace(path, b"a newer content")
    assert tree(tmp_path) == {"file": b"a newer content"}
    for k in range(1, counted.done + 1):
        durable.replace(path, b"old")
        with disk(k, number), pytest.raises(OSError, match=os.strerror(number)):
            durable.replace(path, b"a newer content")
        assert tree(tmp_path) == {"file": b"old"}, "nothing else is left behind"


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    if not exchanges:
        monkeypatch.setattr(durable, "_exchange", lambda first, second: False)
    old, new = tmp_path / "place", tmp_path / "building"
    for folder in (old, new):
        folder.mkdir()
        (folder / "name").write_bytes(folder.name.encode())
    left = durable.swap(new, old)
    assert left == (new if exchanges else tmp_path / "building.old")
    assert tree(tmp_path) == {"place/name": b"building", f"{left.name}/name": b"place"}


def test_a_crash_between_the_two_names_of_a_swap_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_exchange", lambda first, second: False)
    old, new = tmp_path / "place", tmp_path / "building"
    for folder in (old, new):
        folder.mkdir()
        (folder / "name").write_bytes(folder.name.encode())
    old.rename(tmp_path / "building.old")  # killed here
    durable.restore(new, old)
    assert tree(tmp_path) == {"place/name": b"place", "building/name": b"building"}
    durable.restore(new, old)
    with disk(2), pytest.raises(OSError, match="No space"):  # the second rename fails: the old one comes back
        durable.swap(new, old)
    assert tree(tmp_path) == {"place/name": b"place", "building/name": b"building"}


@pytest.mark.parametrize("write", [durable.put, durable.append, lambda p, d: durable.cut(p, 1)])
@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_nothing_is_written_through_links_or_into_devices(
    tmp_path: Path, write: Callable[[Path, bytes], None], kind: str
) -> None:
    (tmp_path / "precious").write_bytes(b"years")
    path = tmp_path / "file"
    if kind == "link":
        path.symlink_to("precious")
    elif kind == "second name":
        path.hardlink_to(tmp_path / "precious")
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"symbolic links|not a plain file|No such device"):
        write(path, b"new")
    assert (tmp_path / "precious").read_bytes() == b"years"


def test_linux_exchanges_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert durable._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_text() == "b"
    assert not durable._exchange(tmp_path / "a", tmp_path / "nowhere")


def test_a_full_disk_is_told_in_words_and_other_faults_are_not_hidden() -> None:
    with pytest.raises(EnvironmentFault, match="cannot write the report") as told, durable.disk("the report"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told.value.cause == "No space left on device"
    assert "run the same command again" in told.value.help
    with pytest.raises(OSError, match="odd"), durable.disk("the report"):
        raise OSError(errno.ENXIO, "odd")


def test_a_large_file_is_copied_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "PIECE", 1000)
    content = os.urandom(4321)
    (tmp_path / "from").write_bytes(content)
    durable.copy(tmp_path / "from", tmp_path / "below" / "to")
    assert (tmp_path / "below" / "to").read_bytes() == content
