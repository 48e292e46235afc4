"""Rendered text with exactly known content: single lines, and pages with the place of every line."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.networks.bundle import Array
from benchmarks.networks.fetch import Unavailable

FONTS = [
    str(path)
    for family in ("dejavu", "liberation")
    for path in sorted(Path("/usr/share/fonts/truetype", family).glob("*.ttf"))
    if "Math" not in path.name
]
LICENCES = Path("/usr/share/common-licenses")
HEIGHTS = (14, 18, 24, 32, 48)  # pixels that a photographed line of text has before it is scaled to the network


@dataclass(frozen=True)
class Line:
    """One rendered line: ``image`` is RGB, ``text`` what it says."""

    image: Image.Image
    text: str


def words() -> list[str]:
    """Words with their punctuation, in the order of two long licences."""
    if not FONTS or not LICENCES.is_dir():
        raise Unavailable(f"no DejaVu or Liberation fonts, or no {LICENCES} (Debian: fonts-dejavu-core, base-files)")
    prose = (LICENCES / "GPL-3").read_text() + (LICENCES / "Apache-2.0").read_text()
    return re.findall(r"[A-Za-z][A-Za-z,.;'()-]{1,14}", prose)


def phrase(rng: random.Random, vocabulary: list[str], longest: int, joint: str) -> str:
    """Some neighbouring words, or, one time in four, a date."""
    if rng.random() < 0.25:
        return f"{rng.randint(1, 28):02d}/{rng.randint(1, 12):02d}/{rng.randint(1990, 2026)}"
    start = rng.randrange(len(vocabulary) - longest)
    return joint.join(vocabulary[start : start + rng.randint(1, longest)])


def noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    """Blur half of the images, add grain of three strengths to all."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    grain = np.random.default_rng(rng.getrandbits(32)).standard_normal((image.height, image.width, 3))
    pixels = np.asarray(image, np.float32) + grain * rng.choice([0, 6, 14])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def line(rng: random.Random, text: str, *, widest_margin: int = 8) -> Line:
    """``text`` in a random font, size, contrast and resolution, with a margin of a few pixels around it."""
    font = ImageFont.truetype(rng.choice(FONTS), rng.randint(18, 40))
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    margin, paper, ink = rng.randint(widest_margin // 4, widest_margin), rng.randint(150, 255), rng.randint(0, 110)
    image = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin), (paper, paper, paper))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=font, fill=(ink, ink, ink))
    height = rng.choice(HEIGHTS)
    width = max(8, round(image.width * height / image.height))
    return Line(noisy(image.resize((width, height), Image.Resampling.BILINEAR), rng), text)


def strip(image: Image.Image, width: int, height: int = 48) -> Array:
    """float32 [3, height, width] in [-1, 1], blue first, scaled to ``height`` and padded on the right with 0."""
    used = min(width, max(8, round(image.width * height / image.height)))
    pixels = np.asarray(image.resize((used, height), Image.Resampling.BILINEAR), np.float32)[..., ::-1]
    out = np.zeros((3, height, width), np.float32)
    out[:, :, :used] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return out
