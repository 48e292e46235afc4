"""The ledger: new questions wear the samples out, the same question does not, and a failure spends its level only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hasten import looks
from hasten.looks import Look, Tried, open_ledger, place
from hasten.measure.proportions import tango_ps
from hasten.measure.spending import plan
from tests.faults import disk

DATA = "d" * 64


def asked(question: str, order: list[str], fails: str = "") -> tuple[int, list[float]]:
    """One run: it opens the ledger, counts its question, and tests ``order``. Its number, and the shares of level."""
    ledger = open_ledger(DATA, question)
    peeked = ledger.number(order)
    number, shares = ledger.begin(order), list[float]()
    assert peeked == number
    for key in order:
        shares.append(ledger.share(number, key))
        ledger.tested(number, key, shares[-1], key not in fails)
    assert ledger.warnings == []
    return number, pytest.approx(shares)  # type: ignore[return-value]


def test_each_new_question_counts_and_the_same_one_does_not() -> None:
    assert asked("1%", ["a", "b"]) == (1, [0.8, 0.8])
    assert asked("0.5%", ["a", "b"]) == (2, [0.8, 0.8])
    assert asked("1%", ["a", "b"]) == (1, [0.8, 0.8])
    assert asked("2%", ["a"])[0] == 3
    assert open_ledger("e" * 64, "1%").number() == 1, "other samples are fresh"


def test_a_failure_spends_its_level_once_and_leaves_the_rest() -> None:
    assert asked("1%", ["a", "b", "c"], fails="b") == (1, [0.8, 0.8, 0.16])
    assert asked("1%", ["a", "b", "c"], fails="b") == (1, [0.8, 0.8, 0.16]), "known answers cost nothing"
    assert asked("1%", ["b", "d"], fails="b") == (1, [0.8, 0.16])
    assert asked("1%", ["e", "f"], fails="ef") == (1, [0.16, 0.032])
    assert asked("1%", ["g"], fails="g") == (2, [0.8]), "nothing is left of the first"
    assert asked("1%", ["a", "b"], fails="b") == (1, [0.8, 0.8]), "what has passed has passed"


def test_what_was_tested_keeps_its_outcome() -> None:
    ledger = open_ledger(DATA, "1%")
    number = ledger.begin(["a"], [100, 200])
    ledger.tested(number, "a", 0.8, passed=False)
    ledger.tested(number, "a", 0.8, passed=True)
    assert open_ledger(DATA, "1%").looks == [Look("1%", [100, 200], {"a": Tried(0.8, False)})]


def test_a_ledger_of_version_1_counts() -> None:
    place(DATA).parent.mkdir(parents=True)
    looks = [{"question": "1%", "passed": ["a"], "failed": "b"}, {"question": "2%", "passed": ["a"], "failed": ""}]
    old = json.dumps({"schema": 1, "looks": looks})
    place(DATA).write_text(old)
    assert asked("1%", ["c"])[0] == 3, "the failure had spent all"
    assert asked("2%", ["c"])[0] == 2
    assert open_ledger(DATA, "1%").warnings == []


@pytest.mark.parametrize("inside", [0, 1])
def test_no_order_of_candidates_passes_a_false_one_too_often(inside: int) -> None:
    """Three candidates exactly at the limit, alike in their gains; ``inside``: one that truly loses nothing goes first.

    Each is tested look by look at its part of what the failures before it left.
    """
    random, n, limit, runs = np.random.default_rng(inside), 800, 0.02, 5000
    sizes = [size for size, _ in plan(n, 0.05)]
    steps = np.diff([0, *sizes])[:, None]
    won = random.binomial(steps, 0.01, (len(sizes), runs)).cumsum(axis=0)
    left, wrong = np.ones(runs), np.zeros(runs, bool)
    for k in range(3 + inside):
        lost = random.binomial(steps, 0.03 if k >= inside else 0.01, (len(sizes), runs)).cumsum(axis=0)
        p_values = np.stack([tango_ps(b, c, size, limit) for b, c, size in zip(lost, won, sizes, strict=True)])
        share, passed = Look("").share("new") * left, np.zeros(runs, bool)
        for own in np.unique(share):
            levels = np.array([level for _, level in plan(n, own * 0.05)])[:, None]
            passed |= (share == own) & (p_values <= levels).any(axis=0)
        left = np.where(passed, left, left - share)
        wrong |= passed & (k >= inside)
    assert 0.01 < wrong.mean() <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_two_runs_at_once_never_share_a_number() -> None:
    first, second = open_ledger(DATA, "1%"), open_ledger(DATA, "2%")
    assert (first.number(), second.number()) == (1, 1)
    assert (first.begin(["a"]), second.begin(["a"])) == (1, 2)
    first.tested(1, "a", 0.8, passed=True)
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
    ledger.tested(number, "a", 0.8, passed=False)
    assert (number, ledger.looks) == (1, [Look("1%", [], {"a": Tried(0.8, False)})])
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
