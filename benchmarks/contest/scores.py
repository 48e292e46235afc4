"""A contestant's row, the verdict on a network, and both as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.contest.entrants import HASTEN
from benchmarks.contest.watch import Spent
from hasten.trial import Quality


@dataclass(frozen=True, kw_only=True)
class Row:
    """``times_ns``: a median a round. ``met``: proven inside the budget. ``reason``: why it could not take part."""

    name: str
    reason: str = ""
    build_seconds: float | None = None
    peak_mb: float | None = None
    n: int | None = None
    value: float | None = None
    drop: float | None = None
    upper: float | None = None
    met: bool = False
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    times_ns: tuple[float, ...] = ()

    @classmethod
    def of_build(cls, name: str, spent: Spent | None) -> Row:
        """The row of something built (``spent`` None: nothing to build)."""
        if spent is None:
            return cls(name=name)
        return cls(name=name, reason=spent.reason, build_seconds=spent.seconds, peak_mb=spent.peak_mb)

    def failed(self, reason: str) -> Row:
        return replace(self, reason=reason)

    def with_quality(self, quality: Quality) -> Row:
        """The drop on the confirm split with its bound."""
        return replace(self, n=quality.n, value=quality.value, drop=quality.drop, upper=quality.upper, met=quality.met)

    def with_times(self, own: list[float], baseline: list[float]) -> Row:
        """Speed-up over the baseline of the same rounds."""
        speedup, low, high = ratio(baseline, own)
        return replace(self, speedup=speedup, low=low, high=high, pairs=len(own), times_ns=tuple(own))


def ratio(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, float, float]:
    """(median ratio, low, high) of paired times, with the exact sign-test interval."""
    from hasten.measure.speed import block_average, sign_interval, speedup_of

    logs = np.log(np.asarray(slower) / np.asarray(faster))
    return (speedup_of(logs), *sign_interval(block_average(logs)))


def verdict(rows: list[Row], limit: float) -> dict[str, Any]:
    """hasten against the fastest peer that is proven inside the budget; ``ratio`` above 1 means that hasten wins."""
    ours = next((row for row in rows if row.name == HASTEN and row.times_ns), None)
    peers = [row for row in rows if row.name != HASTEN and row.speedup is not None]
    return {
        "proven": against(ours, [row for row in peers if row.met]),
        "inside by the point rule": against(ours, [r for r in peers if r.drop is not None and r.drop <= limit]),
    }


def against(ours: Row | None, peers: list[Row]) -> dict[str, Any] | None:
    """The best of ``peers`` and the ratio of its time to hasten's; None where one side is missing."""
    if ours is None or not peers:
        return None
    best = max(peers, key=lambda row: row.speedup or 0)
    value, low, high = ratio(best.times_ns, ours.times_ns)
    return {"best": best.name, "ratio": value, "low": low, "high": high, "not_slower": bool(high >= 1 and ours.met)}


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


HEAD = ("", "speed-up", "pairs", "n", "drop", "bound", "inside", "build s", "MB")
WIDTHS = (31, 20, 5, 5, 8, 8, 10, 7, 6)


def spaced(cells: Sequence[str]) -> str:
    """One line: the first cell to the left, the others to the right."""
    first, *others = [cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)]
    return "  " + " ".join([first.strip().ljust(WIDTHS[0]), *others])


def line(row: Row, limit: float) -> str:
    """A contestant's cells, or why it has none."""
    if row.reason:
        return f"  {row.name:{WIDTHS[0]}} {row.reason}"
    speed = f"{row.speedup:.2f} [{row.low:.2f}, {row.high:.2f}]" if row.speedup is not None else "-"
    inside = "proven" if row.met else "unproven" if row.drop is not None and row.drop <= limit else "no"
    cells = [row.name, speed, str(row.pairs), number(row.n, "d"), number(row.drop, "+.4f"), number(row.upper, "+.4f")]
    return spaced([*cells, inside, number(row.build_seconds, ".0f"), number(row.peak_mb, ".0f")])


def table(rows: list[Row], found: dict[str, Any], limit: float) -> str:
    """The rows, fastest first, and the verdicts."""
    lines = [spaced(HEAD), *(line(row, limit) for row in sorted(rows, key=lambda r: -(r.speedup or 0)))]
    for rule, entry in found.items():
        if entry:
            value = f"{entry['ratio']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"
            lines.append(f"  hasten vs the best peer, {rule} ({entry['best']}): {value}")
    return "\n".join(lines)
