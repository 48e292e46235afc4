"""The tables of ``docs/structure.md`` from ``results/structure.json``: ``python -m benchmarks.structure_tables``.

Prints them; with ``--write`` puts them between the marks in the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import command, table
from benchmarks.structure import RESULT

PAGE = Path(__file__).parents[1] / "docs" / "structure.md"
HEADS = {
    "bought": ("network (budget)", "with structure, drop (bound)", "without", "structure bought", "what was taken"),
    "not bought": ("network (budget)", "the answer, drop (bound)", "what was tried"),
    "equal": (
        "network", "asked", "float32 ms", "hasten ms", "score", "no repair", "smallest filters ms", "score", "repaired",
    ),
}  # fmt: skip
WAYS = {"pruned": "prune", "factorised": "factorize"}
WON = re.compile(r"([\d.]+)× faster (\[.*?\]); drop (-?[\d.]+) points, at most (-?[\d.]+)")


def bought(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Networks whose answer has less in it, beside the answer of a search without."""
    return [
        (
            f"{row['network']} ({row['budget']})", won(row["with"]),
            f"{won(row['without'])}, {row['winner_without']}" if row["bought"] else "not measured",
            ratio(row["bought"]) if row["bought"] else "", row["winner"],
        )
        for row in rows
        if row["structural"]
    ]  # fmt: skip


def won(sentence: str) -> str:
    """The verdict in figures; the whole of it where it is no gain."""
    found = WON.match(sentence)
    return "{}× {}, {} (≤ {})".format(*found.groups()) if found else sentence


def ratio(pair: Mapping[str, Any]) -> str:
    """A speed-up with its interval."""
    return f"**{pair['speedup']:.2f}×** [{pair['low']:.2f}, {pair['high']:.2f}], {pair['pairs']} pairs"


def not_bought(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The others, with what became of each way."""
    return [
        (
            f"{row['network']} ({row['budget']})", f"{won(row['with'])}, {row['winner']}",
            "; ".join(tried(row["candidates"], way, name) for way, name in WAYS.items()),
        )
        for row in rows
        if not row["structural"]
    ]  # fmt: skip


def tried(candidates: Sequence[Mapping[str, Any]], way: str, name: str) -> str:
    """Of one way: the fastest that looked sure to pass, and the first that did not."""
    of = [one for one in candidates if way in one["label"] or one["label"].endswith(f", {name}")]
    fast = [one for one in of if one["status"] == "ok" and "speedup" in one]
    lost = [one for one in of if one["status"] != "ok"]
    untimed = [one for one in of if one["status"] == "ok" and "speedup" not in one]
    told = [f"{place(one['label'], way)} looked sure to pass, and was not timed" for one in untimed[:1]]
    if fast:
        best = max(fast, key=lambda one: one["speedup"])
        told = [f"{place(best['label'], way)} {best['speedup']:.2f}×, {best['reason']}"]
    told += [f"{place(one['label'], way)}: {one['reason']}" for one in lost[:1]]
    return in_todays_words("; ".join(told)) or f"{way}: not tried"


def in_todays_words(reason: str) -> str:
    """A stored reason without the words that are kept for guaranteed certificates."""
    return reason.replace("to be proven", "to pass the test").replace("proven inside the budget", "tested inside it")


def place(label: str, way: str) -> str:
    """From a label what was taken out."""
    at = label.find(way)
    return label[at:] if at >= 0 else label.split(", ")[-1]


def equal(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Pruning at equal latency: a row a network and a share of its time."""
    known: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        known.setdefault((row["network"], row["saved"]), []).append(row)
    return [
        (
            name, f"-{saved:.0%}", f"{ours['float_ms']:.3f}", f"{ours['ms']:.3f}",
            f"**{kept(ours)}** of {ours['float']:.4f}", kept(bare), f"{theirs['ms']:.3f}", kept(theirs), kept(repaired),
        )
        for (name, saved), (ours, bare, theirs, repaired) in known.items()
    ]  # fmt: skip


def kept(row: Mapping[str, Any]) -> str:
    """The score that is left."""
    return f"{row['score']:.4f}"


def tables() -> dict[str, str]:
    """Every table by its mark."""
    known = json.loads(RESULT.read_text())
    made = {
        "bought": bought(known["search"]),
        "not bought": not_bought(known["search"]),
        "equal": equal(known["equal"]),
    }
    return {name: table(HEADS[name], rows) for name, rows in made.items()}


if __name__ == "__main__":
    command(__doc__, PAGE, tables())
