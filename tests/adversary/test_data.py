"""Data made to hang, to fill the memory or to be misread: it is read in a worker, or refused with the user's path."""

from __future__ import annotations

import gzip
import io
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

import hasten
from hasten import cli
from hasten.errors import EnvironmentFault, InputError, UsageError
from hasten.frontends.objects import as_file
from hasten.machine import private_bytes
from hasten.model import TensorSpec
from hasten.samples import SampleStore, guard, load_samples, reader, tables
from hasten.search import enter, reading
from hasten.search.reading import read
from hasten.worker import Worker
from tests import networks
from tests.reject import rejected

X = TensorSpec("x", ("N", 3), "float32")
IMAGE = TensorSpec("image", ("N", 3, 224, 224), "float32")
SRC = Path(hasten.__file__).parent.parent


def rows(n: int) -> networks.F32:
    return np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)


def header(path: Path, shape: tuple[int, ...], size: int, descr: str = "<f4") -> Path:
    """An ``.npy`` whose header names ``shape`` and whose ``size`` bytes of data are a hole."""
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": shape})
    path.write_bytes(head.getvalue())
    os.truncate(path, head.tell() + size)
    return path


def test_special_files_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.npz"))
        for place in (tmp_path / "fifo.csv", tmp_path / "s.npz", Path("/dev/zero")):
            start = time.monotonic()
            with rejected(f"{place} is not a regular file"):
                read(place, tmp_path / "out", (X,))
            assert time.monotonic() - start < 20
    model = networks.mlp(tmp_path / "m.onnx")
    assert cli.main(["optimize", str(model), "--data", str(tmp_path / "fifo.csv"), "--out", str(tmp_path / "o")]) == 3
    assert f"{tmp_path / 'fifo.csv'} is not a regular file" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_reader_is_another_process_and_says_how_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "d.npz", x=rows(40), labels=np.arange(40))
    monkeypatch.setattr(reading, "TURN_SECONDS", 0.0)
    told: list[int] = []
    store = read(tmp_path / "d.npz", tmp_path / "out", (X,), tell=told.append)
    assert store.digest == load_samples(tmp_path / "d.npz").spool(tmp_path / "here", (X,)).digest
    assert told == sorted(set(told))
    assert len(told) > 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", "here", "out"]


def test_messages_name_the_path_as_the_user_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.npz").write_bytes(b"PK\x03\x04 damaged")
    monkeypatch.chdir(tmp_path)
    with rejected("cannot read sub/d.npz"):
        read("sub/d.npz", tmp_path / "out", (X,))
    with rejected("no data at sub/e.npz", "did you mean 'd.npz'", kind=UsageError):
        read("sub/e.npz", tmp_path / "out", (X,))


def test_a_sample_beyond_the_memory_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = header(tmp_path / "d.npy", (1, 25 << 30), 100 << 30)
    with rejected(f"too little memory to read {path}", "MiB", kind=EnvironmentFault):
        read(path, tmp_path / "out", (X,))
    assert private_bytes(os.getpid()) < 1 << 30
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(reading, "MEMORY", 64 << 20)
    with rejected("too little memory", "MiB", kind=EnvironmentFault):
        read(header(tmp_path / "e.npy", (1, 50 << 20), 200 << 20), tmp_path / "out", (X,))


def test_a_reader_that_dies_or_hangs_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "d.npy", rows(4))
    call = Worker.call

    def dies(self: Worker, operation: str, *arguments: Any, **keywords: Any) -> Any:
        keywords["function"] = "hasten.tests_only:none" if operation == "call" else keywords.get("function")
        return call(self, operation, *arguments, **keywords)

    monkeypatch.setattr(Worker, "call", dies)
    with rejected(f"cannot read {tmp_path / 'd.npy'}"):
        read(tmp_path / "d.npy", tmp_path / "out", (X,))
    monkeypatch.setattr(Worker, "call", call)
    monkeypatch.setattr(reading, "SAMPLE_SECONDS", 0.001)
    with rejected("takes too long"):
        read(tmp_path / "d.npy", tmp_path / "out", (X,))


def test_a_truncated_array_kills_nobody(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.asfortranarray(rows(4000)))
    samples = load_samples(tmp_path / "d.npy")
    os.truncate(tmp_path / "d.npy", 200)
    with rejected("d.npy", "ends early"):
        samples.spool(tmp_path / "out", (X,))


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        ((10**12, 3), 12, "its header"), ((-1, 3), 12, "its header"), ((-1, -3), 12, "its header"),
        ((10**18, 0), 0, "no values"),
        ((10**9, 1), 4 * 10**9, "too many samples"), ((4, 3), 60, "its header"),
    ],
)  # fmt: skip
def test_headers_that_cannot_be(tmp_path: Path, shape: tuple[int, ...], size: int, said: str) -> None:
    path = header(tmp_path / "d.npy", shape, size)
    with rejected(str(path), said):
        load_samples(path)


def test_archives_that_unpack_to_much_are_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLACK", 1 << 14)
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1 << 17, 3), np.float32))
    with rejected("d.npz is a decompression bomb", "unpack to"):
        load_samples(tmp_path / "d.npz")
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b"1,2,3\n" * 20_000))
    with rejected("d.csv.gz is a decompression bomb"):
        load_samples(tmp_path / "d.csv.gz").spool(tmp_path / "out", (X,))


def test_a_table_of_one_endless_line_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "d.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b"1," * (1 << 20))
    start = time.monotonic()
    with rejected("d.csv.gz", "line 1 has more than 16,777,216 characters"):
        read(tmp_path / "d.csv.gz", tmp_path / "out", (X,))
    assert time.monotonic() - start < 20
    assert private_bytes(os.getpid()) < 1 << 30


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "d.csv": lambda _: b'a,b,c\n1,2,"' + b"x" * 200_000,
    "d.csv.gz": lambda _: gzip.compress(b"a,b,c\n" + b"1,2,3\n" * 9000)[:-40],
    "cut.npz": lambda data: data[: len(data) // 2],
    "method.npz": lambda data: data[: (at := data.find(b"PK\x01\x02") + 10)] + b"\x63" + data[at + 1 :],
    "header.npy": lambda _: b"\x93NUMPY\x01\x00\x20\x00{'descr': '<f4', (((((((((((((\n" + bytes(48),
    "dtype.npy": lambda _: (
        b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (4, 3), }\n" + bytes(48)
    ),
    "d.parquet": lambda _: b"PAR1" + bytes(500) + b"\xff\xff\xff\x7fPAR1",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_whatever_a_reader_raises_is_an_error_of_ours(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    np.savez(tmp_path / "good.npz", x=rows(400))
    path = tmp_path / name
    path.write_bytes(DAMAGED[name]((tmp_path / "good.npz").read_bytes()))
    with rejected(str(path)):
        load_samples(path).spool(tmp_path / "out", (X,))


def test_lzma_and_other_compressions_that_are_damaged(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows(4000))
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
            archive.write(tmp_path / "x.npy", "x.npy")
        data = bytearray((tmp_path / "d.npz").read_bytes())
        for at in range(60, 4000, 400):
            data[at] ^= 0xFF
        (tmp_path / "d.npz").write_bytes(data)
        with rejected("d.npz"):
            load_samples(tmp_path / "d.npz").spool(tmp_path / "out", (X,))


def png(path: Path, width: int, height: int) -> Path:
    """A grey PNG of zeros; a few hundred bytes for any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = zlib.compress(bytes((width + 1) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b""))
    return path


STRIP = """
import sys
from pathlib import Path
from hasten.samples.pixels import Geometry, decode
print(decode(Path(sys.argv[1]), Geometry(3, True, (224, 224), "float32")).shape)
high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss would be the parent's
print(int(high.split()[1]) >> 10)
"""


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_long_image_is_cropped_before_it_is_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("PIL")
    path = png(tmp_path / "d" / "strip.png", *size)
    assert path.stat().st_size < 400
    line = [sys.executable, "-c", STRIP, str(path)]
    told = subprocess.run(line, env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, text=True, timeout=60)
    shape, mebibytes = told.stdout.splitlines()
    assert shape == "(224, 224, 3)"
    assert int(mebibytes) < 300


def folder_of(tmp_path: Path, *arrays: np.ndarray[Any, Any], suffix: str = "tif", **options: Any) -> Path:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "d").mkdir()
    for k, array in enumerate(arrays):
        image.fromarray(array).save(tmp_path / "d" / f"{k}.{suffix}", **options)
    return tmp_path / "d"


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_known_range_are_refused_not_black(tmp_path: Path, dtype: type) -> None:
    folder = folder_of(tmp_path, np.linspace(0, 1, 4096).reshape(64, 64).astype(dtype))
    with rejected(str(folder / "0.tif"), "whose range is not known", "save the samples as arrays"):
        load_samples(folder, preprocess="unit").spool(tmp_path / "out", (IMAGE,))


def spooled(tmp_path: Path, folder: Path) -> SampleStore:
    spec = TensorSpec("x", ("N", 1, 64, 64), "float32")
    return load_samples(folder, preprocess="unit").spool(tmp_path / "out", (spec,))


def test_twelve_bits_in_sixteen_are_refused_or_scaled_by_what_the_file_declares(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 4096).reshape(64, 64).astype(np.uint16)
    folder = folder_of(tmp_path, values)
    with rejected("lowest 12 bits", "nearly black"):
        spooled(tmp_path, folder)
    image = pytest.importorskip("PIL.Image")
    image.fromarray(values).save(folder / "0.tif", tiffinfo={281: 4095})
    assert spooled(tmp_path, folder).sample(0)["x"].max() > 0.9
    image.fromarray(values * 16).save(folder / "0.tif")
    assert spooled(tmp_path, folder).sample(0)["x"].max() > 0.9


def test_only_the_first_frame_of_a_stack_is_told(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    frames = [image.new("L", (64, 64), colour) for colour in (10, 200)]
    (tmp_path / "d").mkdir()
    frames[0].save(tmp_path / "d" / "a.tif", save_all=True, append_images=frames[1:])
    assert (
        "1 files hold several frames: only the first frame of each is read"
        in spooled(tmp_path, tmp_path / "d").warnings
    )


def test_a_function_of_the_caller_prepares_images_in_the_callers_process(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, np.full((8, 8, 3), (200, 100, 50), np.uint8), suffix="png")
    here: list[int] = []

    def prepare(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        here.append(os.getpid())
        return pixels[..., ::-1] / 2.0

    store = read(folder, tmp_path / "out", (TensorSpec("x", ("N", 3, 8, 8), "float32"),), preprocess=prepare)
    assert here == [os.getpid()]
    assert store.sample(0)["x"][0, :, 0, 0].tolist() == [25.0, 50.0, 100.0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "out"]


def test_a_last_batch_of_one_is_a_batch(tmp_path: Path) -> None:
    batches = [(rows(4), np.arange(4)), (rows(4), np.arange(4)), (rows(1), np.arange(1))]
    store = load_samples(batches).spool(tmp_path / "out", (X,))
    assert len(store) == 9
    assert np.asarray(store.labels).shape == (9,)


def test_the_name_of_the_labels_is_kept_where_a_network_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "d.npz", x=rows(4), truth=np.arange(4))
    found = reading.example(tmp_path / "d.npz", tmp_path / "e.npz", 2, labels="truth")
    assert found is not None
    with np.load(found) as arrays:
        assert {k: a.shape for k, a in arrays.items()} == {"x": (2, 3)}
    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr(enter, "example", lambda data, target, most, labels, groups: asked.append((labels, groups)))
    enter._example(hasten.protocols.Door(trust=True), tmp_path / "d.npz", tmp_path, "truth", "video")
    assert asked == [("truth", "video")]
    assert as_file(tmp_path / "m.onnx", None, tmp_path)[0] == tmp_path / "m.onnx"


def test_decimals_and_long_rows_of_tables_are_read_as_they_are(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from decimal import Decimal

    import pyarrow.parquet as parquet

    columns = {name: [Decimal("1.5"), Decimal("-2.5")] for name in "abc"}
    parquet.write_table(pa.table(columns), tmp_path / "d.parquet")
    assert load_samples(tmp_path / "d.parquet").spool(tmp_path / "out", (X,)).sample(1)["x"].tolist() == [[-2.5] * 3]
    (tmp_path / "d.csv").write_text("a,b,c\n" + "1.5,2,3\n" * 3 + "1,2\n")
    with rejected("row 3", "2 cells"):
        load_samples(tmp_path / "d.csv").spool(tmp_path / "out", (X,))
    assert tables.MAX_LINE >= 1 << 24


def test_the_limit_of_memory_holds_for_allocations(tmp_path: Path) -> None:
    code = "from hasten.samples import reader\nreader.limit_memory(1 << 28)\nbytearray(1 << 29)"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "MemoryError" in told.stderr
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY, "of the child only"
    assert issubclass(InputError, Exception)
    assert callable(reader.begin)
