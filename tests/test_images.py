"""Folders of images: prepared as the network wants them, damaged ones counted."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten.errors import EnvironmentFault, UsageError
from hasten.extras import pip
from hasten.model import TensorSpec
from hasten.samples import SampleStore, load_samples
from hasten.samples.images import geometry
from hasten.samples.pixels import Geometry, decode
from tests.reject import rejected

Image = pytest.importorskip("PIL.Image")
ImageCms = pytest.importorskip("PIL.ImageCms")

FIRST = TensorSpec("x", ("N", 3, 8, 8), "float32")
LAST = TensorSpec("x", ("N", 8, 8, 3), "float32")
RAW = TensorSpec("x", ("N", 8, 8, 3), "uint8")
COLOUR = (200, 100, 50)


def save(path: Path, mode: str = "RGB", colour: Any = COLOUR, size: tuple[int, int] = (20, 12), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def spooled(tmp_path: Path, folder: Path, spec: TensorSpec, **options: Any) -> SampleStore:
    return load_samples(folder, **options).spool(tmp_path / "spool", (spec,))


def test_class_folders_are_labels(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a/sub/3.png", "c/4.jpg"):
        save(tmp_path / "d" / name)
    store = spooled(tmp_path, tmp_path / "d", FIRST)
    assert store.classes == ("a", "b", "c")
    assert np.asarray(store.labels).tolist() == [0, 0, 1, 2]
    assert list(store.ids) == ["a/2.png", "a/sub/3.png", "b/1.png", "c/4.jpg"]
    assert "--preprocess" in store.warnings[0]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("imagenet", [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]),
        ("unit", [200 / 255, 100 / 255, 50 / 255]),
        ("signed", [73 / 128, -27 / 128, -77 / 128]),
        ("none", [200, 100, 50]),
        (lambda pixels: pixels[..., ::-1] / 2.0, [25, 50, 100]),
    ],
)
def test_presets_and_layouts(tmp_path: Path, preset: Any, expected: list[float]) -> None:
    save(tmp_path / "d" / "a" / "1.png")
    first = spooled(tmp_path, tmp_path / "d", FIRST, preprocess=preset).sample(0)["x"]
    last = spooled(tmp_path, tmp_path / "d", LAST, preprocess=preset).sample(0)["x"]
    assert first.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(first[0, :, 3, 4], expected, rtol=1e-5)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a" / "1.png")
    store = spooled(tmp_path, tmp_path / "d", RAW)
    assert store.sample(0)["x"].dtype == np.uint8
    assert store.sample(0)["x"][0, 2, 2].tolist() == list(COLOUR)


def test_layout_is_read_off_the_input() -> None:
    assert geometry(FIRST) == Geometry(3, True, (8, 8), "float32")
    assert geometry(LAST) == Geometry(3, False, (8, 8), "float32")
    assert geometry(TensorSpec("x", (None, 1, "H", "W"), "float32")) == Geometry(1, True, None, "float32")
    assert geometry(TensorSpec("x", (None, None, None, None), "float32")) == Geometry(3, True, None, "float32")
    assert geometry(TensorSpec("x", (8, 8, 1), "uint8")) == Geometry(1, False, (8, 8), "uint8")
    with rejected("does not take images"):
        geometry(TensorSpec("x", ("N", 10), "float32"))


def test_free_sizes_keep_each_images_own(tmp_path: Path) -> None:
    save(tmp_path / "d" / "1.png", size=(20, 12))
    save(tmp_path / "d" / "2.png", size=(9, 30))
    store = spooled(tmp_path, tmp_path / "d", TensorSpec("x", ("N", 3, "H", "W"), "float32"), preprocess="unit")
    assert [store.sample(i)["x"].shape for i in range(2)] == [(1, 3, 12, 20), (1, 3, 30, 9)]
    assert store.labels is None
    assert "no class folders" in store.warnings[0]


def test_modes_become_rgb(tmp_path: Path) -> None:
    any_size = Geometry(3, True, None, "float32")

    def corner(name: str, mode: str, colour: Any, **options: Any) -> list[int]:
        return [int(v) for v in decode(save(tmp_path / name, mode, colour, **options), any_size)[0, 0]]

    assert corner("cmyk.tif", "CMYK", (0, 255, 255, 0)) == [255, 0, 0]
    assert corner("clear.png", "RGBA", (9, 9, 9, 0)) == [255, 255, 255]
    assert corner("grey.png", "L", 77) == [77, 77, 77]
    assert corner("deep.png", "I;16", 257 * 120) == [120, 120, 120]
    assert corner("palette.gif", "P", 0, transparency=0) == [255, 255, 255]
    assert decode(save(tmp_path / "rgb.png"), Geometry(1, True, None, "float32")).shape == (12, 20, 1)


def test_rotation_in_exif_is_undone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to view"
    path = save(tmp_path / "r.jpg", exif=exif)
    assert decode(path, Geometry(3, True, None, "float32")).shape == (20, 12, 3)


def test_resize_keeps_the_middle(tmp_path: Path) -> None:
    """A wide image of three stripes: the crop sees the middle one, not a squeeze of all."""
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[:, 64:128] = 255
    Image.fromarray(pixels).save(tmp_path / "s.png")
    assert decode(tmp_path / "s.png", Geometry(3, True, (32, 32), "float32"))[:, 2:-2].min() > 250


def bomb(path: Path, width: int, height: int) -> None:
    """A PNG of a few bytes that claims ``width`` by ``height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_few_damaged_images_are_skipped_and_listed(tmp_path: Path) -> None:
    for i in range(199):
        save(tmp_path / "d" / "ab"[i % 2] / f"x{i}.png", size=(8, 8), colour=(i, 0, 0))
    bomb(tmp_path / "d" / "a" / "bomb.png", 50_000, 50_000)
    (tmp_path / "d" / "b" / "empty.jpg").write_bytes(b"")
    store = spooled(tmp_path, tmp_path / "d", FIRST, preprocess="unit")
    assert len(store) == 199
    assert store.warnings[0].startswith("skipped 2 images")
    assert "a/bomb.png" in store.warnings[0]
    whole = save(tmp_path / "whole.jpg", size=(64, 64)).read_bytes()
    (tmp_path / "d" / "b" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with rejected("3 of 202 images", "b/half.jpg", "up to 1 %"):
        spooled(tmp_path, tmp_path / "d", FIRST, preprocess="unit")


def test_what_cannot_be_fed_with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "d" / "a" / "1.png")
    with rejected("2 inputs", ".npz"):
        load_samples(tmp_path / "d").spool(tmp_path / "s", (FIRST, LAST))
    with rejected("no preprocessing is called 'imagnet'", "did you mean 'imagenet'", kind=UsageError):
        load_samples(tmp_path / "d", preprocess="imagnet")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with rejected(pip("images"), kind=EnvironmentFault):
        load_samples(tmp_path / "d")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1....")
    with rejected(pip("tables"), kind=EnvironmentFault):
        load_samples(tmp_path / "t.parquet")


def test_limit_takes_from_all_classes_and_names_suggest_groups(tmp_path: Path) -> None:
    for clip in "abcd":
        for frame in range(5):
            save(
                tmp_path / "d" / "01"[clip > "b"] / f"clip{clip}_frame{frame}.png",
                size=(8, 8),
                colour=(frame, ord(clip), 0),
            )
    store = spooled(tmp_path, tmp_path / "d", FIRST, preprocess="unit", limit=4)
    assert np.asarray(store.labels).tolist() == [0, 0, 1, 1]
    assert "file names suggest groups (5 begin with 'clip" in store.warnings[0]
