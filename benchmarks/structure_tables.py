"""The tables of ``docs/structure.md`` from ``results/structure.json``: ``python -m benchmarks.structure_tables``.

Prints them; with ``--write`` puts them between the marks in the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.structure import RESULT

PAGE = Path(__file__).parents[1] / "docs" / "structure.md"
HEADS = {
    "bought": ("network (budget)", "with structure", "without", "structure bought", "what was taken"),
    "not bought": ("network (budget)", "the answer", "why nothing was taken out"),
    "equal": ("network", "time saved", "way", "ms (float32)", "score kept", "divergence"),
}


def bought(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Networks whose answer has less in it, beside the answer of a search without."""
    return [
        (
            f"{row['network']} ({row['budget']})",
            row["with"].split(" (budget")[0],
            f"{row['winner_without']}: {row['without'].split(' (budget')[0]}" if row["bought"] else "not measured",
            "**{speedup:.2f}×** [{low:.2f}, {high:.2f}], {pairs} pairs".format(**row["bought"])
            if row["bought"]
            else "",
            row["winner"],
        )
        for row in rows
        if row["structural"]
    ]


def ratio(pair: Mapping[str, Any]) -> str:
    """A speed-up with its interval."""
    return f"**{pair['speedup']:.2f}×** [{pair['low']:.2f}, {pair['high']:.2f}], {pair['pairs']} pairs"


def not_bought(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The others, each way with its fate."""
    return [
        (
            f"{row['network']} ({row['budget']})",
            f"{row['winner']}: {row['with'].split(' (budget')[0]}",
            "; ".join(fate(one) for one in row["candidates"] if not one["label"].startswith("zeros")),
        )
        for row in rows
        if not row["structural"]
    ]


def fate(one: Mapping[str, Any]) -> str:
    """A candidate, its speed where it was timed, and why it was not taken."""
    told = one["label"].split(", ", 1)[-1]
    timed = f" {one['speedup']:.2f}×" if "speedup" in one else ""
    return f"{told}{timed}: {one['reason']}"


def equal(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Pruning at equal latency."""
    return [
        (
            row["network"], f"{row['saved']:.0%}", row["way"], f"{row['ms']:.3f} ({row['float_ms']:.3f})",
            f"{row['score']:.4f} of {row['float']:.4f}", f"{row['divergence']:.1e}",
        )
        for row in rows
        if "way" in row
    ]  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def tables() -> dict[str, str]:
    """Every table by its mark."""
    known = json.loads(RESULT.read_text())
    made = {
        "bought": bought(known["search"]),
        "not bought": not_bought(known["search"]),
        "equal": equal(known["equal"]),
    }
    return {name: table(HEADS[name], rows) for name, rows in made.items()}


def filled(page: str) -> str:
    """The page with each table between ``<!-- NAME -->`` and ``<!-- end -->``."""
    for name, text in tables().items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = head + mark + text + "\n" + rest[rest.index("<!-- end -->") :] if mark else page
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text()))
        return
    for name, text in tables().items():
        print(f"{name}\n\n{text}\n")


if __name__ == "__main__":
    main()
