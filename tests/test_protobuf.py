"""The reader of protobuf's wire format against protobuf itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hasten.safety import protobuf


def test_a_real_message_is_read_as_protobuf_reads_it() -> None:
    nodes = [helper.make_node(kind, ["a", "b"], [f"o{k}"], name=f"n{k}") for k, kind in enumerate(("Add", "Mul"))]
    info = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph(nodes, "g", [info], [info]), producer_name="näme", ir_version=8)
    data = memoryview(model.SerializeToString())
    assert protobuf.text(data, 2) == "näme"
    graph = next(protobuf.messages(data, 7))
    found = [
        (protobuf.text(n, 4), [bytes(i).decode() for i in protobuf.messages(n, 1)]) for n in protobuf.messages(graph, 1)
    ]
    assert found == [("Add", ["a", "b"]), ("Mul", ["a", "b"])]
    assert dict(protobuf.fields(data))[1] == 8


@given(st.lists(st.integers(0, 2**63 - 1), max_size=8), st.lists(st.floats(width=32, allow_nan=False), max_size=8))
def test_every_wire_type(whole: list[int], floats: list[float]) -> None:
    tensor = TensorProto(dims=whole, float_data=floats, name="t")
    found = list(protobuf.fields(memoryview(tensor.SerializeToString())))
    dims: list[int] = []
    packed = b""
    for number, value in found:
        if number == 1:
            assert isinstance(value, int)
            dims.append(value)
        if number == 4 and isinstance(value, memoryview):
            packed = bytes(value)
    assert dims == whole
    np.testing.assert_array_equal(np.frombuffer(packed, np.float32), np.array(floats, np.float32))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        total = sum(len(v) if isinstance(v, memoryview) else 1 for _, v in protobuf.fields(memoryview(data)))
        assert total <= len(data)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x80" * 11, b"\x0a\x05ab", b"\x0b", b"\x00\x00", b"\x09\x01", b"\xff" * 9 + b"\x7f"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        list(protobuf.fields(memoryview(data)))


def test_a_map_keeps_its_last_entry() -> None:
    entry = b"\x0a\x01k\x12\x01v"
    message = b"".join(b"\x2a" + bytes([len(e)]) + e for e in (entry, b"\x0a\x01k\x12\x01w", b"\x0a\x01l"))
    assert {k: bytes(v) for k, v in protobuf.table(memoryview(message), 5).items()} == {"k": b"w", "l": b""}
