"""Run folders of strangers: whatever lies beside ``--out`` under a name of ours, nothing of others is changed by it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import hasten
from hasten import artefacts, durable, owned
from hasten.errors import EnvironmentFault, InputError, Stopped, UsageError
from hasten.journal import Journal
from hasten.search import shelf
from hasten.search.folder import KIND, beside, run_folder
from tests import networks

SAME, OTHER = {"network": "a", "data": "b"}, {"network": "a", "data": "c"}


class Killed(BaseException):
    """What a test raises in the place of a fault of ours."""


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every name below a folder, with what it holds; no link is followed."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        kind = path.read_bytes() if stat.S_ISREG(mode) else str(stat.S_IFMT(mode))
        found[path.relative_to(folder).as_posix()] = str(path.readlink()) if path.is_symlink() else kind
    return found


def precious(folder: Path) -> Path:
    """A folder of the user's."""
    (folder / "precious" / "deep").mkdir(parents=True)
    (folder / "precious" / "thesis.tex").write_text("years")
    (folder / "precious" / "deep" / "photo").write_text("more years")
    return folder / "precious"


def linked(place: Path, own: Path) -> None:
    place.symlink_to(own)


def dangling(place: Path, own: Path) -> None:
    place.symlink_to(own / "nowhere")


def a_file(place: Path, own: Path) -> None:
    place.write_text("mine")


def a_pipe(place: Path, own: Path) -> None:
    os.mkfifo(place)


def of_the_user(place: Path, own: Path) -> None:
    shutil.copytree(own, place)


def with_a_lock_of_theirs(place: Path, own: Path) -> None:
    place.mkdir()
    (place / "lock").write_text("1234")


def as_an_older_hasten_left_it(place: Path, own: Path) -> None:
    place.mkdir()
    (place / "lock").touch()
    (place / "journal.jsonl").write_text("{}")


def with_a_marker_from_elsewhere(place: Path, own: Path) -> None:
    """As an archive or a checkout brings it: all is right but the moment at which it was made, and no signature."""
    place.mkdir()
    (place / "lock").touch()
    (place / owned.MARKER).write_bytes(owned._text(KIND, "1700000000000000000", "0" * 32, "0" * 64))
    (place / "samples").symlink_to(own)


def with_a_marker_of_another_kind(place: Path, own: Path) -> None:
    owned.take(place, "temporary folder").close()


STRANGE: tuple[Callable[[Path, Path], None], ...] = (
    linked, dangling, a_file, a_pipe, of_the_user, with_a_lock_of_theirs, as_an_older_hasten_left_it,
    with_a_marker_from_elsewhere, with_a_marker_of_another_kind,
)  # fmt: skip


@pytest.mark.parametrize("strange", STRANGE, ids=lambda f: f.__name__)
def test_what_is_not_provably_ours_is_refused_by_name_and_stays(
    tmp_path: Path, strange: Callable[[Path, Path], None]
) -> None:
    place = tmp_path / ".hasten-run-out"
    strange(place, precious(tmp_path))
    before = tree(tmp_path)
    for _ in range(2):
        with (
            pytest.raises(UsageError, match=r"cannot work in .*\.hasten-run-out'") as told,
            run_folder(tmp_path / "out"),
        ):
            pytest.fail("it was entered")
        assert told.value.cause
        assert "--out" in told.value.help
    assert tree(tmp_path) == before


@pytest.mark.parametrize("verb", ["optimize", "apply"])
def test_no_command_touches_what_a_link_leads_to(tmp_path: Path, verb: str) -> None:
    own = precious(tmp_path)
    (tmp_path / ".hasten-run-out").symlink_to(own)
    before = tree(tmp_path)
    given = [tmp_path / "no.onnx"] if verb == "optimize" else [tmp_path / n for n in ("no.json", "no.onnx", "no.npz")]
    with pytest.raises(UsageError, match="cannot work in"):
        getattr(hasten, verb)(*given, out=tmp_path / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "name", [owned.MARKER, owned.LOCK, "pid", "README.txt", "journal.jsonl", "journal.jsonl.corrupt", "artefacts"]
)
@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_what_is_no_plain_file_in_a_folder_of_ours_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    own = precious(tmp_path)
    kept(tmp_path / "out", SAME)
    place = tmp_path / ".hasten-run-out" / name
    owned.remove(place)
    if kind == "link":
        place.symlink_to(own if name == "artefacts" else own / "thesis.tex")
    elif kind == "second name":
        place.hardlink_to(own / "thesis.tex")
    else:
        os.mkfifo(place)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="cannot work in") as told, run_folder(tmp_path / "out"):
        pytest.fail("it was entered")
    assert name in told.value.cause
    assert tree(tmp_path) == before


def test_links_below_are_removed_and_never_followed(tmp_path: Path) -> None:
    own = precious(tmp_path)
    before = tree(own)
    kept(tmp_path / "out", SAME)
    place = tmp_path / ".hasten-run-out"
    (place / "artefacts" / "k1").mkdir()
    (place / "artefacts" / "k1" / "model.onnx").symlink_to(own / "thesis.tex")
    (place / "artefacts" / "k2").symlink_to(own)
    (place / "artefacts" / "stats.npz").hardlink_to(own / "thesis.tex")
    (place / "samples").symlink_to(own)
    (place / "stage").mkdir()
    (place / "stage" / "deep").symlink_to(own)
    with run_folder(tmp_path / "out") as folder:
        assert sorted(p.name for p in folder.path.rglob("*") if not p.is_dir()) == [
            "README.txt", owned.MARKER, "journal.jsonl", owned.LOCK, "model", "pid",
        ]  # fmt: skip
    assert tree(own) == before


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path / "out", SAME)
    before = tree(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UsageError, match="cannot work in") as told, run_folder(tmp_path / "out"):
        pytest.fail("it was entered")
    assert "belongs to user" in told.value.cause
    assert tree(tmp_path) == before


def test_a_copy_is_ours_by_the_users_key_and_a_strangers_copy_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    kept(tmp_path / "a" / "out", SAME)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert is_kept(tmp_path / "b" / "out", SAME)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    with pytest.raises(UsageError, match="cannot work in") as told, run_folder(tmp_path / "c" / "out"):
        pytest.fail("it was entered")
    assert "it is a copy, or came with files of others" in told.value.cause
    with run(tmp_path / "a" / "out", SAME) as journal:  # made here: believed without any key
        assert len(journal) == 1


def test_without_a_place_for_a_key_a_run_goes_on_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept(tmp_path / "out", SAME)
    with run(tmp_path / "out", SAME) as journal:
        assert len(journal) == 1


@pytest.mark.parametrize("made", [(), ("lock",), ("lock", owned.MARKER)])
def test_a_folder_that_was_killed_while_it_was_made_is_no_obstacle(tmp_path: Path, made: tuple[str, ...]) -> None:
    place = tmp_path / ".hasten-run-out"
    place.mkdir()
    for name in made:
        (place / name).touch()
    with run_folder(tmp_path / "out") as folder:
        assert folder.path == place
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["o" * 250, "å" * 120, "a b\nc", " ", "-rf"])
def test_any_name_of_the_output_has_a_run_folder(tmp_path: Path, name: str) -> None:
    with run_folder(tmp_path / name) as folder:
        assert folder.path.parent == tmp_path
        assert len(os.fsencode(folder.path.name)) < 200
    assert beside(tmp_path / ("o" * 250)) != beside(tmp_path / ("o" * 249))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("leads", ["a folder", "nowhere", "itself"])
def test_an_output_that_is_a_link_is_refused_and_a_link_on_the_way_is_followed(tmp_path: Path, leads: str) -> None:
    own = precious(tmp_path)
    out = tmp_path / "out"
    out.symlink_to({"a folder": own, "nowhere": tmp_path / "nowhere", "itself": out}[leads])
    for force in (True, False):
        with pytest.raises(UsageError, match=r"out' is a link to") as told:
            artefacts.check_out(out, [], force)
        assert "name the folder that it leads to" in told.value.help
    (tmp_path / "way").symlink_to(own)
    artefacts.check_out(tmp_path / "way" / "out", [], force=False)
    with run_folder(tmp_path / "way" / "out") as folder:
        assert folder.path.parent == own


# what is kept


@contextmanager
def run(out: Path, identity: dict[str, str], stop: BaseException | None = None) -> Iterator[Journal]:
    """A run of the question ``identity`` with its journal open, which ends with ``stop``."""
    with suppress(type(stop or Killed())), run_folder(out) as folder:
        yield folder.open_journal(identity)
        if stop:
            raise stop


def kept(out: Path, identity: dict[str, str]) -> None:
    """What a killed run of a question leaves: a finished step and a network that was built."""
    with run(out, identity, Killed()) as journal:
        journal.begin("build", "k")
        journal.note("build", "k", {"made": identity}, at=1.0)
        place = beside(out) / "artefacts" / "k"
        place.mkdir(parents=True)
        (place / "model").write_text(str(identity))


def is_kept(out: Path, identity: dict[str, str]) -> bool:
    """Does the same question find its step and its network? It is killed again."""
    with run(out, identity, Killed()) as journal:
        built = beside(out) / "artefacts" / "k" / "model"
        return len(journal) == 1 and built.is_file() and built.read_text() == str(identity)


ENDS: dict[str, BaseException | None] = {
    "success": None,
    "wrong input": InputError("no such network"),
    "wrong use": UsageError("no such metric"),
    "a fault of ours": Killed(),
    "a signal": KeyboardInterrupt(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_never_came_to_its_question_throws_nothing_away(tmp_path: Path, end: str) -> None:
    """A slip in the network's name, ``apply`` on the same output, a signal after two seconds."""
    kept(tmp_path / "out", SAME)
    stop = ENDS[end]
    told = Stopped if end == "a signal" else type(stop or Killed())
    with suppress(told), run_folder(tmp_path / "out") as folder:
        (folder.path / "samples").mkdir()
        if stop:
            raise stop
    assert not (tmp_path / ".hasten-run-out" / "samples").exists()
    assert is_kept(tmp_path / "out", SAME)


@pytest.mark.parametrize("end", ENDS)
def test_another_question_sets_a_kept_run_aside_and_only_its_own_success_removes_it(tmp_path: Path, end: str) -> None:
    out = tmp_path / "out"
    kept(out, SAME)
    with suppress(Stopped), run(out, OTHER, ENDS[end]) as journal:
        assert "the unfinished run had another data; starting afresh" in journal.warnings
        assert "its own command continues it" in journal.warnings[1]
        assert len(journal) == 0
        journal.note("build", "k", {"other": 1}, at=0.5)
    assert is_kept(out, SAME), "whatever came of the other question"
    with run(out, OTHER) as journal:
        assert len(journal) == (end in ("a fault of ours", "a signal")), "it went on, or began anew"
    assert is_kept(out, SAME)
    with run(out, SAME):
        pass
    assert not list(tmp_path.iterdir())


def test_a_crash_while_a_run_is_set_aside_costs_builds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    kept(out, SAME)
    renamed = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if path.name == shelf.JOURNAL:
            raise Killed
        return renamed(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with pytest.raises(Killed), run_folder(out) as folder:
            folder.open_journal(OTHER)
    for _ in range(2):
        with run(out, SAME, Killed()) as journal:
            assert len(journal) == 1


def test_nothing_kept_and_nothing_promised(tmp_path: Path) -> None:
    with run(tmp_path / "out", SAME, KeyboardInterrupt()) as journal:  # it would be Stopped
        journal.begin("build", "k")
        journal.note("build", "k", None, at=0.0)  # it was cut short
    assert not list(tmp_path.iterdir())


def test_two_full_disks_blame_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = durable._write

    def half(file: int, data: bytes) -> None:
        write(file, data[: len(data) // 2])
        full_disk()

    for number in range(2):
        with run(tmp_path / "out", SAME, EnvironmentFault("no room")) as journal:
            journal.note("screen", f"{number}", 1, at=0.0)
            journal.begin("screen", "innocent")
            with monkeypatch.context() as patch:
                patch.setattr(durable, "_write", half)
                with pytest.raises(EnvironmentFault):
                    journal.note("screen", "innocent", 1, at=0.0)
    with run(tmp_path / "out", SAME) as journal:
        assert len(journal) == 2
        assert not journal.suspect("innocent")


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_stays_full_blames_nobody_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    for number in range(2):
        journal = Journal(path, SAME)
        journal.note("screen", f"{number}", 1, at=0.0)
        journal.begin("screen", "innocent")
        with monkeypatch.context() as patch:
            patch.setattr("hasten.durable._write", lambda file, data: full_disk())
            with pytest.raises(EnvironmentFault):
                journal.note("screen", "innocent", 1, at=0.0)
            journal.stopped()
    journal = Journal(path, SAME)
    assert len(journal) == 2
    assert not journal.suspect("innocent")


def test_apply_replaces_its_own_folder_and_nobody_elses(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"steps": [], "engine": "onnxruntime", "settings": {}}')
    np.savez(tmp_path / "data.npz", x=np.ones((40, 16), np.float32))
    for _ in range(2):
        hasten.apply(recipe, path, tmp_path / "data.npz", out=tmp_path / "applied")
    assert (tmp_path / "applied" / "model.onnx").is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "recipe.json", "data.npz", "applied"}
    (tmp_path / "applied" / "notes").write_text("mine")
    hasten.apply(recipe, path, tmp_path / "data.npz", out=tmp_path / "applied")
    assert (tmp_path / "applied" / "notes").read_text() == "mine"
