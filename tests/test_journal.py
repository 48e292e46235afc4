"""The journal: whatever happens to its file, what is read back was written, and what is lost is said."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import EnvironmentFault
from hasten.journal import Journal, line, parse
from tests.faults import disk

SAME = {"network": "a", "data": "b"}


def written(path: Path) -> list[str]:
    """Three finished steps; returns their keys."""
    book = Journal(path, SAME)
    for k in range(3):
        book.begin("screen", f"k{k}")
        book.note("screen", f"k{k}", {"speed": k + 0.5}, at=float(k))
    return [f"k{k}" for k in range(3)]


def known(path: Path) -> list[str]:
    book = Journal(path, SAME)
    return [k for k in ("k0", "k1", "k2") if book.recall("screen", k, dict[str, float]) is not None]


def test_what_was_noted_is_recalled_with_its_time(tmp_path: Path) -> None:
    written(tmp_path / "j")
    book = Journal(tmp_path / "j", SAME)
    assert book.recall("screen", "k2", dict[str, float]) == ({"speed": 2.5}, 2.0)
    assert book.recall("build", "k2", dict[str, float]) is None
    assert book.recall("screen", "k2", list[int]) is None, "another type is as good as nothing"
    assert (len(book), book.seconds, book.warnings) == (3, 2.0, [])


def test_a_record_torn_at_any_byte_is_cut_off_and_the_next_does_not_glue_to_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        assert known(path) == ["k0", "k1"], f"torn at byte {end - last}"
        assert Journal(path, SAME).warnings == []
        again = Journal(path, SAME)
        again.note("screen", "k2", {"speed": 9.0}, at=3.0)
        assert known(path) == ["k0", "k1", "k2"]


def test_a_flipped_byte_anywhere_is_found_and_never_believed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    content = path.read_bytes()
    lines = content.split(b"\n")
    starts = [sum(len(one) + 1 for one in lines[:k]) for k in range(len(lines))]
    for at in range(0, len(content) - 1, 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        path.with_name("j.corrupt").unlink(missing_ok=True)
        book = Journal(path, SAME)
        damaged = max(k for k, start in enumerate(starts) if start <= at)
        good = [k for k in range(3) if starts[3 + 2 * k + 1] <= starts[damaged] and 3 + 2 * k < damaged]
        assert [k for k in range(3) if book.recall("screen", f"k{k}", dict[str, float])] == good
        if damaged < len(lines) - 2:
            assert len(book.warnings) == 1
            assert path.with_name("j.corrupt").exists()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"schema": 0, "identity": SAME}, "wrote its journal as version 0, this hasten reads 1; starting afresh"),
        ({"schema": 1, "identity": {**SAME, "data": "x"}}, "the unfinished run had another data; starting afresh"),
        ({"odd": 1}, "the journal of the unfinished run is damaged"),
    ],
)
def test_the_journal_of_another_run_is_not_gone_on_with(tmp_path: Path, header: dict[str, object], said: str) -> None:
    path = tmp_path / "j"
    written(path)
    path.write_bytes(line(header) + path.read_bytes().split(b"\n", 1)[1])
    book = Journal(path, SAME)
    assert said in book.warnings[0]
    assert len(book) == 0
    assert known(path) == []


def test_a_file_that_is_no_journal_is_started_afresh(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"\x00\xff\n" * 50)
    book = Journal(tmp_path / "j", SAME)
    assert "the journal of the unfinished run is damaged; starting afresh" in book.warnings
    assert len(book) == 0


def test_what_was_under_way_when_two_runs_died_is_to_blame(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path, SAME).begin("screen", "bad")
    once = Journal(path, SAME)
    assert once.suspect("bad")
    assert not once.to_blame("bad")
    once.begin("screen", "good")
    once.note("screen", "good", {}, at=1.0)
    once.begin("screen", "bad")
    twice = Journal(path, SAME)
    assert twice.to_blame("bad")
    assert not twice.suspect("good")


def test_a_run_that_stops_by_itself_blames_nobody(tmp_path: Path) -> None:
    for _ in range(3):
        book = Journal(tmp_path / "j", SAME)
        book.begin("screen", "slow")
        book.stopped()
    assert not Journal(tmp_path / "j", SAME).suspect("slow")


def test_a_full_disk_at_any_write_is_told_and_loses_nothing_before_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with disk() as counted:
        written(path)
    for k in range(1, counted.done + 1):
        path.unlink()
        with disk(k), pytest.raises(EnvironmentFault, match="cannot write the journal"):
            written(path)
        before = known(path)
        assert before == [f"k{i}" for i in range(len(before))], "a prefix"
        written(path)
        assert known(path) == ["k0", "k1", "k2"]


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    book = Journal()
    book.begin("screen", "k")
    book.note("screen", "k", 1, at=0.0)
    assert not list(tmp_path.iterdir())


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53) | st.text(max_size=20), max_size=5))
def test_a_line_is_read_as_it_was_written(value: dict[str, object]) -> None:
    record = {"do": "done", "step": "race", "key": "k", "value": value, "at": 1.0}
    assert parse(line(record)[:-1]) == record
    assert line(record).count(b"\n") == 1


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(text: bytes) -> None:
    found = parse(text)
    assert found is None or text == line(found)[:-1]


def test_a_checksum_of_something_else_is_no_record() -> None:
    good = line({"a": 1})[:-1]
    assert parse(good.replace(b'"a"', b'"b"')) is None
    assert parse(b"") is None
    assert parse(b"00000000 ") is None
    assert msgspec.json.decode(good[9:]) == {"a": 1}
