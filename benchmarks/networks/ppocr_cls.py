"""Is a line of text upside down? Two classes, 0 and 180 degrees."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.networks import bundle, text_images
from benchmarks.networks.bundle import Array, Bundle, Meta

WIDTH = 192


def prepare(packages: Path, folder: Path, *, count: int = 2400, seed: int = 11) -> Bundle:
    """``count`` distinct lines, half of them turned by 180 degrees."""
    vocabulary, rng = text_images.words(), random.Random(seed)
    images, labels = [], []
    for index in range(count):
        image = text_images.line(rng, text_images.phrase(rng, vocabulary, 3, " ")).image
        turned = index % 2
        images.append(text_images.strip(image.transpose(Image.Transpose.ROTATE_180) if turned else image, WIDTH))
        labels.append(turned)
    samples: dict[str, Array] = {"x": np.stack(images), "labels": np.array(labels, np.int64)}
    meta = Meta(
        name="ppocr_cls",
        metric="top1",
        licence="Apache-2.0",
        notes=f"{count} rendered lines, 48 x {WIDTH}, half of them upside down",
    )
    return bundle.write(folder, packages / "ppocr_v4/ch_ppocr_mobile_v2.0_cls_infer.onnx", samples, meta)
