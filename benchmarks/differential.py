"""``python -m benchmarks.differential [--seeds 0:20000] [--seconds 480]``: every exact change on random graphs.

Each graph runs unoptimised in ONNX Runtime, on the sizes of a sample and on others, with both branches, loops without
steps, empty tensors, the edges of each type and NaN. Every rewrite alone, the stages of ``Clean``, the whole of it,
other operator sets and TensorFlow Lite there and back must answer the same. Where the graph raises, the changed one may
raise too. A run goes on where the last one ended; results/differential.json holds the table. A child that dies is the
fault of its seed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.differential_child import child, examine
from benchmarks.differential_shrink import shrunk, told
from benchmarks.random_graphs.graphs import random_case

RESULT = Path(__file__).parent / "results" / "differential.json"
PORTION = 200  # seeds that a child takes at once


def main() -> None:
    """Read the options; run, or show one seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:20000", help="first:end")
    parser.add_argument("--seconds", type=float, default=480.0, help="stop after this long; the next run goes on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--show", type=int, help="one seed: its differences, shrunk")
    parser.add_argument("--child", nargs=3, metavar=("FIRST", "END", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    first, end = (int(n) for n in options.seeds.split(":"))
    if options.child:
        child(int(options.child[0]), int(options.child[1]), Path(options.child[2]))
    elif options.show is not None:
        show(options.show)
    else:
        table = run(first, end, options.seconds, options.processes, options.out)
        print(report(table))
        sys.exit(1 if table["differences"] else 0)


def show(seed: int) -> None:
    """Print what differs, in as few nodes as still do."""
    case = random_case(seed)
    for found in examine(case).differences:
        print(f"seed {seed}: {found.change} on {found.feed!r}: {found.text}")
        small = shrunk(case, found)
        print(told(small.proto))
        print({k: v.tolist() if v.size < 40 else v.shape for k, v in small.feeds[found.feed].items()})


def empty(first: int, end: int) -> dict[str, Any]:
    """A table to which seeds are added."""
    return {
        "first": first, "end": end, "next": first, "graphs": 0, "not_loaded": 0, "died": 0, "operators": {},
        "opsets": {}, "feeds": {}, "changes": {}, "sensitive": 0, "seconds": 0.0, "differences": [], "commits": {},
    }  # fmt: skip


def run(first: int, end: int, seconds: float, processes: int, out: Path) -> dict[str, Any]:
    """All seeds that time allows, in portions; returns the table, which is stored after each round."""
    table = empty(first, end)
    if out.exists():
        stored = json.loads(out.read_text())
        same = (stored.get("first"), stored.get("end")) == (first, end)
        table = stored if same and stored["next"] < end else table
    begin, commit = time.monotonic(), commit_of(Path(__file__).parent)
    while table["next"] < end and time.monotonic() - begin < seconds:
        starts = [table["next"] + i * PORTION for i in range(processes)]
        portions = [(s, min(s + PORTION, end)) for s in starts if s < end]
        lap = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, str(s)) for s, _ in portions]
            running = [start(s, e, file) for (s, e), file in zip(portions, files, strict=True)]
            for portion, file, process in zip(portions, files, running, strict=True):
                finish(portion, file, process)
                for line in file.read_text().splitlines():
                    add(table, json.loads(line))
        ran = table.setdefault("commits", {})
        ran[commit] = ran.get(commit, 0) + portions[-1][1] - table["next"]
        table["next"] = portions[-1][1]
        table["seconds"] += time.monotonic() - lap
        out.write_text(json.dumps(table, indent=1) + "\n")
        print(f"{table['next']} seeds, {len(table['differences'])} differences", flush=True)
    return table


def commit_of(folder: Path) -> str:
    """The commit that is checked out, with a mark where files differ from it; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip()


def start(first: int, end: int, file: Path) -> subprocess.Popen[bytes]:
    """A child on some seeds; it writes a line for each."""
    command = [sys.executable, "-m", "benchmarks.differential", "--child", str(first), str(end), str(file)]
    return subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )


def finish(portion: tuple[int, int], file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for a child; where it dies, the seed it was at is told, and another goes on behind that one."""
    while process.wait() != 0:
        mark = json.loads(Path(f"{file}.at").read_text())
        with file.open("a") as lines:
            lines.write(json.dumps({"seed": mark["seed"], "died": mark["change"]}) + "\n")
        if mark["seed"] + 1 >= portion[1]:
            return
        process = start(mark["seed"] + 1, portion[1], file)


def add(table: dict[str, Any], line: dict[str, Any]) -> None:
    """One seed's line into the table."""
    table["graphs"] += 1
    if "died" in line:
        table["died"] += 1
        if line["died"] != "original":
            text = line.get("text", "the process died")
            table["differences"].append({"seed": line["seed"], "change": line["died"], "text": text})
        return
    table["not_loaded"] += line["not_loaded"]
    table["sensitive"] += line["sensitive"]
    for name in ("operators", "opsets", "feeds"):
        table[name] = dict(sorted((Counter(table[name]) + Counter(line[name])).items()))
    for change, fate in line["changes"].items():
        row = table["changes"].setdefault(change, {"applied": 0, "differences": 0, "refused": 0})
        row[fate] += 1
    for found in line["differences"]:
        row = table["changes"].setdefault(found["change"], {"applied": 0, "differences": 0, "refused": 0})
        row["differences"] += 1
        table["differences"].append({"seed": line["seed"], **found})


def report(table: dict[str, Any]) -> str:
    """The table as text."""
    lines = [
        f"{table['graphs']} graphs of {len(table['operators'])} operators in {table['seconds']:.0f} s;"
        f" {table['not_loaded']} that ONNX Runtime does not load, {table['died']} that end it",
        f"{'change':34}{'applied':>9}{'refused':>9}{'differ':>8}",
    ]
    for change, row in sorted(table["changes"].items()):
        lines.append(f"{change:34}{row['applied']:9}{row['refused']:9}{row['differences']:8}")
    told = ", ".join(f"{count} at {name or 'an unknown commit'}" for name, count in table.get("commits", {}).items())
    lines += [f"graphs by commit: {told}"] if told else []
    lines += [f"seed {d['seed']}: {d['change']}: {d['text'][:150]}" for d in table["differences"][:40]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
