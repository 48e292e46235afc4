"""A hundred bad inputs and faults, each with the tests that cause it: how many does hasten survive?

A row is survived when every one of its tests passes here; a test that needs a framework which is not installed makes
its row "not run". Rows about things that hasten has not (language models, clusters, hubs) name the test that such
input is refused.

    python -m benchmarks.faults --out benchmarks/results/faults.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Row:
    """A fault, what must come of it, and the tests that cause it: ``file::test`` below ``tests``, without ``test_``."""

    fault: str
    wanted: str
    tests: tuple[str, ...]


def read(path: Path = TABLE) -> list[Row]:
    """The table of faults."""
    return [Row(**{**row, "tests": tuple(row["tests"])}) for row in tomllib.loads(path.read_text("utf-8"))["faults"]]


def node(test: str) -> str:
    """``"doors/torch::x"`` as pytest names it: ``"tests/doors/test_torch.py::test_x"``."""
    file, _, name = test.partition("::")
    folder, _, stem = file.rpartition("/")
    return "/".join(part for part in ("tests", folder, f"test_{stem}.py") if part) + f"::test_{name}"


class Outcomes:
    """A pytest plug-in that runs only what is ``wanted`` and keeps what became of each test: the worst of its cases."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.found: dict[str, str] = {}
        self._wanted = frozenset(wanted)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called by pytest with all tests of the files."""
        items[:] = [item for item in items if item.nodeid.partition("[")[0] in self._wanted]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Called by pytest after a file was read: one that needs what is not installed is left out as a whole."""
        if report.skipped:
            self.found |= {test: "skipped" for test in self._wanted if test.startswith(report.nodeid)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after each phase of a test."""
        name = report.nodeid.partition("[")[0]
        worst = self.found.get(name, "")
        if report.failed:
            self.found[name] = "failed"
        elif report.skipped and worst != "failed":
            self.found[name] = worst or "skipped"
        elif report.when == "call" and worst != "failed":
            self.found[name] = "passed"


def fate(tests: Sequence[str], found: Mapping[str, str]) -> str:
    """A row's fate from its tests': ``survived``, ``failed`` or ``not run``."""
    outcomes = {found.get(node(test), "not found") for test in tests}
    if outcomes & {"failed", "not found"}:
        return "failed"
    return "not run" if "skipped" in outcomes else "survived"


def run(rows: Sequence[Row]) -> dict[str, Any]:
    """Cause every fault; the table."""
    wanted = sorted({node(test) for row in rows for test in row.tests})
    outcomes = Outcomes(wanted)
    files = sorted({test.partition("::")[0] for test in wanted})
    pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", *files], plugins=[outcomes])
    table = [
        {
            "number": i,
            "fault": r.fault,
            "wanted": r.wanted,
            "fate": fate(r.tests, outcomes.found),
            "tests": list(r.tests),
        }
        for i, r in enumerate(rows, 1)
    ]
    survived = sum(entry["fate"] == "survived" for entry in table)
    return {
        "survived": survived,
        "rows": len(table),
        "tests": len(wanted),
        "python": platform.python_version(),
        "table": table,
    }


def main() -> int:
    """Run, print a line a fault, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out.resolve() if arguments.out else None
    os.chdir(Path(__file__).parents[1])  # the tests are named from here
    told = run(read())
    for entry in told["table"]:
        print(f"{entry['number']:3} {entry['fate']:9} {entry['fault']} -> {entry['wanted']}")
    print(f"{told['survived']} of {told['rows']} survived")
    if out:
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0 if told["survived"] == told["rows"] else 1


if __name__ == "__main__":
    sys.exit(main())
