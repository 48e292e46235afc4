"""Mixed precision: ``python -m benchmarks.planner --nets NETS --envs .venvs --work .bench [--only magika]``.

For each network: all float, all int8, NNCF's accuracy control and hasten among the other peers, each with its drop on
the confirm split, its speed-up, the seconds and the memory that finding it took; how much of int8's gain hasten kept
where int8 alone is over the budget; and how well the planner's model foretold what was measured. Writes a table and
``results/planner.json``; what all peers made of the same networks goes into ``results/peers.json``.
Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import breaking, peers
from benchmarks.contest import environment
from benchmarks.contest.entrants import HASTEN
from benchmarks.networks import NETWORKS, bundle
from benchmarks.networks.bundle import Bundle

RESULTS = Path(__file__).with_name("results") / "planner.json"
NARROW = ("nncf int8", "nncf int8 + bf16", "ort static int8", "ort static int8, linear layers")


@dataclass(frozen=True)
class Case:
    """A prepared network, and whether its int8 weights have one scale each; ``budget`` as in its folder when empty."""

    network: str
    per_tensor: bool = False

    @property
    def name(self) -> str:
        """As in the table."""
        return self.network + (", per tensor" if self.per_tensor else "")


CASES = (
    Case("ppocr_det"),
    Case("ppocr_rec"),
    Case("magika"),
    Case("efficientnet_views"),
    Case("efficientnet_views", per_tensor=True),
    Case("efficientnet_lite0"),
    Case("minilm_l6"),
    Case("breaking"),
    Case("breaking", per_tensor=True),
)


def prepared(case: Case, nets: Path, work: Path) -> Bundle | None:
    """The network; the one that is built to break is built here."""
    if case.network == "breaking":
        found = breaking.prepare(work / "breaking_net")
    elif (nets / case.network / "meta.json").exists():
        found = bundle.read(nets / case.network)
    else:
        return None
    return Bundle(found.folder, replace(found.meta, name=case.name.replace(", ", "_"), per_tensor=case.per_tensor))


def kept(rows: dict[str, dict[str, Any]]) -> float | None:
    """The share of int8's gain in time that hasten kept, where the fastest int8 has no certificate."""
    narrow = max((rows[n] for n in NARROW if rows[n]["speedup"]), key=lambda row: row["speedup"], default=None)
    ours = rows[HASTEN]["speedup"]
    if narrow is None or narrow["met"] or not ours or narrow["speedup"] <= 1:
        return None
    return float((1 - 1 / ours) / (1 - 1 / narrow["speedup"]))


def foretold(report: Path) -> list[dict[str, Any]]:
    """For each plan of a search: rank correlations of the model's times and harms with the measured ones."""
    found = []
    for plan in json.loads(report.read_text())["plans"]:
        entry = {"engine": plan["engine"], "groups": len(plan["groups"]), "seconds": plan["seconds"]}
        entry["int8"] = sum(group["chosen"] == "int8" for group in plan["groups"])
        for one, other in (("foretold_ms", "measured_ms"), ("summed_harm", "joint_harm")):
            entry |= {one: plan[one], other: plan[other], f"{other}_rank": ranked(plan[one], plan[other])}
        found.append(entry)
    return found


def ranked(one: list[float], other: list[float]) -> float | None:
    """Spearman's rank correlation; None for fewer than four."""
    return float(stats.spearmanr(one, other).statistic) if len(one) > 3 and np.ptp(one) and np.ptp(other) else None


def told(result: dict[str, Any]) -> str:
    """What the contest's own table does not say."""
    lines = []
    if result["kept"] is not None:
        lines.append(f"  int8 alone is over the budget; hasten kept {result['kept']:.0%} of the time that it saves")
    for plan in result["plans"]:
        rank = [plan[f"{k}_rank"] for k in ("measured_ms", "joint_harm")]
        numbers = ["-" if r is None else format(r, ".2f") for r in rank]
        said = f"time {numbers[0]}, harm {numbers[1]}"
        counts = f"{plan['int8']} of {plan['groups']} regions in int8, {len(plan['measured_ms'])} plans timed"
        lines.append(f"  {plan['engine']}: {counts}; foretold against measured, rank correlation: {said}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=Path, required=True, help="folder of prepared networks")
    parser.add_argument("--envs", type=Path, default=Path(".venvs"), help="where the peers' environment is made")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="where artefacts and splits are written")
    parser.add_argument("--only", nargs="*", default=[c.name for c in CASES])
    parser.add_argument("--pairs", type=int, default=30, help="timed rounds")
    parser.add_argument("--seconds", type=float, default=1200, help="limit for one build")
    parser.add_argument("--memory-mb", type=float, default=16_000, help="limit for one build")
    arguments = parser.parse_args()
    limits = peers.Limits(pairs=arguments.pairs, seconds=arguments.seconds, mb=arguments.memory_mb)
    python, work = environment.python(arguments.envs), arguments.work.resolve()
    for case in [c for c in CASES if c.name in arguments.only]:
        network = prepared(case, arguments.nets.resolve(), work)
        if network is None:
            print(f"{case.name}: not prepared, left out", flush=True)
            continue
        result = peers.contest(network, work, python, limits)
        result["kept"] = kept({row["name"]: row for row in result["rows"]})
        report = work / network.meta.name / "hasten" / "report.json"
        result["plans"] = foretold(report) if report.exists() else []
        print(told(result), flush=True)
        peers.keep(case.name, result, RESULTS)
        if case.name in NETWORKS:
            peers.keep(case.name, {k: result[k] for k in ("meta", "rows", "verdict")})


if __name__ == "__main__":
    main()
