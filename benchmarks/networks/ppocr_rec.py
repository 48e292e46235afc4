"""Reading a line of text (CTC, 6,625 classes). Labels are the text that was rendered."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from benchmarks.networks import bundle, text_images
from benchmarks.networks.bundle import Array, Bundle, Meta

WIDTH = 320


def dictionary(model: Path) -> dict[str, int]:
    """Character to class; class 0 is the blank, the last one the space."""
    import onnx

    loaded = onnx.load(model, load_external_data=False)
    text = next(p.value for p in loaded.metadata_props if p.key == "character")
    return {character: index for index, character in enumerate(["", *text.splitlines(), " "])}


def prepare(packages: Path, folder: Path, *, count: int = 2000, seed: int = 7) -> Bundle:
    """``count`` distinct lines, padded to 320 pixels.

    The network is unsure of spaces, and usual scores ignore them. So no line has one (a line is a word, a date, or
    two words joined by a hyphen) and the margins, which it likes to read as spaces, are narrow.
    """
    model = packages / "ppocr_v4/ch_PP-OCRv4_rec_infer.onnx"
    classes, vocabulary, rng = dictionary(model), text_images.words(), random.Random(seed)
    texts = [text_images.phrase(rng, vocabulary, 2, "-") for _ in range(count)]
    lines = [text_images.line(rng, text, widest_margin=2) for text in texts]
    labels = np.full((count, max(len(line.text) for line in lines)), -1, np.int64)
    for row, line in zip(labels, lines, strict=True):
        row[: len(line.text)] = [classes[character] for character in line.text]
    samples: dict[str, Array] = {
        "x": np.stack([text_images.strip(line.image, WIDTH) for line in lines]),
        "labels": labels,
    }
    notes = f"{count} rendered lines, 48 x {WIDTH}, exact text without spaces"
    meta = Meta(name="ppocr_rec", metric="ctc_exact", licence="Apache-2.0", notes=notes)
    return bundle.write(folder, model, samples, meta)
