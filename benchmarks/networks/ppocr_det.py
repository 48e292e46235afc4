"""Where is text on a page? The network marks the core of every line; labels are those cores, exactly known.

It was trained on text boxes shrunk by ``area * (1 - r^2) / perimeter`` (Liao et al., "Real-time scene
text detection with differentiable binarization", AAAI 2020, section 3.3, eq. 5); the labels are shrunk by the
same rule.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.networks import bundle, text_images
from benchmarks.networks.bundle import Array, Bundle, Meta

SIDE = 480
SHRINK = 0.6  # 0.4 in training; what the network marks is wider, and 0.6 fits it best
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
Box = tuple[float, float, float, float]


def core(box: Box) -> Box:
    """A text box (left, top, right, bottom) after the shrinking that the network was trained on."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    offset = width * height * (1 - SHRINK**2) / (2 * (width + height))
    return left + offset, top + offset, right - offset, bottom - offset


def background(rng: random.Random) -> Image.Image:
    """Paper: flat, shaded from side to side, or tinted."""
    paper = np.array([rng.randint(170, 255)] * 3 if rng.random() < 0.5 else [rng.randint(150, 255) for _ in range(3)])
    shade = np.linspace(1, rng.uniform(0.75, 1.0), SIDE)
    grid = paper * (shade[:, None, None] if rng.random() < 0.5 else shade[None, :, None])
    return Image.fromarray(np.broadcast_to(grid, (SIDE, SIDE, 3)).astype(np.uint8))


def page(rng: random.Random, vocabulary: list[str]) -> tuple[Image.Image, Array]:
    """A page of lines in one to three sizes and fonts, and its mask uint8 [1, SIDE, SIDE]."""
    image, mask = background(rng), Image.new("L", (SIDE, SIDE))
    draw, marks = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    fonts = [ImageFont.truetype(rng.choice(text_images.FONTS), rng.randint(14, 40)) for _ in range(rng.randint(1, 3))]
    ink, y = tuple(rng.randint(0, 110) for _ in range(3)), float(rng.randint(5, 60))
    while y < SIDE - 60:
        font, x = rng.choice(fonts), float(rng.randint(8, 120))
        text = text_images.phrase(rng, vocabulary, 5, " ")
        box = draw.textbbox((x, y), text, font=font)
        if box[2] < SIDE - 4 and box[3] < SIDE - 4:
            draw.text((x, y), text, font=font, fill=ink)
            marks.rectangle([round(v) for v in core(box)], fill=1)
            y = box[3]
        y += font.size * rng.uniform(0.5, 1.6)
    return text_images.noisy(image, rng), np.asarray(mask, np.uint8)[None]


def prepare(packages: Path, folder: Path, *, count: int = 320, seed: int = 13) -> Bundle:
    """``count`` pages of 480 x 480."""
    vocabulary, rng = text_images.words(), random.Random(seed)
    images = np.empty((count, 3, SIDE, SIDE), np.float32)
    masks = np.empty((count, 1, SIDE, SIDE), np.uint8)
    for index in range(count):
        image, masks[index] = page(rng, vocabulary)
        pixels = np.asarray(image, np.float32)[..., ::-1] / 255
        images[index] = ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1)
    samples: dict[str, Array] = {"x": images, "labels": masks}
    notes = f"{count} rendered pages, {SIDE} x {SIDE}, masks of the line cores"
    meta = Meta(name="ppocr_det", metric="iou", licence="Apache-2.0", notes=notes)
    return bundle.write(folder, packages / "ppocr_v4/ch_PP-OCRv4_det_infer.onnx", samples, meta)
