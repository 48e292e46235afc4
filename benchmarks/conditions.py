"""hasten against its peers with the few samples that people have: ``python -m benchmarks.conditions --nets NETS``.

``n`` samples are drawn from a prepared network's data. The peers calibrate on them and hasten gets them with its
defaults; what was not drawn judges everybody: "truly inside" is a drop there of at most the budget. hasten counts with
what it hands over, certified or estimated. Earlier cells stay in ``results/conditions.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.contest import arena as arenas
from benchmarks.contest import entrants, environment, scores
from benchmarks.contest.entrants import BASELINE, HASTEN, PEERS
from benchmarks.contest.feeds import Array
from benchmarks.contest.scores import Row
from benchmarks.contest.workers import Contestant
from benchmarks.networks import NETWORKS, bundle
from benchmarks.networks.bundle import Bundle

RESULTS = Path(__file__).with_name("results") / "conditions.json"
ESTIMATED = "hasten, estimated"
CALIBRATE = 128  # samples that the peers calibrate on, at most
JUDGES = 1500  # samples that judge, at most


def drawn(data: Path, groups: str, count: int, seed: int) -> dict[str, Array]:
    """``count`` samples for everybody, and others that judge; of whole groups where there are some."""
    with np.load(data, allow_pickle=False) as stored:
        units = stored[groups] if groups else np.arange(len(stored[stored.files[0]]))
    order = np.random.default_rng(seed).permutation(np.unique(units))
    place = np.empty(int(units.max()) + 1, np.int64)
    place[order] = np.arange(len(order))
    ids = np.argsort(place[units], kind="stable")
    count = min(count, len(ids) // 2)
    given, rest = np.sort(ids[:count]), np.sort(ids[count : count + JUDGES])
    return {"calibrate": given[:CALIBRATE], "search": given, "confirm": rest}


def cut(network: Bundle, ids: Array, folder: Path) -> Bundle:
    """The same network with the samples ``ids`` only."""
    with np.load(network.data, allow_pickle=False) as stored:
        samples = {name: stored[name][ids] for name in stored.files}
    return bundle.write(folder, network.model, samples, network.meta)


def answers(out: Path) -> dict[str, Contestant]:
    """What hasten's folder hands over: the certified network, and the estimated one where there is one."""
    found = {HASTEN: entrants.hasten_answer(out)}
    if (out / "estimated" / "recipe.json").exists():
        found[ESTIMATED] = replace(entrants.hasten_answer(out / "estimated"), name=ESTIMATED)
    return found


def cell(network: Bundle, count: int, work: Path, python: str, limits: peers.Limits, names: Sequence[str]) -> Any:
    """One network with ``count`` samples: rows, and hasten over the best peer that is truly inside."""
    print(f"{network.meta.name}, {count} samples:", flush=True)
    folder = work / f"{network.meta.name}_{count}"
    shutil.rmtree(folder, ignore_errors=True)
    ids = drawn(network.data, network.meta.groups, count, seed=count)
    arena = arenas.build(network, folder, ids)
    arena = replace(arena, bundle=cut(network, ids["search"], folder / "cut"))
    peers.label(arena, python)
    rows: dict[str, Row] = {}
    chosen = [peer for peer in PEERS if peer.name in names or peer.name == BASELINE]
    ready = {**peers.built(arena, python, limits, rows, chosen), **peers.add_hasten(arena, limits, rows)}
    if HASTEN in ready:
        ready |= (handed := answers(folder / "hasten"))
        rows |= {name: Row(name=name) for name in handed if name not in rows}
    peers.contend(arena, ready, limits, rows)
    told = verdict(rows, arena.budget.max_drop)
    print(scores.table(list(rows.values()), {}, arena.budget.max_drop))
    print(f"  {told}", flush=True)
    short = [{**asdict(row), "times_ns": None} for row in rows.values()]
    return {"rows": short, "verdict": told, "n": len(ids["search"]), "judges": len(ids["confirm"])}


def verdict(rows: Mapping[str, Row], limit: float) -> dict[str, Any]:
    """hasten's best answer that is truly inside, over the best such peer; the baseline is always inside."""
    timed = [row for row in rows.values() if row.times_ns and (row.name == BASELINE or inside(row, limit))]
    rivals = [row for row in timed if row.name not in (HASTEN, ESTIMATED)]
    ours = [row for row in timed if row.name in (HASTEN, ESTIMATED)] or [r for r in timed if r.name == BASELINE]
    best, mine = (max(found, key=lambda row: row.speedup or 0) for found in (rivals, ours))
    value, low, high = scores.ratio(best.times_ns, mine.times_ns)
    false = [row.name for row in rows.values() if row.name == HASTEN and row.times_ns and not inside(row, limit)]
    return {
        "best peer": best.name, "best peer's speed-up": best.speedup, "hasten": mine.name,
        "hasten's speed-up": mine.speedup, "ratio": value, "low": low, "high": high, "certified and outside": false,
    }  # fmt: skip


def inside(row: Row, limit: float) -> bool:
    """Is the drop on the samples that judge within the budget?"""
    return row.drop is not None and row.drop <= limit


def summary(known: Mapping[str, Any]) -> str:
    """The geometric mean of the ratios for each number of samples."""
    lines = []
    for count in sorted({key.split(" ")[1] for key in known}, key=int):
        ratios = [cell["verdict"]["ratio"] for key, cell in known.items() if key.split(" ")[1] == count]
        mean, least = exp(sum(map(log, ratios)) / len(ratios)), min(ratios)
        lines.append(f"{count} samples: {mean:.2f} (least {least:.2f}) over {len(ratios)} networks")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=Path, required=True, help="folder of prepared networks")
    parser.add_argument("--envs", type=Path, default=Path(".venvs"), help="where the peers' environment is made")
    parser.add_argument("--work", type=Path, default=Path(".bench/conditions"))
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--samples", type=int, nargs="*", default=[150, 600])
    parser.add_argument("--peers", nargs="*", choices=[p.name for p in PEERS], default=[p.name for p in PEERS])
    parser.add_argument("--pairs", type=int, default=20, help="timed rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    limits = peers.Limits(pairs=given.pairs, seconds=600, mb=10_000)
    python = environment.python(given.envs)
    for name in given.only:
        for count in given.samples:
            network = bundle.read(given.nets.resolve() / name)
            found = cell(network, count, given.work.resolve(), python, limits, given.peers)
            peers.keep(f"{name} {count}", found, given.out)
    print(summary(json.loads(given.out.read_text())))


if __name__ == "__main__":
    main()
