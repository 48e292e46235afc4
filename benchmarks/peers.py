"""hasten against its peers: ``python -m benchmarks.peers --nets NETS --envs .venvs [--only magika]``.

For each prepared network: build every peer's artefact under a time and memory limit, run hasten by its command, judge
all on the confirm split that hasten cut, time all in interleaved shuffled rounds of warm worker processes, and write a
table and ``results/peers.json``. Earlier networks stay in that file. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import arena as arenas
from benchmarks.contest import entrants, environment, scores, watch
from benchmarks.contest.arena import Arena
from benchmarks.contest.entrants import BASELINE, HASTEN, PEERS, Peer
from benchmarks.contest.feeds import Array
from benchmarks.contest.scores import Row
from benchmarks.contest.workers import Contestant, Worker, WorkerDied, rounds
from benchmarks.networks import NETWORKS, bundle
from benchmarks.networks.bundle import Bundle
from hasten.machine import cpuinfo, machine

RESULTS = Path(__file__).with_name("results") / "peers.json"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``pairs`` rounds are timed; a build may take ``seconds`` and ``mb`` of memory."""

    pairs: int
    seconds: float
    mb: float


def built(
    arena: Arena, python: str, limits: Limits, rows: dict[str, Row], peers: Sequence[Peer]
) -> dict[str, Contestant]:
    """Every peer that could be built; those that could not have their reason in ``rows``."""
    done: dict[str, tuple[str, watch.Spent | None]] = {"": (str(arena.bundle.model), None)}
    ready = {}
    for peer in peers:
        if peer.build not in done:
            out = arena.folder / peer.build
            job = arena.folder / f"{peer.build}.job.json"
            job.write_text(json.dumps({**arena.job, "build": peer.build, "out": str(out)}))
            command = [python, "-m", "benchmarks.contest.build", str(job)]
            log = arena.folder / f"{peer.build}.log"
            spent = watch.watched(command, log, env=environment.variables(), seconds=limits.seconds, mb=limits.mb)
            path = "" if spent.reason else json.loads((out / "built.json").read_text())["path"]
            done[peer.build] = (path, spent)
            print(f"  built {peer.build}: {spent.seconds:.0f} s, {spent.peak_mb:.0f} MB {spent.reason}", flush=True)
        path, used = done[peer.build]
        rows[peer.name] = Row.of_build(peer.name, used)
        if path:
            ready[peer.name] = entrants.contestant(peer, python, path)
    return ready


def add_hasten(arena: Arena, limits: Limits, rows: dict[str, Row]) -> dict[str, Contestant]:
    """hasten's answer, found by its command with its defaults."""
    out = arena.folder / "hasten"
    shutil.rmtree(out, ignore_errors=True)
    spent = entrants.run_hasten(arena.bundle, out, arena.folder / "hasten.log", limits.seconds * 2, limits.mb)
    print(f"  hasten: {spent.seconds:.0f} s, {spent.peak_mb:.0f} MB {spent.reason}", flush=True)
    rows[HASTEN] = Row.of_build(HASTEN, spent)
    return {} if spent.reason else {HASTEN: entrants.hasten_answer(out)}


def contend(arena: Arena, ready: dict[str, Contestant], limits: Limits, rows: dict[str, Row]) -> None:
    """Judge and time all that can be loaded; fills ``rows``."""
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        answers: dict[str, Array] = {}
        metric = None
        for name, contestant in ready.items():
            try:
                worker = Worker(contestant, arena.job, arena.folder / "workers", environment.variables())
                stack.enter_context(worker)
                metric, answers[name] = arenas.rows(arena, worker)
                worker.block(0, 1)
                workers[name] = worker
            except WorkerDied as error:
                rows[name] = rows[name].failed(str(error))
        assert metric is not None
        for name in workers:
            quality = arenas.judged(arena, metric, answers[BASELINE], answers[name], arenas.confirm_groups(arena))
            rows[name] = rows[name].with_quality(quality)
        times = rounds(workers, limits.pairs, BASELINE, arena.bundle.meta.batch)
    for name, own in times.items():
        rows[name] = rows[name].with_times(own, times[BASELINE])


def label(arena: Arena, python: str) -> None:
    """Without labels the float network's answers take their place, before anybody is judged by them."""
    baseline = entrants.contestant(PEERS[0], python, str(arena.bundle.model))
    with Worker(baseline, arena.job, arena.folder / "workers", environment.variables()) as worker:
        arenas.references(arena, worker)


def contest(network: Bundle, work: Path, python: str, limits: Limits, peers: Sequence[Peer] = PEERS) -> dict[str, Any]:
    """One network, from its folder to its rows and its verdict."""
    print(f"{network.meta.name}:", flush=True)
    folder = work / network.meta.name
    shutil.rmtree(folder, ignore_errors=True)
    arena = arenas.build(network, folder)
    label(arena, python)
    rows: dict[str, Row] = {}
    ready = {**built(arena, python, limits, rows, peers), **add_hasten(arena, limits, rows)}
    contend(arena, ready, limits, rows)
    verdict = scores.verdict(list(rows.values()), arena.budget.max_drop)
    print(scores.table(list(rows.values()), verdict, arena.budget.max_drop), flush=True)
    found = {"meta": asdict(arena.bundle.meta), "rows": [asdict(row) for row in rows.values()], "verdict": verdict}
    return {**found, "machine": processor()}


def processor() -> str:
    """The processor's name and family: one name covers several generations."""
    return f"{machine().cpu}, family {cpuinfo().get('cpu family', 'unknown')}"


def keep(name: str, result: dict[str, Any], path: Path = RESULTS) -> None:
    """Put one network's result into the file, leaving the others as they are."""
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[name] = result
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=Path, required=True, help="folder of prepared networks")
    parser.add_argument("--envs", type=Path, default=Path(".venvs"), help="where the peers' environment is made")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="where artefacts and splits are written")
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--pairs", type=int, default=40, help="timed rounds")
    parser.add_argument("--seconds", type=float, default=600, help="limit for one build")
    parser.add_argument("--memory-mb", type=float, default=10_000, help="limit for one build")
    arguments = parser.parse_args()
    limits = Limits(pairs=arguments.pairs, seconds=arguments.seconds, mb=arguments.memory_mb)
    python = environment.python(arguments.envs)
    for name in arguments.only:
        if not (arguments.nets / name / "meta.json").exists():
            print(f"{name}: not prepared, left out", flush=True)
            continue
        keep(name, contest(bundle.read(arguments.nets.resolve() / name), arguments.work.resolve(), python, limits))


if __name__ == "__main__":
    main()
