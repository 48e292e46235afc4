"""``make demo``: a real network, made faster within one percentage point of accuracy, with a test on unseen samples.

Fetches magika's file-type classifier and some 2,100 labelled files (``demo_data.py`` says from where), then runs the
command that you would type for your own network.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from examples.demo_data import prepare

FOLDER = Path(".demo")


def main() -> int:
    """Exit code of ``hasten optimize``."""
    print(f"fetching a network and labelled samples into {FOLDER}/ (39 MB, once)", flush=True)
    model, samples = prepare(FOLDER)
    out = FOLDER / "out"
    line = ["hasten", "optimize", str(model), "--data", str(samples), "--metric", "top1", "--max-drop", "1%"]
    line += ["--out", str(out), "--force"]
    print(f"$ {shlex.join(line)}", flush=True)
    command = Path(sys.executable).with_name("hasten")
    code = subprocess.run([str(command), *line[1:]], check=False).returncode
    if (out / "report.html").exists():
        print(f"\nreport: {(out / 'report.html').resolve()}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
