"""The reader of safetensors against the rules of the format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import InputError
from hasten.safety import safetensors
from tests.reject import rejected

NAMES = {v: k for k, v in safetensors.DTYPES.items()}


def write(path: Path, tensors: dict[str, Any]) -> None:
    """As the reference implementation writes."""
    header, at = {}, 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    encoded = json.dumps(header).encode()
    body = b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values())
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)


def raw(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(encoded) if length is None else length).to_bytes(8, "little") + encoded + body)
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_every_tensor_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {name: (rng.random((2, 3)) * 9).astype(name) for name in NAMES} | {"scalar": np.float32(3).reshape(())}
    write(tmp_path / "t", tensors)
    found = safetensors.read(tmp_path / "t")
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    raw(tmp_path / "t", {"w": entry([2], 0, 4, "BF16")}, b"\x80\x3f\x00\xc0")  # 1.0, -2.0
    assert safetensors.read(tmp_path / "t")["w"].tolist() == [1.0, -2.0]


BAD = {
    "the header is longer than the file": ({}, b"", 1 << 40),
    "more than its bytes": ({"w": entry([4], 0, 16)}, b"1234", None),
    "a hole": ({"w": entry([1], 4, 8)}, b"12345678", None),
    "an overlap": ({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, b"12345678", None),
    "bytes to spare": ({"w": entry([1], 0, 4)}, b"12345678", None),
    "a shape that lies": ({"w": entry([3], 0, 4)}, b"1234", None),
    "a negative shape": ({"w": entry([-1, -1], 0, 4)}, b"1234", None),
    "a dtype of nobody": ({"w": entry([1], 0, 4, "F99")}, b"1234", None),
    "no offsets": ({"w": {"dtype": "F32", "shape": []}}, b"", None),
    "a name twice": (b'{"w": {}, "w": {}}', b"", None),
    "no JSON": (b"{{{{", b"", None),
    "a list": (b"[]", b"", None),
}


@pytest.mark.parametrize("what", BAD)
def test_damage_is_told(tmp_path: Path, what: str) -> None:
    header, body, length = BAD[what]
    raw(tmp_path / "t.safetensors", header, body, length)
    with rejected("t.safetensors is no valid safetensors file"):
        safetensors.read(tmp_path / "t.safetensors")


@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, header: bytes) -> None:
    path = raw(tmp_path_factory.getbasetemp() / "any", header, b"12345678")
    try:
        safetensors.read(path)
    except InputError as told:
        assert "no valid safetensors" in str(told)  # noqa: PT017
