"""Mutated TensorFlow Lite files through ``accepts`` and ``load``: each is refused with a reason, or a valid graph.

    python -m benchmarks.fuzz_tflite model.tflite [more.tflite ...] --count 10000

Children do the reading, so that one that dies or hangs is a finding and not the end; each may take 30 s of the
processor a file, and 4 GiB. A finding is a death, a hang, an exception that is none of ours, or a graph that the ONNX
checker rejects; its seed repeats it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

RESULT = Path(__file__).parent / "results" / "fuzz_tflite.json"
BATCH, SECONDS, MEMORY = 250, 30, 4 << 30
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0)


def mutate(data: bytes, seed: int) -> bytes:
    """One to four changes; three of four hit the tables, which lie around the weights."""
    chance, content = random.Random(seed), bytearray(data)
    for _ in range(chance.randint(1, 4)):
        edge = min(len(content), 1 << 15)
        if chance.random() < 0.75:
            at = chance.choice((chance.randrange(edge), len(content) - 1 - chance.randrange(edge)))
        else:
            at = chance.randrange(len(content))
        kind = chance.randrange(6)
        if kind < 2:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            content[at : at + 4] = chance.choice(EXTREMES).to_bytes(4, "little")
        elif kind == 3:
            content[at : at + 4] = chance.randbytes(4)
        elif kind == 4:
            source = chance.randrange(len(content))
            content[at : at + 8] = content[source : source + 8]
        else:
            del content[at : at + chance.choice((1, 4, 64))]
        if len(content) < 16:
            break
    return bytes(content[: chance.randrange(len(content))] if chance.random() < 0.03 else content)


def read(path: Path) -> str:
    """``loaded``, or the first words of why not."""
    import onnx
    import onnx_ir as ir

    from hasten.errors import InputError
    from hasten.frontends import tflite

    if not tflite.accepts(path):
        return "not accepted"
    try:
        model = tflite.load(path)
    except InputError as refusal:
        return "refused: " + str(refusal).replace(str(path), "FILE").splitlines()[1].strip()[:40]
    onnx.checker.check_model(ir.to_proto(model.graph))
    return "loaded"


def child(file: Path, first: int, count: int) -> None:
    """Read the files of ``count`` seeds; a line each, the seed first, before and after."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    data = file.read_bytes()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.tflite"
        for seed in range(first, first + count):
            path.write_bytes(mutate(data, seed))
            print(f"{seed} start", flush=True)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: others may hold it
            try:
                told = read(path)
            except Exception as fault:
                told = f"FINDING {type(fault).__name__}: {str(fault)[:100]}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(f"{seed} {told}", flush=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}", flush=True)


def run(file: Path, count: int, first: int) -> dict[str, Any]:
    """``count`` mutations of one file."""
    told: Counter[str] = Counter()
    findings, seed, peak, began = [], first, 0, time.monotonic()
    while seed < first + count:
        size = min(BATCH, first + count - seed)
        line = [sys.executable, "-m", "benchmarks.fuzz_tflite", str(file), "--child", str(seed), "--count", str(size)]
        done = subprocess.run(line, capture_output=True, text=True)
        last = seed - 1
        for text in done.stdout.splitlines():
            key, _, rest = text.partition(" ")
            if key == "peak":
                peak = max(peak, int(rest))
            elif rest == "start":
                last = int(key)
            else:
                told[rest] += 1
                if rest.startswith("FINDING"):
                    findings.append({"seed": int(key), "what": rest})
        if done.returncode != 0:
            findings.append({"seed": last, "what": f"exit {done.returncode}", "log": done.stderr[-300:]})
            told[f"DIED {done.returncode}"] += 1
            seed = last + 1
        else:
            seed += size
        print(f"{file.name}: {seed - first} of {count}, {len(findings)} findings", flush=True)
    return {
        "bytes": file.stat().st_size, "files": count, "loaded": told["loaded"], "not_accepted": told["not accepted"],
        "refused": sum(n for text, n in told.items() if text.startswith("refused")), "findings": findings,
        "peak_mib": peak, "seconds": round(time.monotonic() - began), "reasons": dict(told.most_common(25)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=10000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.files[0], given.child, given.count)
        return
    each = -(-given.count // len(given.files))
    if absent := [str(file) for file in given.files if not file.is_file()]:
        parser.error(f"no file {', '.join(absent)}")
    for file in given.files:
        row, name = run(file, each, given.seed), file.name
        known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**known, name: row}, indent=2) + "\n")
        print(name, {k: v for k, v in row.items() if k not in ("reasons", "findings")})
        for finding in row["findings"]:
            print("  ", finding)


if __name__ == "__main__":
    main()
