"""Photographs that ordinary packages carry, cut into regions that do not overlap."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.networks.bundle import Array

SIDE, RESIZED = 224, 256
SMALLEST_CELL = 120  # pixels; below that a region is a smear
STAMPS = Path("debian/tuxpaint-stamps-default/usr/share/tuxpaint/stamps")
OPENCV = Path("debian/opencv-doc/usr/share/doc/opencv-doc/examples/data")
FRAME_STEP = 40


def pixels(image: Image.Image, resized: int = RESIZED) -> Array:
    """The network's own preprocessing: shorter side to ``resized``, central 224 x 224, ``(pixel - 127) / 128``."""
    scale = resized / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    crop = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), np.float32)
    return ((crop - 127) / 128).transpose(2, 0, 1)


def on_white(path: Path) -> Image.Image:
    """A cut-out on a white square."""
    cut = Image.open(path).convert("RGBA")
    side = max(cut.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    square.alpha_composite(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return square.convert("RGB")


def cells(image: Image.Image, most: int = 3) -> Iterator[Image.Image]:
    """The cells of a grid of up to ``most`` by ``most``, none smaller than ``SMALLEST_CELL``."""
    across, down = (min(most, side // SMALLEST_CELL) for side in image.size)
    if across * down < 2:
        return
    width, height = image.width / across, image.height / down
    for row in range(down):
        for column in range(across):
            box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
            yield image.crop(tuple(round(v) for v in box))  # type: ignore[arg-type]


def frames(path: Path) -> Iterator[Image.Image]:
    """Every fortieth frame of a video."""
    import av

    with av.open(str(path)) as video:
        for index, frame in enumerate(video.decode(video=0)):
            if index % FRAME_STEP == 0:
                yield frame.to_image()


def sources(packages: Path) -> Iterator[tuple[str, Image.Image, int]]:
    """(group, image, shorter side after scaling) of every photograph, stamp and video frame."""
    folders = [packages / "data_photos", packages / "data_imagenet20", packages / OPENCV, packages / "debian/darknet"]
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in {".png", ".jpg"}):
            yield str(path.relative_to(packages)), Image.open(path).convert("RGB"), RESIZED
    for path in sorted((packages / STAMPS).rglob("*.png")):
        yield str(path.relative_to(packages)), on_white(path), SIDE
    for path in sorted((packages / OPENCV).glob("*.avi")):
        for image in frames(path):
            yield str(path.relative_to(packages)), image, RESIZED


def labelled(packages: Path) -> Iterator[tuple[Array, int]]:
    """(pixels, ImageNet class) of every labelled photograph."""
    for image, side, label in labelled_images(packages):
        yield pixels(image, side), label


def labelled_images(packages: Path) -> Iterator[tuple[Image.Image, int, int]]:
    """(image, shorter side after scaling, class): photographs named by their class, stamps named exactly as one."""
    names = json.loads((packages / "data_imagenet_names/imagenet1k_label_to_names.json").read_text())
    classes: dict[str, set[int]] = {}
    for index, synonyms in names.items():
        for name in synonyms.split(","):
            classes.setdefault(name.strip().lower(), set()).add(int(index))
    for path in sorted((packages / "data_imagenet20").glob("imagenet_*.jpg")):
        yield Image.open(path).convert("RGB"), RESIZED, int(path.stem.split("_")[-1])
    for path in sorted((packages / STAMPS).rglob("*.png")):
        text = path.with_suffix(".txt")
        first = text.read_text(errors="replace").split("\n")[0] if text.exists() else ""
        name = re.sub(r"^(an?|the|some|a pair of|two|one)\s+", "", first.strip().lower().strip(' .!"“”')).strip()
        if "cartoon" not in path.parts and len(classes.get(name, ())) == 1:
            yield on_white(path), SIDE, next(iter(classes[name]))
