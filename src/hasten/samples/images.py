"""Folders of images: class sub-folders are the labels, the network's input gives size and layout."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.errors import EnvironmentFault, InputError, UsageError, did_you_mean
from hasten.model import TensorSpec
from hasten.samples.stream import ONLY, Array, Item, Opener, Stream, Wanted

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 100_000_000
CROP = 224 / 256  # the usual share of the resized shorter side
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


@dataclass(frozen=True)
class Geometry:
    """What a network wants of an image: ``size`` is (height, width), None where it takes any."""

    channels: int
    first: bool  # channels before height and width
    size: tuple[int, int] | None
    dtype: str


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
        prepare = preprocess if callable(preprocess) else PRESETS[_preset(preprocess, shape)]
        stream.items = _items(folder, chosen, classes, shape, prepare, stream.warnings)
        return stream

    return start


def _preset(preprocess: str | None, shape: Geometry) -> str:
    return preprocess or ("none" if shape.dtype == "uint8" else "imagenet")


def _items(
    folder: Path, files: list[Path], classes: tuple[str, ...], shape: Geometry, prepare: Prepare, notes: list[str]
) -> Iterator[Item]:
    skipped: list[str] = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            pixels = decode(path, shape)
        except Exception as error:  # decoders raise whatever the damage leads them to
            skipped.append(f"{name} ({str(error)[:80] or type(error).__name__})")
            if len(skipped) > CORRUPT_SHARE * len(files):
                raise InputError(
                    f"{len(skipped)} of {len(files)} images in {folder} cannot be read",
                    cause="; ".join(skipped[:5]),
                    help="remove or mend them; up to 1 % are skipped",
                ) from error
            continue
        x = prepare(pixels)
        if shape.dtype != "uint8" or x.dtype != np.uint8:
            x = x.astype(shape.dtype)
        label = classes.index(name.split("/")[0]) if classes else None
        yield Item({ONLY: x.transpose(2, 0, 1) if shape.first else x}, name, label)
    if skipped:
        notes.append(f"skipped {len(skipped)} images that cannot be read: {'; '.join(skipped)}")


def decode(path: Path, shape: Geometry) -> Array:
    """[H, W, C] uint8: upright (EXIF), RGB or grey, on white if transparent, resized and cropped to ``shape.size``."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of bombs and of damaged files
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(
                    f"{file.width} x {file.height} pixels are over the cap of {MAX_PIXELS // 10**6} million"
                )
            image = _eight_bits(ImageOps.exif_transpose(file))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if shape.channels == 1 else "RGB")
    if shape.size:
        image = _crop(image, shape.size)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _eight_bits(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits; Pillow would clip it at 255
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    image.load()
    return image.copy()


def _crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    height, width = size
    scale = max(height / image.height, width / image.width) / (CROP if min(size) >= 64 else 1)
    wide, high = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - width) // 2, (high - height) // 2
    return image.crop((left, top, left + width, top + height))


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
        raise EnvironmentFault(
            f"Pillow is needed to read the images in {folder}", help="pip install 'hasten[images]'"
        ) from error
