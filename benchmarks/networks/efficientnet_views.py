"""The same network on labelled photographs, each seen in many ways: cropped, mirrored, darker or lighter.

Few free photographs carry an ImageNet label, too few to prove anything about all photographs. So the question here
is a smaller one: how often is the network right on a view drawn at random of these very photographs? Views are drawn
independently, and a thousand of them answer it; the answer says nothing about other photographs.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.networks import bundle, photographs
from benchmarks.networks.bundle import Bundle, Meta

VIEWS = 24  # of each photograph
SMALLEST_SHARE = 0.7  # of either side that a crop keeps
CONTRAST = 0.25  # brightness and contrast change by up to this share


def view(image: Image.Image, rng: random.Random) -> Image.Image:
    """One way to see ``image``: a crop of its own shape, perhaps mirrored, with another exposure."""
    share = rng.uniform(SMALLEST_SHARE, 1)
    width, height = round(image.width * share), round(image.height * share)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    seen = image.crop((left, top, left + width, top + height))
    if rng.random() < 0.5:
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    seen = ImageEnhance.Brightness(seen).enhance(1 + rng.uniform(-CONTRAST, CONTRAST))
    return ImageEnhance.Contrast(seen).enhance(1 + rng.uniform(-CONTRAST, CONTRAST))


def prepare(packages: Path, folder: Path, *, seed: int = 3) -> Bundle:
    """``VIEWS`` views of every labelled photograph; the first is the photograph as it is."""
    from benchmarks.networks import efficientnet_lite0

    rng = random.Random(seed)
    rows, labels, count = [], [], 0
    for image, side, label in photographs.labelled_images(packages):
        seen = [image, *(view(image, rng) for _ in range(VIEWS - 1))]
        rows += [photographs.pixels(one, side) for one in seen]
        labels += [label] * len(seen)
        count += 1
    samples = {"x": np.stack(rows), "labels": np.array(labels, np.int64)}
    notes = f"{len(rows)} views of {count} labelled photographs"
    meta = Meta(
        name="efficientnet_views", metric="top1", budget="2%", notes=notes,
        licence="Apache-2.0 (network); images for research use",
    )  # fmt: skip
    return bundle.write(folder, efficientnet_lite0.exported(packages), samples, meta)
