"""``python -m benchmarks.networks PACKAGES DEST [NAME ...]`` prepares networks in ``DEST/NAME``.

Needs ``requirements.txt`` beside this file, and the packages that ``benchmarks.networks.fetch`` brings; what cannot be
prepared is named and left out. Fixed seeds: the same packages give the same samples, except that magika
(``/usr``) and the text networks (fonts) take what the machine holds.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from benchmarks.networks import NETWORKS, OVERSIZED
from benchmarks.networks.fetch import Unavailable, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="folder of fetched packages")
    parser.add_argument("dest", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join({**NETWORKS, **OVERSIZED}))
    arguments = parser.parse_args()
    for name in arguments.names or NETWORKS:
        began = time.perf_counter()
        absent = missing(arguments.packages, name)
        try:
            if absent:
                raise Unavailable(f"without {', '.join(absent)}")
            made = importlib.import_module({**NETWORKS, **OVERSIZED}[name]).prepare(
                arguments.packages, arguments.dest / name
            )
        except Unavailable as why:
            print(f"{name}: left out: {why}", flush=True)
            continue
        size = made.data.stat().st_size / 2**20
        print(f"{name}: {made.meta.notes}; {size:.0f} MB, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
