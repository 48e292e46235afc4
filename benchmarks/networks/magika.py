"""File types from bytes: 214 classes. Labels are the extensions of files that this machine holds."""

from __future__ import annotations

import json
import os
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.networks import bundle
from benchmarks.networks.bundle import Array, Bundle, Meta

BLOCK, KEPT, PADDING = 4096, 1024, 256
SMALLEST, LARGEST = 64, 4_000_000
# extension -> class, only where an extension names one type beyond doubt
TYPES = {
    "py": "python", "pyc": "pythonbytecode", "gz": "gzip", "rst": "rst", "json": "json", "png": "png",
    "yaml": "yaml", "yml": "yaml", "so": "elf", "html": "html", "js": "javascript", "cmake": "cmake", "svg": "svg",
    "md": "markdown", "jar": "jar", "hpp": "cpp", "patch": "diff", "c": "c", "sql": "sql", "php": "php",
    "gif": "gif", "css": "css", "sh": "shell", "tcl": "tcl", "f90": "fortran", "wav": "wav", "zip": "zip",
    "whl": "zip", "xml": "xml", "ini": "ini", "toml": "toml", "ttf": "ttf", "ts": "typescript", "csv": "csv",
    "npy": "npy", "npz": "npz", "wasm": "wasm", "ipynb": "ipynb", "pl": "perl", "pm": "perl", "jpg": "jpeg",
    "pem": "pem", "pdf": "pdf", "woff": "woff", "woff2": "woff2", "java": "java", "go": "go", "rs": "rust",
    "rb": "ruby", "lua": "lua", "bat": "batch", "xz": "xz", "bz2": "bzip", "po": "po",
}  # fmt: skip


def features(content: bytes) -> list[int]:
    """2,048 byte ids of a file: its first and its last 1,024 bytes without outer white space, padded with 256."""
    head, tail = content[:BLOCK].lstrip()[:KEPT], content[-BLOCK:].rstrip()[-KEPT:]
    return [*head, *[PADDING] * (KEPT - len(head)), *[PADDING] * (KEPT - len(tail)), *tail]


def found(roots: list[Path], types: dict[str, str]) -> dict[str, list[Path]]:
    """Files below ``roots`` by class, in an order that does not depend on the file system."""
    by_class: dict[str, list[Path]] = {}
    for root in roots:
        for folder, below, files in os.walk(root):
            below.sort()
            for name in sorted(files):
                stem, dot, extension = name.rpartition(".")
                if dot and stem and extension in types:
                    by_class.setdefault(types[extension], []).append(Path(folder, name))
    return by_class


def labelled(roots: list[Path], types: dict[str, str], cap: int, seed: int) -> Iterator[tuple[list[int], str]]:
    """(features, class) of up to ``cap`` distinct files a class."""
    for kind, paths in sorted(found(roots, types).items()):
        random.Random(seed).shuffle(paths)
        seen: set[bytes] = set()
        for path in paths:
            if len(seen) == cap:
                break
            if path.is_symlink() or not SMALLEST <= path.stat().st_size <= LARGEST:
                continue
            row = features(path.read_bytes())
            key = np.array(row, np.int32).tobytes()
            if key not in seen:
                seen.add(key)
                yield row, kind


def prepare(packages: Path, folder: Path, *, cap: int = 160, seed: int = 0) -> Bundle:
    """At most ``cap`` files of a class from ``/usr`` and this Python's packages."""
    names: list[str] = json.loads((packages / "magika/config.min.json").read_text())["target_labels_space"]
    types = {extension: kind for extension, kind in TYPES.items() if kind in names}
    roots = [Path("/usr"), Path(sysconfig.get_path("purelib"))]
    pairs = list(labelled(roots, types, cap, seed))
    random.Random(seed).shuffle(pairs)
    samples: dict[str, Array] = {
        "bytes": np.array([row for row, _ in pairs], np.int32),
        "labels": np.array([names.index(kind) for _, kind in pairs], np.int64),
    }
    meta = Meta(
        name="magika",
        metric="top1",
        licence="Apache-2.0",
        notes=f"{len(pairs)} files of this machine, {len({k for _, k in pairs})} types, labels by extension",
    )
    return bundle.write(folder, packages / "magika/model.onnx", samples, meta)
