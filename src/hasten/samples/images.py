"""Folders of images: class sub-folders are the labels, the network's input gives size and layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import EnvironmentFault, HastenError, InputError, UsageError, did_you_mean
from hasten.extras import pip
from hasten.model import TensorSpec
from hasten.samples.pixels import Geometry, Seen, decode
from hasten.samples.store import SampleStore
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
CORRUPT_SHARE = 0.01

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

Prepare = Callable[[Array], Array]

PRESETS: dict[str, Prepare] = {
    "imagenet": lambda x: (x / np.float32(255) - _mean(x, MEAN)) / _mean(x, STD),
    "unit": lambda x: x / np.float32(255),
    "signed": lambda x: (x - np.float32(127)) / np.float32(128),
    "none": lambda x: x,
}


def _mean(x: Array, constants: Array) -> Array:
    return constants if x.shape[-1] == len(constants) else constants.mean(keepdims=True)


def geometry(spec: TensorSpec) -> Geometry:
    """Read layout and size off an input of rank 4 ([N,C,H,W] or [N,H,W,C]) or 3 (without N)."""
    dims = spec.shape[1:] if len(spec.shape) == 4 else spec.shape
    if len(dims) != 3:
        raise InputError(
            f"input {spec} does not take images", help="give arrays instead: an .npz with one array an input"
        )
    first = dims[0] in (1, 3) or dims[2] not in (1, 3)
    channels = dims[0] if first else dims[2]
    height, width = dims[1:] if first else dims[:2]
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return Geometry(channels if isinstance(channels, int) else 3, first, size, spec.dtype)


def read_images(folder: Path, wanted: Wanted, preprocess: str | Prepare | None) -> Opener:
    """Images below ``folder``; direct sub-folders, sorted by name, are classes 0, 1, 2, ..."""
    _need_pillow(folder)
    if isinstance(preprocess, str) and preprocess not in PRESETS:
        raise UsageError(f"no preprocessing is called {preprocess!r}", help=did_you_mean(preprocess, PRESETS))
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    classes = tuple(sorted({p.relative_to(folder).parts[0] for p in files if p.parent != folder}))
    if any(p.parent == folder for p in files):
        classes = ()

    def start(inputs: tuple[TensorSpec, ...]) -> Stream:
        if len(inputs) != 1:
            takes = ", ".join(map(str, inputs))
            raise InputError(
                f"a folder of images cannot feed {len(inputs)} inputs", cause=takes, help="give an .npz instead"
            )
        shape = geometry(inputs[0])
        stream = Stream(iter(()), classes=classes, named=True)
        stream.warnings += _notes(folder, files, classes, preprocess, shape)
        chosen = [files[i] for i in wanted.rows(len(files))]
        prepare = preprocess if callable(preprocess) else PRESETS[preset(preprocess, shape)]
        stream.items = _items(folder, chosen, classes, shape, prepare, stream.warnings)
        return stream

    return start


def preset(preprocess: str | None, shape: Geometry) -> str:
    """The name of the preparation: the user's, else what suits the input."""
    return preprocess or ("none" if shape.dtype == "uint8" else "imagenet")


def _items(
    folder: Path, files: list[Path], classes: tuple[str, ...], shape: Geometry, prepare: Prepare, notes: list[str]
) -> Iterator[Item]:
    skipped: list[str] = []
    seen = Seen()
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            pixels = decode(path, shape, seen)
        except (HastenError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever the damage leads them to
            skipped.append(f"{name} ({str(error)[:80] or type(error).__name__})")
            if len(skipped) > CORRUPT_SHARE * len(files):
                raise InputError(
                    f"{len(skipped)} of {len(files)} images in {folder} cannot be read",
                    cause="; ".join(skipped[:5]),
                    help="remove or mend them; up to 1 % are skipped",
                ) from error
            continue
        label = classes.index(name.split("/")[0]) if classes else None
        yield Item({ONLY: fed(prepare(pixels), shape)}, name, label)
    notes += seen.notes(folder)
    if skipped:
        notes.append(f"skipped {len(skipped)} images that cannot be read: {'; '.join(skipped)}")


def prepared(store: SampleStore, spec: TensorSpec, prepare: Prepare) -> Stream:
    """The images of ``store``, which holds them as bytes in the layout of ``spec``, through the caller's function."""
    shape = geometry(spec)

    def items() -> Iterator[Item]:
        for i, name in enumerate(store.ids):
            pixels = store.sample(i)[spec.name][0]
            x = prepare(pixels.transpose(1, 2, 0) if shape.first else pixels)
            label = None if store.labels is None else store.labels[i]
            yield Item({ONLY: fed(x, shape)}, str(name), label)

    return Stream(items(), classes=store.classes, named=True, warnings=list(store.warnings))


def fed(x: Array, shape: Geometry) -> Array:
    """A prepared image in the type and layout of the input."""
    if shape.dtype != "uint8" or x.dtype != np.uint8:
        x = x.astype(shape.dtype)
    return x.transpose(2, 0, 1) if shape.first else x


def _notes(folder: Path, files: list[Path], classes: tuple[str, ...], preprocess: Any, shape: Geometry) -> list[str]:
    notes = []
    if not classes:
        notes.append(f"{folder} has no class folders: no labels, quality is agreement with the original")
    if preprocess is None and shape.dtype != "uint8":
        notes.append(
            "images are prepared as for ImageNet (mean and standard deviation); --preprocess names another way"
        )
    takes: dict[str, int] = {}
    for path in files:
        if match := re.fullmatch(r"(.+?)[_-](?:frame|img|f)?\d+", path.stem):
            takes[match[1]] = takes.get(match[1], 0) + 1
    largest = max(takes, key=takes.__getitem__, default="")
    if takes and len(classes) < len(takes) <= len(files) // 2 and takes[largest] > 2:
        notes.append(
            f"file names suggest groups ({takes[largest]} begin with {largest!r}): "
            "samples of one origin must not be split"
        )
    return notes


def _need_pillow(folder: Path) -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise EnvironmentFault(f"Pillow is needed to read the images in {folder}", help=pip("images")) from error
