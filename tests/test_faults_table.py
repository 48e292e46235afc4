"""The table of faults: rows that name tests that exist, and a fate that is never better than its tests."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from benchmarks import faults


def test_faults_name_tests_that_exist() -> None:
    rows = faults.read()
    assert len(rows) >= 100
    assert len({row.fault for row in rows}) == len(rows)
    for file, name in (faults.node(test).split("::") for row in rows for test in row.tests):
        tree = ast.parse((Path(__file__).parents[1] / file).read_text("utf-8"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (("passed", "passed"), "survived"), (("passed", "skipped"), "not run"),
        (("passed", "failed"), "failed"), (("skipped", "failed"), "failed"), (("passed", None), "failed"),
    ],
)  # fmt: skip
def test_a_row_is_as_good_as_its_worst_test(found: tuple[str | None, ...], wanted: str) -> None:
    tests = [f"{letter}::x" for letter, _ in zip("ab", found, strict=True)]
    told = {faults.node(t): outcome for t, outcome in zip(tests, found, strict=True) if outcome}
    assert faults.fate(tests, told) == wanted


def test_the_stored_table_is_about_these_faults() -> None:
    stored = json.loads((Path(faults.__file__).parent / "results" / "faults.json").read_text("utf-8"))
    assert [(one["fault"], one["wanted"]) for one in stored["table"]] == [(r.fault, r.wanted) for r in faults.read()]
    assert stored["survived"] == sum(one["fate"] == "survived" for one in stored["table"])
