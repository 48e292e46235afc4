"""The files of a result folder as values: a typed, bounded reader for each. Reading imports nothing and opens no link.

manifest.json   what was made, of what, by what; the digest of every other file; the question that was asked
recipe.json     the steps, the engine and its settings
report.json     the ``trial.Result``
timings.npz     the log ratios of all pairs, by candidate
evidence.json   which samples were seen, and the losses of those that ``prove`` added
to_label.csv    changed inputs without a label; a person fills it in, so that the manifest does not list it
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten import bounded
from hasten.budget import Grade
from hasten.errors import InputError, UsageError
from hasten.model import TensorSpec
from hasten.trial import Machine, Result, Scalar, Step, Verdict, decode

T = TypeVar("T")
MANIFEST, RECIPE, REPORT, TIMINGS = "manifest.json", "recipe.json", "report.json", "timings.npz"
SESSIONS = "sessions.json"  # what verify and bench found later; no part of the result
ESTIMATED = "estimated"  # the folder in a result folder for what has no certificate: a result folder itself
EVIDENCE, TO_LABEL = "evidence.json", "to_label.csv"
NAMES = (RECIPE, REPORT, "report.html", TIMINGS, "example.py", EVIDENCE, MANIFEST)
LARGEST = {MANIFEST: 16 << 20, RECIPE: 16 << 20, REPORT: 32 << 20, TIMINGS: 64 << 20, EVIDENCE: 256 << 20}  # bytes
MOST_PAGE = 256 << 20  # bytes of the other files that are not the network's
RESULTS_OWN = "use the recipe.json of a result"
ITS_OUT = "name the --out folder of hasten optimize"
ELEMENT = re.compile(r"object|bool|str|(u?int(2|4|8|16|32|64))|float(16|32|64)|bfloat16|complex(64|128)|float[48]\w*")

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Batch = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What ``hasten apply`` replays: steps, engine and settings, and what was asked for."""

    steps: Annotated[list[Step], msgspec.Meta(max_length=64)]
    engine: Text
    settings: dict[str, Scalar] = field(default_factory=dict)
    batch: Batch = 1  # samples a request
    hasten: Text = ""
    lossless: bool = False
    label: Text = ""
    budget: Text = ""
    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.95
    metric: Text = ""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The question of a search, so that ``verify`` can ask it again.

    ``model`` and ``data`` are None where they were objects of a Python program. ``metric_by`` says whether the metric
    was chosen by hasten, named, or a Python function, of which ``metric_sha256`` is the identity.
    """

    model: Text | None
    data: Text | None
    made_up: bool
    metric: Text | None
    metric_by: Literal["choice", "name", "function"]
    metric_sha256: Sha256 | None = None
    certificate: Grade = "statistical"
    output: Text | None = None
    output_kinds: dict[str, Text] | None = None
    ignored: tuple[Text, ...] = ()
    labels: Text = "labels"
    groups: Text | None = None
    preprocess: Text | None = None
    columns: dict[str, list[Text]] | None = None
    lower_is_better: bool = False
    also: list[Text] = field(default_factory=list)
    batch: Batch = 1
    threads: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    objective: Literal["latency", "throughput", "size", "memory"] = "latency"
    per_tensor: bool = False
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    served_by: Text | None = None
    state: dict[str, Text] | None = None
    module: Text | None = None
    signature: Text | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """The network and the samples that a result comes from."""

    model: Text
    sha256: Sha256
    data_sha256: Sha256 | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a result folder holds. ``network`` names its network.

    All listed files beside ``NAMES`` and those in ``ESTIMATED`` belong to the network.
    """

    hasten: Text
    schema_version: int
    made_by: Literal["optimize", "apply"]
    network: Text
    files: dict[str, Sha256]
    sizes: dict[str, Count]  # bytes of the same files: what has another size is not read
    source: Source
    machine: Machine
    inputs: tuple[TensorSpec, ...]
    verdict: Verdict | None = None
    started: Text = ""
    splits: dict[str, Count] = field(default_factory=dict)
    seed: int = 0
    looks: int = 1
    outputs: tuple[str, ...] = ()
    shapes: dict[str, tuple[Count, ...]] = field(default_factory=dict)
    command: str | None = None
    batch: Batch = 1
    state: dict[str, Text] = field(default_factory=dict)
    question: Asked | None = None

    def is_written(self, folder: Path, name: str) -> bool:
        """True where the file ``name`` in ``folder`` is still what the manifest says.

        Raises:
            InputError: it is no regular file, or too large for what it is.
        """
        path = bounded.inside(folder, name)
        limit = LARGEST.get(name, MOST_PAGE) if name in NAMES else None
        if not bounded.kind_of(path):
            return False
        if limit is None and bounded.kind_of(path) == bounded.FILE and bounded.size(path) != self.sizes.get(name):
            return False
        return bounded.digest(path, limit) == self.files[name]

    @property
    def network_files(self) -> dict[str, str]:
        """The digests of the files that the network consists of."""
        own = f"{ESTIMATED}/"
        return {name: found for name, found in self.files.items() if name not in NAMES and not name.startswith(own)}


@dataclass(frozen=True)
class Check:
    """One line of ``verify``: ``ok`` is None for what could not be checked, and ``help`` says what to give."""

    name: str
    ok: bool | None
    text: str
    help: str = ""


def _decoded(path: Path, kind: type[T], said: str, help_text: str) -> T:
    data = bounded.read(path, LARGEST.get(path.name, LARGEST[RECIPE]))
    try:
        return decode(data, kind)
    except msgspec.MsgspecError as fault:
        raise UsageError(said, cause=f"{path.name}: {fault}"[:300], help=help_text) from fault


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a result folder.

    Raises:
        UsageError: there is none, or it is not one of this version.
        InputError: it is no regular file, is too large, or names files outside the folder.
    """
    path = folder / MANIFEST
    if not bounded.kind_of(path):
        raise UsageError(f"{folder} is not a result of optimize", cause=f"it has no {MANIFEST}", help=ITS_OUT)
    found = _decoded(path, Manifest, f"{folder} is not a result of optimize by this version of hasten", ITS_OUT)
    for name in found.files:
        bounded.inside(folder, name)
    if not any(name == found.network or name.startswith(f"{found.network}/") for name in found.network_files):
        cause = f"its network {found.network!r:.120} is not among the files that it lists"
        raise UsageError(f"{path} lists no network", cause=cause, help=ITS_OUT)
    for spec in found.inputs:
        if not ELEMENT.fullmatch(spec.dtype):
            cause = f"the input {spec.name!r:.80} has the type {spec.dtype!r:.80}"
            raise InputError(f"{path} describes an input that cannot exist", cause=cause, help=ITS_OUT)
    return found


def read_recipe_file(path: Path) -> Recipe:
    """A recipe, as it is written; whether its names and settings may be used is for the caller to check.

    Raises:
        UsageError: there is none, or a field is missing, unknown or of another type. InputError: it is no regular file.
    """
    return _decoded(path, Recipe, f"{path} is not a recipe", RESULTS_OWN)


def read_report(folder: Path) -> Result:
    """The report of a result folder. Raises as ``read_manifest``."""
    path = folder / REPORT
    return _decoded(path, Result, f"{path} is no report of this version of hasten", ITS_OUT)


def read_timings(folder: Path) -> dict[str, NDArray[np.float64]]:
    """The log ratios of each candidate's pairs by its key; ``noise`` is the baseline against itself.

    Raises:
        UsageError: it is no archive of arrays. InputError: it is no regular file, or too large.
    """
    path = folder / TIMINGS
    content = io.BytesIO(bounded.read(path, LARGEST[TIMINGS]))
    try:
        with zipfile.ZipFile(content) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST[TIMINGS]:
                raise ValueError("it unpacks to more than is read")
            found: dict[str, NDArray[np.float64]] = {}
            for entry in archive.infolist():
                found[entry.filename.removesuffix(".npy")] = _ratios(archive.read(entry))
            return found
    except InputError:
        raise
    except Exception as fault:  # zipfile and numpy raise whatever they meet in a damaged archive
        cause = f"{type(fault).__name__}: {fault}"[:300]
        raise UsageError(f"{path} holds no timings", cause=cause, help=ITS_OUT) from fault


def _ratios(data: bytes) -> NDArray[np.float64]:
    """One ``.npy`` of numbers along one axis; the size that it claims is compared with the bytes before it is read."""
    file = io.BytesIO(data)
    major, _ = np.lib.format.read_magic(file)
    header: Any = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, kind = header(file)
    if kind != np.float64 or len(shape) != 1 or shape[0] * 8 != len(data) - file.tell():
        raise ValueError(f"an array of {kind} and shape {list(shape)[:4]}")
    return np.frombuffer(data, np.float64, offset=file.tell())


def describe(folder: Path, **fields: Any) -> Manifest:
    """The manifest of the files that lie in ``folder``; ``fields`` are those that the files do not show."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    own = (folder / MANIFEST, folder / SESSIONS)
    listed = {p.relative_to(folder).as_posix(): p for p in files if p not in own}
    digests = {name: bounded.digest(path) for name, path in listed.items()}
    sizes = {name: bounded.size(path) for name, path in listed.items()}
    return Manifest(hasten=version("hasten"), files=digests, sizes=sizes, **fields)
