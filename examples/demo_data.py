"""A real network and really labelled samples for the demo, from packages pinned by version and sha256.

The network is magika's file-type classifier (Apache-2.0): 2,048 byte ids in, 214 classes out. The samples are files
inside other packages. A file's label is the class that its extension names (``.py`` is ``python``), which its authors
chose and the network never sees: it gets the content only. A few extensions lie, as everywhere; the network as it is
agrees with about 98 of 100.

Wheels are read as zip archives: nothing in them is installed, imported or unpickled.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NETWORK = "magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl"
MODEL = "magika/models/standard_v3_3/model.onnx"
CLASSES = "magika/models/standard_v3_3/config.min.json"
PLATFORM = "manylinux_2_28_x86_64"  # of the network's wheel; the model inside is the same on every machine
# requirement -> (file, sha256); 39 MB in all
WHEELS = {
    "magika==1.0.3": (NETWORK, "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529"),
    "ansible-core==2.19.3": (
        "ansible_core-2.19.3-py3-none-any.whl",
        "7d312c2b76a3cea19e6dc2648b4ca4eb13233e58a58539fd80ecbb3a77881e72",
    ),
    "awscli==1.42.50": (
        "awscli-1.42.50-py3-none-any.whl",
        "0f7343d8d895b40311d5196a55567819ec02d7f2957a9720b5b5e3942fc262a7",
    ),
    "bokeh==3.8.0": (
        "bokeh-3.8.0-py3-none-any.whl",
        "117c5e559231ad39fef87891a1a1b62b3bfefbaa47d536023537338f46015841",
    ),
    "googleapis-common-protos==1.70.0": (
        "googleapis_common_protos-1.70.0-py3-none-any.whl",
        "b8bfcca8c25a2bb253e0e0b0adaf8c00773e5e6af6fd92397576680b807e0fd8",
    ),
    "pythran==0.18.0": (
        "pythran-0.18.0-py3-none-any.whl",
        "405ecf2100d4926d1a15640c36bd1b19a560386653d0ee4d5234f9421ef4034b",
    ),
    "sphinx==8.2.3": (
        "sphinx-8.2.3-py3-none-any.whl",
        "4405915165f13521d875a8c29c8970800a0141c14cc5416a38feca4ea5d9b9c3",
    ),
}
# extension -> class, where an extension names one type beyond doubt
TYPES = {
    ".py": "python", ".rst": "rst", ".hpp": "cpp", ".ts": "typescript", ".js": "javascript", ".json": "json",
    ".yml": "yaml", ".po": "po", ".proto": "proto", ".png": "png", ".ps1": "powershell", ".toml": "toml",
    ".sty": "latex",
}  # fmt: skip
CAP = 400  # files of a class
SMALLEST, LARGEST = 64, 4_000_000  # bytes of a file
BLOCK, KEPT, PADDING = 4096, 1024, 256


def features(content: bytes) -> list[int]:
    """2,048 byte ids: the first and the last 1,024 bytes without outer white space, padded with 256."""
    head, tail = content[:BLOCK].lstrip()[:KEPT], content[-BLOCK:].rstrip()[-KEPT:]
    return [*head, *[PADDING] * (KEPT - len(head)), *[PADDING] * (KEPT - len(tail)), *tail]


def good(path: Path, digest: str) -> bool:
    """True when the file is there and is the one that was pinned."""
    return path.exists() and sha256(path.read_bytes()).hexdigest() == digest


def fetch(folder: Path) -> None:
    """Download the wheels that are not in ``folder`` yet.

    Raises:
        SystemExit: pip failed, or a file is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [name for name, (file, digest) in WHEELS.items() if not good(folder / file, digest)]
    if wanted:
        line = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        line += ["--only-binary", ":all:", "--platform", PLATFORM, "--dest", str(folder)]
        if subprocess.run([*line, *wanted], check=False).returncode:
            raise SystemExit("error: pip could not download the demo's packages\n  help: check the network connection")
    for file, digest in WHEELS.values():
        if not good(folder / file, digest):
            raise SystemExit(f"error: {folder / file} is not the file that the demo expects\n  help: delete it")


def members(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """(wheel, name inside) of every file of a known type, by class, in an order that only the wheels decide."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file, _ in sorted(WHEELS.values()):
        with zipfile.ZipFile(folder / file) as wheel:
            for entry in sorted(wheel.infolist(), key=lambda e: e.filename):
                kind = TYPES.get(Path(entry.filename).suffix)
                if kind and SMALLEST <= entry.file_size <= LARGEST:
                    found.setdefault(kind, []).append((file, entry.filename))
    return found


def labelled(folder: Path, classes: list[str]) -> dict[str, Array]:
    """``bytes`` int32 [n, 2048] and ``labels`` int64 [n]: up to ``CAP`` files a class, no two alike."""
    order = random.Random(0)  # noqa: S311
    pairs: list[tuple[tuple[int, ...], int]] = []
    with ExitStack() as stack:
        wheels = {file: stack.enter_context(zipfile.ZipFile(folder / file)) for file, _ in WHEELS.values()}
        for kind, names in sorted(members(folder).items()):
            order.shuffle(names)
            rows: dict[tuple[int, ...], None] = {}
            for file, name in names:
                if len(rows) < CAP:
                    rows[tuple(features(wheels[file].read(name)))] = None
            pairs += [(row, classes.index(kind)) for row in rows]
    order.shuffle(pairs)
    return {
        "bytes": np.array([row for row, _ in pairs], np.int32),
        "labels": np.array([label for _, label in pairs], np.int64),
    }


def prepare(folder: Path) -> tuple[Path, Path]:
    """``model.onnx`` and ``samples.npz`` in ``folder``; what is there already is kept."""
    model, samples = folder / "model.onnx", folder / "samples.npz"
    if not (model.exists() and samples.exists()):
        fetch(folder / "wheels")
        with zipfile.ZipFile(folder / "wheels" / NETWORK) as wheel:
            classes: list[str] = json.loads(wheel.read(CLASSES))["target_labels_space"]
            model.write_bytes(wheel.read(MODEL))
        unfinished = folder / "unfinished.npz"
        np.savez(unfinished, allow_pickle=False, **labelled(folder / "wheels", classes))
        unfinished.rename(samples)
    return model, samples
