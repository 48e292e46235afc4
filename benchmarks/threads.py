"""Four threads call the handed-over module of every engine that is installed: is each answer the single-threaded one?

Each case writes a result folder by the functions of a search, imports its ``example.py`` in a process of its own, and
calls ``run`` from all threads at once with inputs of different values and, where they are free, sizes. An answer is
compared only after the same thread's next call, so that memory which calls share would show.

    python -m benchmarks.threads --out benchmarks/results/threads.json

Rows of engines that are not installed here stay in the file as they were.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from tests import networks, results, tiny
from tests.doors import kerases, programs

from hasten import artefacts, registry
from hasten.machine import cores
from hasten.search.enter import enter
from hasten.trial import Candidate, Scalar

THREADS, CALLS, KINDS = 4, 10_000, 12
ROUNDING = 1e-5  # of the largest value of an answer
OV: dict[str, Scalar] = {"precision": "f32", "hint": "LATENCY"}


@dataclass(frozen=True)
class Case:
    """One module: its engine with settings, the network, and the packages that it needs."""

    name: str
    engine: str
    network: str
    package: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


CASES = (
    Case("onnxruntime", "onnxruntime", "cnn", "onnxruntime"),
    Case("onnxruntime, state", "onnxruntime", "state", "onnxruntime", {"threads": 1}),
    Case("openvino", "openvino", "sized", "openvino", OV),
    Case("openvino, state", "openvino", "state", "openvino", OV),
    Case("openvino, sizes fixed", "openvino", "sized", "openvino", {**OV, "sizes": '{"x": [1, 3, 8, 8]}'}),
    Case("openvino, throughput", "openvino", "cnn", "openvino", {**OV, "hint": "THROUGHPUT"}),
    Case("litert", "litert", "cnn", "ai-edge-litert", {}, ("ai_edge_litert",)),
    Case("litert, two threads", "litert", "cnn", "ai-edge-litert", {"threads": 2}, ("ai_edge_litert",)),
    Case("torch", "torch", "program", "torch"),
    Case("torch, compiled", "torch", "program", "torch", {"compile": True}),
    Case("keras on tensorflow", "keras", "keras", "keras", {"backend": "tensorflow"}, ("keras", "tensorflow")),
    Case("keras on torch", "keras", "keras", "keras", {"backend": "torch"}, ("keras", "torch")),
    Case("tensorflow", "tensorflow", "saved_model", "tensorflow-cpu", {}, ("tensorflow", "tf2onnx")),
)


def installed(case: Case) -> bool:
    """True when the packages that the case needs are here."""
    return all(find_spec(package) is not None for package in case.needs or (case.engine,))


def network(name: str, folder: Path) -> Path:
    """A small network as its owner has it."""
    if name == "cnn":
        return networks.cnn(folder / "cnn.onnx", size=16, depth=2)
    if name == "program":
        return programs.save(folder / "cnn.pt2")
    if name == "keras":
        return kerases.make(folder, "two")
    if name == "saved_model":
        return kerases.make(folder, "mlp", "saved_model", "tensorflow")
    net = tiny.Net()
    if name == "state":
        net.add("Add", "x", "h", out="h_out")
        net.add("Tanh", "h_out", out="y")
        made = net.model({"x": ["N", 4], "h": ["N", 4]}, {"y": ["N", 4], "h_out": ["N", 4]})
    else:
        net.add("Relu", net.conv(net.conv("x", 3, 8), 8, 4), out="y")
        made = net.model({"x": ["batch", 3, "h", "w"]}, {"y": ["batch", 4, "h", "w"]})
    made.save(folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def hand_over(case: Case, folder: Path) -> Path:
    """The result folder of a search that chose the case's engine and settings."""
    entered = enter(network(case.network, folder), folder / "entered")
    engine = registry.find("engines", case.engine)
    source = next(entered.forms[f] for f in getattr(engine, "takes", ("onnx",)) if f in entered.forms)
    (folder / "built").mkdir()
    baked = {k: v for k, v in case.settings.items() if k in getattr(engine, "baked", ())}
    artefact = engine.export(source, folder / "built", **baked)
    own = entered.origin.settings if entered.origin.engine == case.engine else {}
    base = results.met()
    chosen = Candidate(steps=(), engine=case.engine, settings={**own, **case.settings})
    artefacts.write(
        folder / "out",
        result=replace(base, winner=replace(base.winner, candidate=chosen)),
        artefact=artefact,
        inputs=entered.inputs,
        splits={},
        extra={
            "outputs": [o.name for o in entered.outputs],
            "state": {"h": "h_out"} if case.network == "state" else {},
        },
        force=False,
        building=folder / "building",
    )
    return folder / "out"


def imported(folder: Path) -> Any:
    """The module ``example.py`` of a result folder."""
    spec = spec_from_file_location("example", folder / "example.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def feeds(module: Any, kinds: int = KINDS) -> list[dict[str, Any]]:
    """Inputs that differ in values, and in sizes where those are free."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(kinds):
        one = {}
        for name, (dtype, shape) in module.INPUTS.items():
            if name in getattr(module, "STATE", {}):
                continue
            size = [n or (1 if not i and k % 2 else 1 + k % 3 if not i else 8 + k % 4) for i, n in enumerate(shape)]
            size[0] = 1 if hasattr(module, "STATE") else size[0]
            one[name] = rng.standard_normal(size).astype(dtype)
        found.append(one)
    return found


def called(module: Any, given: Sequence[Mapping[str, Any]], order: Sequence[int]) -> list[Mapping[str, Any]]:
    """What one caller gets for the inputs in this order: with state, as the steps of one stream."""
    if not hasattr(module, "STATE"):
        return [module.run(given[k]) for k in order]
    found, state = [], None
    for k in order:
        outputs, state = module.run(given[k], state)
        found.append(outputs)
    return found


def kind_of(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Whether an answer is equal, equal but for rounding, or wrong."""
    if list(got) != list(wanted) or any(got[n].shape != w.shape for n, w in wanted.items()):
        return "wrong"
    if all(got[n].tobytes() == w.tobytes() for n, w in wanted.items()):
        return "equal"
    close = all(np.abs(got[n] - w).max() <= ROUNDING * np.abs(w).max() for n, w in wanted.items())
    return "rounding" if close else "wrong"


def hammered(module: Any, threads: int = THREADS, calls: int = CALLS, kinds: int = KINDS) -> Counter[str]:
    """What ``calls`` answers are, of ``threads`` threads that call at once, against those of a single one."""
    given = feeds(module, kinds)
    round_ = list(range(kinds))
    wanted = called(module, given, round_)

    def work(number: int) -> Counter[str]:
        found, left = Counter[str](), calls // threads
        rng = np.random.default_rng(number)
        while left > 0:
            order = round_ if hasattr(module, "STATE") else rng.permutation(kinds).tolist()
            order = order[:left]
            try:
                answers = called(module, given, order)  # kept until all are there: shared memory would show
            except Exception as fault:
                found[f"{type(fault).__name__}: {fault}"[:100]] += len(order)
            else:
                found.update(kind_of(got, wanted[k]) for got, k in zip(answers, order, strict=True))
            left -= len(order)
        return found

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)), Counter[str]())


def row(case: Case, calls: int) -> dict[str, Any]:
    """One case, measured in this process."""
    with tempfile.TemporaryDirectory() as folder:
        module = imported(hand_over(case, Path(folder)))
        begin = time.perf_counter()
        found = hammered(module, calls=calls)
        seconds = time.perf_counter() - begin
    other = {k: n for k, n in found.items() if k not in ("equal", "rounding")}
    counts = {"equal": found["equal"], "rounding": found["rounding"], "wrong": sum(other.values())}
    named = {"case": case.name, "version": version(case.package), "threads": THREADS, "calls": sum(found.values())}
    return {**named, **counts, "reasons": other, "seconds": round(seconds, 2)}


def line(found: Mapping[str, Any]) -> str:
    """One row of the printed table."""
    counts = "".join(f"{found[k]:>10,}" for k in ("calls", "equal", "rounding", "wrong"))
    return f"{found['case']:<24}{found['version']:>12}{counts}{found['seconds']:>9.1f}"


def main() -> int:
    """Run every case that can run here; 1 if one did not, or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--case", help="this one alone, in this process, as JSON")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(row(next(c for c in CASES if c.name == asked.case), asked.calls)))
        return 0
    known = json.loads(asked.out.read_text("utf-8")) if asked.out and asked.out.exists() else {"rows": []}
    rows = {r["case"]: r for r in known["rows"]}
    print(f"{'case':<24}{'version':>12}{'calls':>10}{'equal':>10}{'rounding':>10}{'wrong':>10}{'seconds':>9}")
    lost = False
    for case in filter(installed, CASES):
        command = [sys.executable, "-m", "benchmarks.threads", "--case", case.name, "--calls", str(asked.calls)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{case.name}: {done.stderr[-1500:]}", file=sys.stderr)
            lost = True
            continue
        rows[case.name] = json.loads(done.stdout.splitlines()[-1])
        print(line(rows[case.name]), flush=True)
    if asked.out:
        ordered = [rows[c.name] for c in CASES if c.name in rows]
        asked.out.write_text(json.dumps({"cores": cores(), "rounding": ROUNDING, "rows": ordered}, indent=1) + "\n")
    return int(lost or any(r["wrong"] for r in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
