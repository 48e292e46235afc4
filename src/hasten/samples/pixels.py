"""One image file to [H, W, C] bytes: its size is checked before it is decoded, and it is cropped before resizing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.errors import InputError
from hasten.samples.guard import regular
from hasten.samples.stream import Array

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 1 << 30
RESIZED_PIXELS = 1 << 24
CROP = 224 / 256  # the usual share of the resized shorter side
ARRAYS = "save the samples as arrays: numpy.savez('data.npz', input_name=array), or the images with 8 bits a channel"
DARK = 15  # of 255: the highest value of 12 bits in 16
SAMPLE_FORMAT, BITS, HIGHEST = 339, 258, 281  # TIFF tags
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Geometry:
    """The form of image that a network takes: ``size`` is (height, width), None where it takes any."""

    channels: int
    first: bool  # channels before height and width
    size: tuple[int, int] | None
    dtype: str


@dataclass
class Seen:
    """What the images of a folder have in common so far."""

    stacks: int = 0  # files with several frames, of which the first is read
    deep: int = 0  # images of 16 bits a channel
    brightest: int = 0  # value among those, of 255

    def notes(self, folder: Path) -> list[str]:
        """Warnings about all images.

        Raises:
            InputError: the images of 16 bits use the lowest 12 bits only, so that they would be nearly black.
        """
        if self.deep and self.brightest <= DARK:
            what = f"the 16-bit images in {folder} use only their lowest 12 bits"
            cause = f"scaled from 16 bits to 8, their highest value is {self.brightest} of 255: they are nearly black"
            raise InputError(what, cause=cause, help=ARRAYS)
        some = f"{self.stacks} files hold several frames: only the first frame of each is read"
        return [some] if self.stacks else []


def decode(path: Path, shape: Geometry, seen: Seen | None = None) -> Array:
    """[H, W, C] uint8: upright (EXIF), RGB or grey, on white if transparent, resized and cropped to ``shape.size``.

    Raises:
        InputError: its values have no known range. Decoders raise anything else.
    """
    from PIL import Image, ImageOps

    seen = seen or Seen()
    with warnings.catch_warnings(), regular(path) as content:
        warnings.simplefilter("error")  # Pillow warns of bombs and of damaged files
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"its {path.stat().st_size:,} bytes are over the cap of {MAX_FILE_BYTES:,}")
        with Image.open(content) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(
                    f"{file.width} x {file.height} pixels are over the cap of {MAX_PIXELS // 10**6} million"
                )
            seen.stacks += bool(getattr(file, "is_animated", False)) and file.format != "MPO"
            deep = _is_deep(file)
            image = _eight_bits(file, path)
            image = ImageOps.exif_transpose(image)
    pixels = fitted(image, shape)
    if deep:
        seen.deep += 1
        seen.brightest = max(seen.brightest, int(pixels.max(initial=0)))
    return pixels


def fitted(image: Image.Image, shape: Geometry) -> Array:
    """An upright image of 8 bits as [H, W, C] uint8, as ``decode`` returns it."""
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if shape.channels == 1 else "RGB")
    if shape.size:
        image = _crop(image, shape.size)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _is_deep(file: Image.Image) -> bool:
    """Does the file hold 16 bits a channel, which are scaled to 8?"""
    return file.mode.startswith("I") or any(";16" in str(part) for part in getattr(file, "tile", ()))


def _eight_bits(file: Image.Image, path: Path) -> Image.Image:
    """The first frame with 8 bits a channel, scaled from the range that the file declares."""
    from PIL import Image

    tags: Any = getattr(file, "tag_v2", {})
    signed = tuple(tags.get(SAMPLE_FORMAT, (1,))) if file.format == "TIFF" else (1,)
    wide = file.mode == "I" and file.format not in ("PNG", "PPM")  # those two hold 16 bits in it
    if file.mode == "F" or wide or set(signed) - {1, 4}:
        kind = "floating-point" if file.mode == "F" else "signed or 32-bit"
        what = f"{path} holds {kind} values, whose range is not known"
        raise InputError(what, cause=f"it is a {file.format} of mode {file.mode}", help=ARRAYS)
    if not file.mode.startswith("I"):
        file.load()
        return file.copy()
    values = np.asarray(file).astype(np.int64).clip(0, 65535)
    highest = _highest(tags)
    scaled = values // 257 if highest == 65535 else (values.clip(0, highest) * 255 + highest // 2) // highest
    image = Image.fromarray(scaled.astype(np.uint8))
    image.info.update({k: v for k, v in file.info.items() if k == "exif"})
    return image


def _highest(tags: Any) -> int:
    """The highest value of a grey image of 16 bits: what a TIFF declares, else all 16 bits."""
    bits = _first(tags.get(BITS))
    declared = _first(tags.get(HIGHEST))
    if declared and 255 < declared <= 65535:
        return declared
    return (1 << bits) - 1 if bits and 8 < bits < 16 else 65535


def _first(value: Any) -> int:
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int | float) else 0


def _crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of the image at ``size``. Of a long image, only the part that is kept is resized."""
    from PIL import Image

    height, width = size
    scale = max(height / image.height, width / image.width) / (CROP if min(size) >= 64 else 1)
    wide, high = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    left, top = (wide - width) // 2, (high - height) // 2
    if wide * high <= RESIZED_PIXELS:
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
        return image.crop((left, top, left + width, top + height))
    across, down = image.width / wide, image.height / high
    right, bottom = min(image.width, (left + width) * across), min(image.height, (top + height) * down)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=(left * across, top * down, right, bottom))
