"""Kills and signals at random moments of every command: what is lost, what is left behind, what ends too early?

    python -m benchmarks.kills --kills 200 --signals 200 --out benchmarks/results/kills.json

Each round works in a folder of its own with a small network on a fast engine of the tests: a round kills (-9) the
command or one of its child processes, or sends it SIGTERM, at a moment drawn from its usual duration. A search is
disturbed up to three times, then left to finish, and compared with one that nobody disturbed. Found after each round:

    lost        a finished step that the next run does not know, an output folder that is not whole, a proof not written
    left        temporary folders, names in /dev/shm or beside --out, processes
    different   another verdict, another set of proven candidates, another network
    ended       a killed child ended the search, or an exit code that is not documented
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kept import children, essence, is_proof, living, prepare, since_start, steps, whole

ROOT = Path(__file__).parents[1]
ENGINE = "tests.engines.brisk"
VERBS = ("optimize", "verify", "bench", "apply", "inspect", "doctor")
WAYS = ("kill the command", "kill a child", "SIGTERM")
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 130}
GIVEN = {"m.onnx", "d.npz", "recipe.json"}
EXPECTED = {"out", "applied", ".hasten-run-out"}
SECONDS = 120.0
SOONEST = 0.05
RETRIES = 4


@dataclass
class Round:
    """One place to work in, what was done in it, and what was found wrong."""

    place: Path
    wrong: list[tuple[str, str]] = field(default_factory=list)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    @property
    def temporary(self) -> Path:
        """The temporary folder of everything in this round."""
        return self.place / "tmp"

    @property
    def out(self) -> Path:
        """What the search writes."""
        return self.place / "work" / "out"

    def note(self, kind: str, text: str) -> None:
        """Something is wrong."""
        self.wrong.append((kind, text))


def arguments(verb: str, work: Path, result: Path) -> list[str]:
    """The command line of a verb; ``result`` is a finished output folder."""
    model, data = str(work / "m.onnx"), str(work / "d.npz")
    return {
        "optimize": [model, "--data", data, "--max-drop", "4%", "--engine", ENGINE, "--served-by", ENGINE, "-q",
                     "--out", str(work / "out")],
        "verify": [str(result), "--trust"],
        "bench": [model, model, "--data", data],
        "apply": [str(work / "recipe.json"), model, "--data", data, "--out", str(work / "applied")],
        "inspect": [model],
        "doctor": [],
    }[verb]  # fmt: skip


def start(verb: str, there: Round, result: Path) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    there.temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(there.temporary), "XDG_CACHE_HOME": str(there.place / "cache"),
                   "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "benchmarks.kills",
        "--child",
        verb,
        *arguments(verb, there.place / "work", result),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def child(given: Sequence[str]) -> int:
    """A command as it is, but for pauses and repeats of the final timing, which this is not about."""
    from hasten import cli
    from hasten.measure import timing
    from hasten.search import pace, structure

    structure.PATIENT = float("inf")
    pace.SIZES, timing.PAUSE_SECONDS = ((1, 24),), 0.02
    sys.argv[0] = "hasten"
    return cli.main(given)


def disturb(run: subprocess.Popen[str], way: str, after: float, journal: Path) -> tuple[bool, bool]:
    """Wait, then strike. Returns whether it was still running, and whether something was proven by then."""
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        if run.poll() is not None:
            return False, False
        time.sleep(0.005)
    proven = way == "SIGTERM" and any(map(is_proof, since_start(journal)))
    target = run.pid
    if way == "kill a child":
        found = children(run.pid)
        if not found:
            return False, False
        target = random.choice(found)
    with suppress(ProcessLookupError):
        os.kill(target, signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL)
    return run.poll() is None or run.returncode < 0, proven


def left_behind(there: Round, *, when: str, known: Set[Path] = frozenset()) -> None:
    """Note what a command left; ``known`` is what a killed one had left before it."""
    wait_for_children(there, when)
    if found := {p.name for p in set(there.temporary.iterdir()) - known}:
        there.note("left", f"{when}: {found} in the temporary folder")
    beside = {p.name for p in set((there.place / "work").iterdir()) - known} - GIVEN - EXPECTED
    if beside:
        there.note("left", f"{when}: {sorted(beside)} beside the output")


def finish(run: subprocess.Popen[str]) -> tuple[int, str]:
    """The end of a command: its exit code and what it said."""
    try:
        _, said = run.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        run.kill()
        _, said = run.communicate()
        return 70, f"it hung: {said}"
    return run.returncode, said


def strike(there: Round, verb: str, way: str, after: float, result: Path) -> bool:
    """One command, disturbed. True when it was still running then."""
    journal = there.place / "work" / ".hasten-run-out" / "journal.jsonl"
    known = steps(journal)
    there.temporary.mkdir(exist_ok=True)
    before = {*there.temporary.iterdir(), *(there.place / "work").iterdir()}
    run = start(verb, there, result)
    struck, proven = disturb(run, way, after, journal)
    code, said = finish(run)
    if not struck:
        return False
    there.done[verb, way] += 1
    there.ends[verb, way, code] += 1
    what = f"{verb}, {way} after {after:.2f} s, exit {code}"
    unknown = code not in DOCUMENTED and (code != -signal.SIGKILL or way == "kill a child")
    if (unknown and code != -signal.SIGTERM) or "Traceback" in said:
        there.note("ended", f"{what}: {said[-300:]}")
    if way == "kill a child" and verb == "optimize" and code not in (0, 1):
        there.note("ended", f"{what}: {said[-300:]}")
    if way == "kill the command":
        wait_for_children(there, what)
    else:
        left_behind(there, when=what, known=before)
    lost = known - steps(journal) if not there.out.exists() else set()
    if lost:
        there.note("lost", f"{what}: {len(lost)} of {len(known)} steps")
    if not whole(there.out):
        there.note("lost", f"{what}: the output folder is not whole")
    if proven and not there.out.exists():
        there.note("lost", f"{what}: a proof was not written")
    return True


def strikes(there: Round, verb: str, way: str, after: float, result: Path) -> None:
    """Disturb a command; one that was done before that moment is started again and disturbed earlier."""
    while not strike(there, verb, way, after, result) and after > SOONEST:
        after /= 2


def wait_for_children(there: Round, what: str) -> None:
    """No child outlives its parent."""
    deadline = time.monotonic() + 5
    while alive := living(there.temporary):
        if time.monotonic() > deadline:
            there.note("left", f"{what}: {len(alive)} processes live on")
            return
        time.sleep(0.05)


def search(there: Round, ways: Sequence[str], usual: float, wanted: Mapping[str, Any], rng: random.Random) -> None:
    """A search, disturbed in each of ``ways``, then left to finish."""
    for way in ways:
        strikes(there, "optimize", way, rng.uniform(0.05, 1.0) * usual, Path())
    code, said = finish(start("optimize", there, Path()))
    if code not in (0, 1):
        there.note("ended", f"a search that goes on after {ways}, exit {code}: {said[-300:]}")
        return
    left_behind(there, when=f"a search after {ways}")
    if (there.place / "work" / ".hasten-run-out").exists():
        there.note("left", f"after {ways}: the run folder")
    found = essence(there.out)
    equal = wanted if found["verdict"] == "met" else ["passes"]  # a busy machine's clock may show too little
    there.ends["optimize", found["verdict"], code] += 1
    if "kill a child" not in ways and any(found[k] != wanted[k] for k in equal):
        differing = {k: (found[k], wanted[k]) for k in equal if found[k] != wanted[k]}
        there.note("different", f"after {ways}: {differing}")


def other(there: Round, verb: str, ways: Sequence[str], usual: float, result: Path, rng: random.Random) -> None:
    """Another command, disturbed in each of ``ways``, then left to finish."""
    for way in ways:
        strikes(there, verb, way, rng.uniform(0.05, 1.0) * usual, result)
    code, said = finish(start(verb, there, result))
    if code not in (0, 1):
        there.note("ended", f"{verb} after {ways}, exit {code}: {said[-300:]}")
    left_behind(there, when=f"{verb} after {ways}")
    if (there.place / "work" / ".hasten-run-applied").exists():
        there.note("left", f"{verb} after {ways}: the run folder")


def another(place: Path, of: Round) -> Round:
    """The same in a place of its own."""
    for name in GIVEN:
        (place / "work").mkdir(parents=True, exist_ok=True)
        shutil.copy(of.place / "work" / name, place / "work" / name)
    return Round(place)


def plan(kills: int, signals: int, rng: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Which verb is disturbed in which ways, until there are enough; half of them are searches.

    The command is killed once a search at most: what is under way in two runs that die is left alone, by design.
    """
    left = {"kill the command": kills - kills // 2, "kill a child": kills // 2, "SIGTERM": signals}
    while any(left.values()):
        verb = rng.choice(["optimize", "optimize", *VERBS[1:]])
        ways: list[str] = []
        for way in rng.sample(WAYS, len(WAYS)):
            if left[way]:
                left[way] -= 1
                ways.append(way)
        yield verb, ways


def undisturbed(place: Path) -> tuple[Round, dict[str, float], dict[str, Any]]:
    """A finished search, how long each verb takes, and what must be equal."""
    first = Round(place)
    prepare(place / "work")
    usual = {}
    for verb in VERBS:
        began = time.monotonic()
        code, said = finish(start(verb, first, first.out))
        usual[verb] = time.monotonic() - began
        if code not in (0, 1):
            raise SystemExit(f"{verb} fails without being disturbed: exit {code}\n{said}")
    for _ in range(RETRIES):
        if essence(first.out)["verdict"] == "met":
            return first, usual, essence(first.out)
        finish(start("optimize", first, first.out))
    raise SystemExit("the machine is too busy: undisturbed, nothing is shown to be faster")


def run(kills: int, signals: int, lanes: int, seed: int) -> dict[str, Any]:
    """All rounds; the table."""
    rng, began = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        first, usual, wanted = undisturbed(Path(folder) / "first")
        shared = {p.name for p in Path("/dev/shm").iterdir()} if Path("/dev/shm").is_dir() else set()
        rounds = list(plan(kills, signals, rng))

        def one(number: int) -> Round:
            verb, ways = rounds[number]
            there, own = another(Path(folder) / f"{number}", first), random.Random(f"{seed} {number}")
            if verb == "optimize":
                search(there, ways, usual[verb], wanted, own)
            else:
                other(there, verb, ways, usual[verb], first.out, own)
            for kind, text in there.wrong:
                print(f"{kind}: {text}", flush=True)
            shutil.rmtree(there.place, ignore_errors=True)
            return there

        with ThreadPoolExecutor(lanes) as pool:
            found = list(pool.map(one, range(len(rounds))))
        new = {p.name for p in Path("/dev/shm").iterdir()} - shared if Path("/dev/shm").is_dir() else set()
    return table(found, sorted(new), usual, seed, time.monotonic() - began)


def table(
    found: Sequence[Round], shared: Sequence[str], usual: Mapping[str, float], seed: int, seconds: float
) -> dict[str, Any]:
    """The counts, by verb and way."""
    done = sum((r.done for r in found), Counter[tuple[str, str]]())
    ends = sum((r.ends for r in found), Counter[tuple[str, str, int]]())
    ordered = sorted(ends.items())
    wrong = [(kind, text) for r in found for kind, text in r.wrong]
    return {
        "rounds": len(found),
        "disturbed": {way: sum(n for (_, w), n in done.items() if w == way) for way in WAYS},
        "wrong": Counter(kind for kind, _ in wrong),
        "texts": [f"{kind}: {text}" for kind, text in wrong],
        "verdicts": {v: n for (verb, v, _), n in ordered if v not in WAYS},
        "new in /dev/shm": list(shared),
        "table": [
            {"verb": v, "way": w, "times": n, "exits": {str(c): m for (*a, c), m in ordered if a == [v, w]}}
            for (v, w), n in sorted(done.items())
        ],
        "usual seconds": {verb: round(took, 1) for verb, took in usual.items()},
        "seed": seed,
        "seconds": round(seconds),
        "python": platform.python_version(),
    }  # fmt: skip


def main() -> int:
    """Run, print the table, store it. Exit 1 when anything was lost, left, different or ended."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    told = run(given.kills, given.signals, given.lanes, given.seed)
    for row in told["table"]:
        print(f"{row['verb']:9} {row['way']:17} {row['times']:4}  exits {row['exits']}")
    print(
        f"{told['disturbed']} in {told['seconds']} s; wrong: {dict(told['wrong'])}; /dev/shm: {told['new in /dev/shm']}"
    )
    if given.out:
        given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
