"""``load_samples``: every form in which data comes, as one stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import HastenError, InputError, UsageError
from hasten.model import TensorSpec
from hasten.samples.arrays import SAVE_AGAIN, in_memory, npz_columns, read_npy, read_npz, stacked
from hasten.samples.datasets import is_dataset, read_dataset
from hasten.samples.guard import out_of_memory, readable, regular, why
from hasten.samples.images import SUFFIXES, read_images
from hasten.samples.iterables import read_folder, read_iterable
from hasten.samples.spool import spooling
from hasten.samples.store import SampleStore
from hasten.samples.stream import Array, Item, Opener, Wanted
from hasten.samples.tables import is_frame, read_csv, read_frame, read_parquet

TAKEN = "give .npz, .npy, .csv, .parquet, a folder of images or of .npz files"
TELL_SECONDS = 1.0
TABLES = frozenset({".csv", ".tsv", ".txt", ".gz"})


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Data that has been recognised but not read: ``open`` starts a pass over it for a network's inputs."""

    open: Opener
    source: str
    state: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)  # how to load them again in another process, from a path
    images: bool = False

    def spool(
        self, directory: Path, inputs: tuple[TensorSpec, ...], tell: Callable[[int], None] = lambda _: None
    ) -> SampleStore:
        """Check every sample against ``inputs`` and write them all to ``directory``, in one pass and bounded memory.

        An array whose rank is the input's minus one gets a batch axis of one; one of the input's rank is fed as it is.
        ``tell`` hears about once a second how many samples are written.

        Raises:
            InputError: names, shapes, dtypes or values do not fit the network, or the source cannot be read.
            EnvironmentFault: the disk is full or not writable. Nothing is left in ``directory`` in either case.
        """
        last = time.monotonic()
        for done in self.spooling(directory, inputs):
            if time.monotonic() > last + TELL_SECONDS:
                last = time.monotonic()
                tell(done)
        return SampleStore.open(directory)

    def spooling(self, directory: Path, inputs: tuple[TensorSpec, ...]) -> Generator[int]:
        """``spool`` in steps: yields the number of samples written, after each."""
        stream = self.open(tuple(s for s in inputs if s.name not in self.state))
        stream.items = _readable(stream.items, self.source)
        return spooling(directory, inputs, self.state, stream)


def load_samples(
    data: object,
    *,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | Callable[[Array], Array] | None = None,
    limit: int | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Samples:
    """Recognise ``data``; nothing is read yet beyond what that takes.

    Args:
        data: a path (``.npz``, ``.npy``, ``.csv``, ``.parquet``, a folder of images or of ``.npz`` files), a dict of
            arrays with a common axis 0, a table of pandas or polars, an iterable of samples or a callable that
            returns one, or ``Samples``.
        labels: the array or column that holds the labels. ``groups``: likewise; a group is never split.
        state: state inputs and the outputs that feed them; each sample is then a sequence [T, ...fed shape].
        preprocess: for images: imagenet, unit, signed, none, or a function of [H, W, C] uint8.
        limit: take this many samples, spread evenly where the number is known.
        columns: for tables, the columns of each input, where their names do not say so.

    Raises:
        UsageError: there is no such path, name or preset. InputError: it is not data that hasten reads.
    """
    if isinstance(data, Samples):
        return replace(data, state={**data.state, **(state or {})})
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} leaves no samples", help="give at least 1")
    wanted = Wanted(labels, groups, limit, columns)
    if isinstance(data, (str, Path)):
        opener, images = _read_path(Path(data), wanted, preprocess)
        given: dict[str, Any] = {"data": data, "labels": labels, "groups": groups, "preprocess": preprocess}
        given |= {"limit": limit, "columns": columns}
        return Samples(open=opener, source=str(data), state=dict(state or {}), given=given, images=images)
    source = "the data"
    if is_dataset(data):
        opener = read_dataset(data, wanted, preprocess)
    elif isinstance(data, Mapping):
        opener = stacked({str(k): in_memory(v, str(k), source) for k, v in data.items()}, wanted, source)
    elif is_frame(data):
        opener = read_frame(data, wanted)
    elif isinstance(data, np.ndarray):
        opener = stacked({"": in_memory(data, "", source)}, Wanted(limit=limit), source)
    else:
        opener = read_iterable(data, wanted)
    return Samples(open=opener, source=source, state=dict(state or {}))


def _read_path(path: Path, wanted: Wanted, preprocess: str | Callable[[Array], Array] | None) -> tuple[Opener, bool]:
    """How to read ``path``, and whether it holds images."""
    check_exists(path)
    if path.is_dir():
        return _read_folder(path, wanted, preprocess)
    with regular(path) as file:
        magic = file.read(8)
    if not magic:
        raise InputError(f"{path} is empty", help=TAKEN)
    if magic.startswith(b"PK"):
        return read_npz(path, wanted), False
    if magic.startswith(b"\x93NUMPY"):
        return read_npy(path, wanted), False
    if magic.startswith(b"PAR1"):
        return read_parquet(path, wanted), False
    if path.suffix.lower() in TABLES:
        return read_csv(path, wanted), False
    raise InputError(f"cannot tell what {path} is", cause=f"it begins with {magic!r}", help=TAKEN)


def check_exists(path: Path) -> None:
    """Raises UsageError when there is nothing at ``path``, with the nearest name."""
    try:
        path.stat()
    except FileNotFoundError as error:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        why = "it is a link to nothing" if path.is_symlink() else ""
        raise UsageError(
            f"no data at {path}", cause=why, help=f"did you mean {near[0]!r}?" if near else TAKEN
        ) from error
    except OSError as error:
        raise UsageError(f"cannot open {path}", cause=str(error.strerror), help="check its permissions") from error


def _read_folder(path: Path, wanted: Wanted, preprocess: str | Callable[[Array], Array] | None) -> tuple[Opener, bool]:
    with readable(path):
        files = sorted(path.glob("*.npz"))
        if len(files) == 1:  # one sample is no data set: the folder of a file with all of them
            return read_npz(files[0], wanted), False
        if files:
            return read_folder(files, wanted, _one_npz), False
        pictures = any(p.suffix.lower() in SUFFIXES for p in path.rglob("*"))
    if pictures:
        return read_images(path, wanted, preprocess), True
    raise InputError(f"no samples in the folder {path}", cause="it holds neither images nor .npz files", help=TAKEN)


def _one_npz(path: Path) -> dict[str, Array]:
    columns = npz_columns(path)
    with readable(path, help=SAVE_AGAIN):
        return {name: column.whole() for name, column in columns.items()}


def _readable(items: Iterator[Item], source: str) -> Iterator[Item]:
    """Damage found midway is the data's fault, not the disk's that we write to."""
    done = 0
    try:
        for item in items:
            yield item
            done += 1
    except HastenError:
        raise
    except MemoryError as error:
        raise out_of_memory(source) from error
    except Exception as error:  # readers raise whatever the damage leads them to
        cause = f"after {done} samples: {why(error)}"
        raise InputError(f"{source} cannot be read to its end", cause=cause, help="copy or save it again") from error
