"""The ledger of looks: new questions wear the samples out, the same question does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hasten import looks
from hasten.looks import Look, open_ledger, place
from tests.faults import disk

DATA = "d" * 64


def asked(question: str, order: list[str], fails: str = "") -> int:
    """One run: it opens the ledger, counts its look, and tests ``order`` until ``fails``."""
    ledger = open_ledger(DATA, question)
    peeked = ledger.number(order)
    number = ledger.begin(order)
    assert peeked == number
    for key in order:
        ledger.tested(number, key, key != fails)
        if key == fails:
            break
    assert ledger.warnings == []
    return number


def test_each_new_question_counts_and_the_same_one_does_not() -> None:
    assert asked("1%", ["a", "b"]) == 1
    assert asked("0.5%", ["a", "b"]) == 2
    assert asked("1%", ["a", "b"]) == 1
    assert asked("2%", ["a"]) == 3
    assert open_ledger("e" * 64, "1%").number() == 1, "other samples are fresh"


def test_a_failure_repeated_is_no_new_look_but_a_second_chance_is() -> None:
    assert asked("1%", ["a", "b", "c"], fails="b") == 1
    assert asked("1%", ["a", "b", "c"], fails="b") == 1
    assert asked("1%", ["b", "c"], fails="b") == 1, "the failure comes first again"
    assert asked("1%", ["a"]) == 1, "what has passed has passed"
    assert asked("1%", ["c"]) == 2, "not tested before the failure"
    assert asked("1%", ["a", "d", "b"], fails="b") == 2, "not in the first look, but the second has not failed yet"
    assert asked("1%", ["e", "b"], fails="b") == 3
    assert asked("1%", ["a", "d", "b"], fails="b") == 2


def test_without_a_failure_a_sequence_goes_on() -> None:
    assert asked("1%", ["a"]) == 1
    assert asked("1%", ["b", "a"], fails="b") == 1
    assert asked("1%", ["a", "c"]) == 2


def test_after_a_failure_nothing_passes_any_more() -> None:
    ledger = open_ledger(DATA, "1%")
    number = ledger.begin(["a"])
    ledger.tested(number, "a", passed=False)
    ledger.tested(number, "b", passed=True)
    ledger.tested(number, "c", passed=False)
    assert open_ledger(DATA, "1%").looks == [Look("1%", [], "a")]


def test_two_runs_at_once_never_share_a_number() -> None:
    first, second = open_ledger(DATA, "1%"), open_ledger(DATA, "2%")
    assert (first.number(), second.number()) == (1, 1)
    assert (first.begin(["a"]), second.begin(["a"])) == (1, 2)
    first.tested(1, "a", passed=True)
    assert [look.question for look in open_ledger(DATA, "3%").looks] == ["1%", "2%"]


def test_many_processes_at_once_each_get_a_number_of_their_own() -> None:
    code = "import sys; from hasten.looks import open_ledger; print(open_ledger('d' * 64, sys.argv[1]).begin(['a']))"
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(k)], stdout=subprocess.PIPE, text=True, env=os.environ)
        for k in range(6)
    ]
    assert sorted(int(run.communicate(timeout=60)[0]) for run in runs) == [1, 2, 3, 4, 5, 6]


def test_it_lies_in_the_users_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked("1%", ["a"])
    assert list((own_cache / "hasten" / "looks").glob("*.json")) == [place(DATA)]
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place(DATA).parent == tmp_path / ".cache" / "hasten" / "looks"


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 9, "looks": []}', b'{"schema": 1, "looks": [3]}', b"[]"])
def test_a_ledger_that_cannot_be_read_is_said_and_started_again(own_cache: Path, content: bytes) -> None:
    place(DATA).parent.mkdir(parents=True)
    place(DATA).write_bytes(content)
    ledger = open_ledger(DATA, "1%")
    assert "earlier looks at these samples are not known" in ledger.warnings[0]
    assert ledger.begin(["a"]) == 1
    assert open_ledger(DATA, "2%").number() == 2


def test_an_unwritable_cache_is_a_warning_and_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    ledger = open_ledger(DATA, "1%")
    number = ledger.begin(["a"])
    ledger.tested(number, "a", passed=False)
    assert (number, ledger.looks) == (1, [Look("1%", [], "a")])
    assert "this look at the samples is not remembered" in ledger.warnings[0]


def test_a_full_disk_at_any_write_keeps_the_old_ledger() -> None:
    asked("1%", ["a"])
    with disk() as counted:
        open_ledger(DATA, "2%").begin(["a"])
    for k in range(1, counted.done + 1):
        before = place(DATA).read_bytes()
        with disk(k):
            ledger = open_ledger(DATA, f"{k + 2}%")
            ledger.begin(["a"])
        assert ledger.warnings
        assert place(DATA).read_bytes() == before
        assert not [p for p in place(DATA).parent.iterdir() if p.suffix != ".json" and p.name != "lock"]


def test_the_lock_is_not_left_to_the_children(own_cache: Path) -> None:
    asked("1%", ["a"])
    assert not os.get_inheritable(os.open(looks.place(DATA).parent / "lock", os.O_RDONLY))
