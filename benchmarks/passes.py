"""What the exact clean-up takes out, what it costs, and what it gains: nodes, answers and time before and after.

    python -m benchmarks.passes NETS SCRATCH [NAME ...]

NETS holds the folders that ``python -m benchmarks.networks`` prepares. Beside them: a redundant network, and (with
torch installed) a recurrent cell that PyTorch wrote out step by step, and as a loop. Answers are compared on real
samples in ONNX Runtime without its own rewrites. Times are pairs in alternating order in three fresh processes, so that
no one's luck with memory counts; the interval is exact (sign test). "joined" is ``Join`` behind ``Clean``, "fixed" is
``Specialise``; both are left to the user.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import redundant
from benchmarks.contest.arena import specs
from benchmarks.networks import bundle
from hasten import registry
from hasten.frontends.onnx import load
from hasten.graph import evaluate
from hasten.measure.speed import sign_interval, speedup_of
from hasten.model import Model
from hasten.passes import clean
from hasten.passes.check import Check
from hasten.passes.clean import Clean
from hasten.passes.join import Join
from hasten.passes.rewrite import known
from hasten.passes.specialise import Specialise
from hasten.protocols import Context, Feeds, NotApplicable, Pass
from hasten.samples import load_samples
from hasten.search.workshop import Calibration

RESULT = Path(__file__).parent / "results" / "passes.json"
ENGINES: dict[str, dict[str, Any]] = {
    "onnxruntime": {"spinning": False},
    "openvino": {"precision": "f32", "hint": "LATENCY"},
}
COMPARED, PROCESSES, PAIRS, BURST = 24, 3, 16, 0.02
REQUESTED: dict[str, Pass] = {"joined": Join(), "fixed": Specialise()}
Array = NDArray[Any]


@dataclass(frozen=True)
class Given:
    """A network with the inputs that it is judged on."""

    name: str
    path: Path
    feeds: tuple[Feeds, ...]

    @property
    def context(self) -> Context:
        return Context(feeds=lambda: iter(self.feeds), stats=lambda model, names, channels=(): {})


def real(folder: Path, scratch: Path) -> Given:
    found = bundle.read(folder)
    samples = load_samples(found.data, groups=found.meta.groups or None, state=found.meta.state)
    store = samples.spool(scratch / found.meta.name, specs(found.model)[0])
    calibration = Calibration(store, tuple(range(COMPARED)), scratch / f"{found.meta.name}.npz")
    feeds = tuple(dict(one) for one in islice(calibration.steps(load(found.model)), COMPARED))
    return Given(found.meta.name, found.model, feeds)


def made(name: str, path: Path, shapes: dict[str, tuple[int, ...]]) -> Given:
    random = np.random.default_rng(1)
    feeds = [{k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()} for _ in range(COMPARED)]
    return Given(name, path, tuple(feeds))


def on_the_spot(scratch: Path) -> list[Given]:
    path = scratch / "redundant.onnx"
    found = [made("redundant", path, redundant.redundant(path))]
    with suppress(ImportError):
        found += [made(n, scratch / f"{n}.onnx", s) for n, s in redundant.recurrent(scratch).items()]
    return found


def kinds(model: Model) -> Counter[str]:
    """Nodes by operator, constants aside, those of bodies included."""
    return Counter(node.op_type for graph in model.graph.graphs() for node in graph if node.op_type != "Constant")


def sites(given: Given, model: Model) -> Counter[str]:
    """How often each rewrite was applied."""
    check = Check.of(model.graph, given.feeds[:2])
    start = model.clone_graph()
    known(start)
    return Counter(site.rewrite for site in clean.run_stages(start, check.problem).done)


def row(given: Given, scratch: Path) -> dict[str, Any]:
    model = load(given.path)
    begin = time.process_time()
    try:
        cleaned = Clean()(model, given.context)
    except NotApplicable:
        cleaned = model
    took = time.process_time() - begin
    answers = evaluate.run(model.graph, given.feeds)
    output, difference = evaluate.worst_difference(answers, evaluate.run(cleaned.graph, given.feeds))
    before, after = kinds(model), kinds(cleaned)
    found: dict[str, Any] = {
        "network": given.name,
        "nodes": [before.total(), after.total()],
        "operators": {k: [before[k], after[k]] for k in sorted(before | after) if before[k] != after[k]},
        "rewrites": dict(sites(given, model).most_common()),
        "history": list(cleaned.history),
        "clean_cpu_seconds": round(took, 2),
        "samples": len(given.feeds),
        "difference": difference,
        "output": output,
    }
    variants = {"given": model, "clean": cleaned}
    for label, step in REQUESTED.items():
        with suppress(NotApplicable):
            variants[label] = step(cleaned, given.context)
    return found | {"times": times(given, variants, scratch)}


def times(given: Given, variants: dict[str, Model], scratch: Path) -> dict[str, Any]:
    """Per engine and variant: milliseconds, and the speed-up against the network as given."""
    for label, model in variants.items():
        model.save(scratch / f"{given.name}-{label}.onnx")
    np.savez(scratch / f"{given.name}-feeds.npz", allow_pickle=False, **given.feeds[0])
    found: dict[str, Any] = {}
    for engine in ENGINES:
        command = [sys.executable, "-m", "benchmarks.passes", "--child", engine, str(scratch), given.name, *variants]
        runs = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(PROCESSES)]
        if any(r.returncode for r in runs):
            found[engine] = {"failed": runs[0].stderr.strip().splitlines()[-1][:200]}
            continue
        rounds = np.concatenate([json.loads(r.stdout.splitlines()[-1]) for r in runs])
        found[engine] = {label: _told(rounds[:, 0], rounds[:, k]) for k, label in enumerate(variants)}
    return found


def _told(base: Array, own: Array) -> dict[str, Any]:
    ratios = np.log(base / own)
    low, high = sign_interval(ratios) if ratios.any() else (1.0, 1.0)
    return {
        "ms": round(float(np.median(own)), 4), "speedup": round(speedup_of(ratios), 3),
        "low": round(low, 3), "high": round(high, 3), "pairs": len(ratios),
    }  # fmt: skip


def child(engine: str, scratch: Path, name: str, labels: Sequence[str]) -> None:
    """Milliseconds of every variant, round by round, in an order that changes."""
    runtime, random = registry.find("engines", engine), np.random.default_rng()
    with np.load(scratch / f"{name}-feeds.npz") as arrays:
        feeds = {k: arrays[k] for k in arrays.files}
    runners = []
    for label in random.permutation(labels):
        folder = scratch / "exported"
        folder.mkdir(exist_ok=True)
        runners.append((label, runtime.load(runtime.export(scratch / f"{name}-{label}.onnx", folder), ENGINES[engine])))
    runners.sort(key=lambda pair: labels.index(pair[0]))
    counts = [max(1, int(BURST / _seconds(runner, feeds, 3))) for _, runner in runners]
    rounds = np.zeros((PAIRS, len(runners)))
    for k in range(PAIRS):
        for i in random.permutation(len(runners)):
            runners[i][1].run(feeds)
            rounds[k, i] = _seconds(runners[i][1], feeds, counts[i]) * 1e3
    print(json.dumps(rounds.tolist()))


def _seconds(runner: Any, feeds: Feeds, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        runner.run(feeds)
    return (time.perf_counter() - begin) / count


def show(found: dict[str, Any]) -> None:
    before, after = found["nodes"]
    cost = f"{found['difference']:>8.1e} {found['clean_cpu_seconds']:>6.2f} s"
    print(f"{found['network']:20} {before:>4} -> {after:<4} {cost}")
    for engine, rows in found["times"].items():
        if "failed" in rows:
            print(f"    {engine}: {rows['failed']}")
            continue
        for label, told in list(rows.items())[1:]:
            ms = f"{rows['given']['ms']:>8.3f} -> {told['ms']:>8.3f} ms"
            gain = f"{told['speedup']:.2f}x [{told['low']:.2f}, {told['high']:.2f}] n={told['pairs']}"
            print(f"    {engine:12} {label:8} {ms}  {gain}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    old = {r["network"]: r for r in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
    folders = {p.parent.name: p.parent for p in sorted(options.nets.glob("*/meta.json"))}
    spot = {g.name: g for g in on_the_spot(options.scratch)}
    for name in options.names or [*folders, *spot]:
        given = spot[name] if name in spot else real(folders[name], options.scratch)
        old[name] = row(given, options.scratch)
        show(old[name])
        RESULT.write_text(json.dumps({"rows": list(old.values())}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5:])
    else:
        main()
