"""The README's table of the contest: ``python -m benchmarks.contest_tables`` prints it from what is stored.

With ``--write`` it is put between its marks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.entrants import HASTEN
from benchmarks.markdown import command, table
from benchmarks.peers import RESULTS as PEERS
from benchmarks.planner import RESULTS as PLANNER

README = Path(__file__).parents[1] / "README.md"
CONTROL = "nncf accuracy control"
HEAD = (
    "network (score, n)", "hasten", "drop (bound)", "best stock tool tested inside", "hasten against it", "search",
    "NNCF's accuracy control", "machine",
)  # fmt: skip
Row = Mapping[str, Any]


def contest() -> str:
    """All networks, each as it was measured last."""
    known = {**json.loads(PEERS.read_text()), **json.loads(PLANNER.read_text())}
    return table(HEAD, [line(name, result) for name, result in sorted(known.items())])


def line(name: str, result: Row) -> tuple[str, ...]:
    """One network."""
    rows = {row["name"]: row for row in result["rows"]}
    ours, verdict, meta = rows[HASTEN], result["verdict"]["proven"], result["meta"]
    budget = "" if meta["budget"] == "1%" else f"; {meta['budget']}"
    best = rows[verdict["best"]]
    return (
        f"{name} ({meta['metric'].rpartition(':')[2] or 'agreement'}, {ours['n']:,}{budget})",
        speed(ours), f"{points(ours['drop'])} (≤ {points(ours['upper'])})",
        f"{best['name']} {best['speedup']:.2f}×",
        f"{verdict['ratio']:.2f} [{verdict['low']:.2f}, {verdict['high']:.2f}]",
        f"{ours['build_seconds']:.0f} s, {ours['peak_mb']:,.0f} MB", control(rows.get(CONTROL)), result["machine"],
    )  # fmt: skip


def speed(row: Row) -> str:
    """A speed-up with its interval."""
    return f"{row['speedup']:.2f}× [{row['low']:.2f}, {row['high']:.2f}]"


def points(share: float) -> str:
    """Of a hundred."""
    return f"{100 * share:.2f}"


def control(row: Row | None) -> str:
    """What accuracy control made of it."""
    if row is None:
        return "not run"
    if not row["speedup"]:
        return row["reason"] if row["reason"].startswith("over") else "fails"
    inside = "tested" if row["met"] else f"loses {points(row['drop'])}"
    return f"{row['speedup']:.2f}×, {inside}, {row['build_seconds']:.0f} s, {row['peak_mb']:,.0f} MB"


if __name__ == "__main__":
    command(__doc__, README, {"contest": contest()})
