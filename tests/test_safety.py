"""Models that should not be trusted, and files that are no models."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hasten.errors import EnvironmentFault, HastenError, UsageError
from hasten.frontends.onnx import accepts, load
from hasten.model import file_digest
from hasten.safety.stage import stage, staged_digests
from hasten.safety.walk import check_onnx
from tests.reject import rejected

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def external(location: str, **keys: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def inline() -> TensorProto:
    return numpy_helper.from_array(WEIGHT, "w")


def value(name: str, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def model(tensor: TensorProto | None = None, *nodes: onnx.NodeProto, **fields: object) -> onnx.ModelProto:
    body = list(nodes) or [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(body, "g", [value("x", "N", 3)], [value("y", "N", 4)], [tensor or inline()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10, **fields)
    return made


def write(folder: Path, proto: onnx.ModelProto, data: bytes | None = None) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    if data is not None:
        (folder / "w.data").write_bytes(data)
    return path


def test_sound_model_passes(tmp_path: Path) -> None:
    report = check_onnx(write(tmp_path, model(external("w.data")), WEIGHT.tobytes()))
    assert (report.nodes, report.external, report.custom_ops, report.warnings) == (1, ("w.data",), (), ())


def pickled(path: Path) -> bytes:
    class Canary:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {path}.ran",)

    return pickle.dumps(Canary())


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), data)
    return file.getvalue()


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "one byte": (b"\x08", "too short"),
    "text": (b"this is not a model at all\n", "text file"),
    "html": (b"\n<!DOCTYPE html><html>sign in</html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "pickle": (pickle.dumps({"a": 1}), "pickle"),
    "torch": (zipped(archive__data_pkl=b"x"), "torch.onnx.export"),
    "zip": (zipped(readme=b"x"), "zip archive"),
    "damaged zip": (b"PK\x03\x04" + bytes(40), "damaged zip"),
    "safetensors": ((32).to_bytes(8, "little") + b'{"w":{}}'.ljust(64), "safetensors"),
    "gguf": (b"GGUF" + bytes(40), "GGUF"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    "ort": (b"\x1c\0\0\0ORTM" + bytes(40), "ORT-format"),
    "numpy": (b"\x93NUMPY\x01\0" + bytes(40), "numpy array"),
    "gzip": (b"\x1f\x8b" + bytes(40), "gunzip"),
    "xml": (b'<?xml version="1.0"?><net name="a"/>', "OpenVINO"),
    "zeros": (bytes(4096), "cannot read"),
    "random": (np.random.default_rng(0).bytes(4096), "m.onnx"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_other_contents_are_named(tmp_path: Path, name: str) -> None:
    content, said = CONTENTS[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with rejected(said):
        load(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"]


def test_pickle_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(pickled(path))
    with rejected("can run code"):
        load(path)
    assert not (tmp_path / "m.onnx.ran").exists()


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, model()).rename(tmp_path / "-é 😀\nm.bin")
    assert accepts(path)
    assert [str(s) for s in load(path).inputs] == ["x[N,3] float32"]
    text = tmp_path / "n.onnx"
    text.write_text("not a model, plainly")
    assert not accepts(text)
    assert not accepts(tmp_path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.onnx").symlink_to("nowhere")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    write(tmp_path, model())
    with rejected("regular file"):
        load(tmp_path / "fifo")
    with rejected("regular file"):
        load(Path("/dev/zero"))
    with rejected("a folder"):
        load(tmp_path)
    with rejected("SavedModel"):
        load(tmp_path / "saved")
    with rejected("link to nothing", kind=UsageError):
        load(tmp_path / "link.onnx")
    with rejected("did you mean 'm.onnx'", kind=UsageError):
        load(tmp_path / "n.onnx")


def outcome(call: Callable[[], object]) -> int:
    """0 when it works, else the exit code; anything but our own errors is a crash and passes through."""
    try:
        call()
    except HastenError as error:
        return error.exit_code
    return 0


def test_truncation_anywhere_is_an_answer(tmp_path: Path) -> None:
    whole = model().SerializeToString()
    for cut in np.linspace(0, len(whole) - 1, 50).astype(int):
        path = tmp_path / "m.onnx"
        path.write_bytes(whole[:cut])
        assert outcome(partial(load, path)) in (0, 3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=8))
def test_flipped_bits_are_an_answer(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(model().SerializeToString())
    for at, bit in flips:
        data[at % len(data)] ^= 1 << bit
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert outcome(partial(check_onnx, path)) in (0, 3)


LOCATIONS = [
    "../../etc/passwd",
    "a/../../b",
    "a/..",
    "/etc/passwd",
    "C:\\x",
    "C:/x",
    "\\\\host\\x",
    "a\0b",
    "",
    ".",
    "./w.data",
    "a//b",
    "file:w",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_locations_outside_the_folder(tmp_path: Path, location: str) -> None:
    with rejected("escapes the model's folder"):
        check_onnx(write(tmp_path, model(external(location)), WEIGHT.tobytes()))


def test_memory_marker(tmp_path: Path) -> None:
    with rejected("into memory"):
        check_onnx(write(tmp_path, model(external("*/_ORT_MEM_ADDR_/*", offset="4096", length="48")), b""))


KEYS = [
    ({"offset": "-1"}, "impossible offset"),
    ({"length": "-48"}, "impossible length"),
    ({"offset": str(1 << 63)}, "impossible offset"),
    ({"offset": "9" * 30}, "impossible offset"),
    ({"offset": "1e3"}, "impossible offset"),
    ({"offset": "٣"}, "impossible offset"),
    ({"length": "40"}, "needs 48 bytes"),
    ({"length": str(1 << 50)}, "needs 48 bytes"),
    ({"offset": "4"}, "beyond its data file"),
    ({"__class__": "x"}, "unknown key '__class__'"),
    ({"basepath": "/etc"}, "unknown key 'basepath'"),
]


@pytest.mark.parametrize(("keys", "said"), KEYS)
def test_data_descriptions(tmp_path: Path, keys: dict[str, str], said: str) -> None:
    with rejected(said):
        check_onnx(write(tmp_path, model(external("w.data", **keys)), WEIGHT.tobytes()))


def test_missing_and_short_data(tmp_path: Path) -> None:
    with rejected("missing", "48 bytes", "w.data"):
        check_onnx(write(tmp_path, model(external("w.data"))))
    with rejected("beyond its data file", "47 bytes"):
        check_onnx(write(tmp_path, model(external("w.data")), WEIGHT.tobytes()[:-1]))


def body(tensor: TensorProto) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "b", [], [value("o", 3, 4)], [tensor])


def hide(tensor: TensorProto, place: str) -> onnx.ModelProto:
    """A model with ``tensor`` in one of the corners."""
    sound = model()
    graph = sound.graph
    if place == "constant":
        graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    elif place == "tensors":
        node = graph.node.add(op_type="Constant", output=["c"])
        node.attribute.add(name="v", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
    elif place.startswith("sparse"):
        indices = numpy_helper.from_array(np.array([0], np.int64), "i")
        parts = (tensor, indices) if place != "sparse indices" else (inline(), tensor)
        sparse = onnx.SparseTensorProto(values=parts[0], indices=parts[1], dims=[3, 4])
        if place == "sparse_value":
            graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
        else:
            graph.sparse_initializer.append(sparse)
    elif place == "if":
        deep = helper.make_node("If", ["x"], ["d"], then_branch=body(tensor), else_branch=body(inline()))
        outer = helper.make_graph([deep], "o", [], [value("d", 3, 4)])
        graph.node.append(helper.make_node("If", ["x"], ["c"], then_branch=outer, else_branch=body(inline())))
    elif place == "function":
        node = helper.make_node("Constant", [], ["o"], value=tensor)
        sound.functions.append(helper.make_function("custom", "F", [], ["o"], [node], [helper.make_opsetid("", 17)]))
    else:
        sound.training_info.add().initialization.CopyFrom(body(tensor))
    return sound


@pytest.mark.parametrize(
    "place",
    ["constant", "tensors", "sparse_value", "sparse_initializer", "sparse indices", "if", "function", "training_info"],
)
def test_no_corner_is_missed(tmp_path: Path, place: str) -> None:
    with rejected("escapes"):
        check_onnx(write(tmp_path, hide(external("../w.data"), place)))


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    inner, outer = tmp_path / "in", tmp_path / "out"
    inner.mkdir()
    outer.mkdir()
    (outer / "w.data").write_bytes(WEIGHT.tobytes())
    (inner / "w.data").symlink_to(outer / "w.data")
    with rejected("is a link to"):
        check_onnx(write(inner, model(external("w.data"))))
    (inner / "sub").symlink_to(outer)
    with rejected("is a link to"):
        check_onnx(write(inner, model(external("sub/w.data"))))
    (inner / "w.data").unlink()
    os.mkfifo(inner / "w.data")
    with rejected("regular file"):
        check_onnx(write(inner, model(external("w.data"))))


def test_hard_link_is_copied_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(WEIGHT.tobytes())
    os.link(tmp_path / "other", tmp_path / "w.data")
    path = write(tmp_path, model(external("w.data")))
    assert "hard link" in check_onnx(path).warnings[0]
    copy = stage(path, tmp_path / "stage")
    assert (copy.parent / "w.data").stat().st_nlink == 1


def test_hub_cache_is_staged_as_plain_files(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aa").write_bytes(model(external("w.data")).SerializeToString())
    (blobs / "bb").write_bytes(WEIGHT.tobytes())
    (snapshot / "m.onnx").symlink_to("../../blobs/aa")
    (snapshot / "w.data").symlink_to("../../blobs/bb")
    copy = stage(snapshot / "m.onnx", tmp_path / "stage")
    assert copy == tmp_path / "stage" / "m.onnx"
    assert not any(p.is_symlink() for p in copy.parent.iterdir())
    assert staged_digests(copy) == {name: file_digest(copy.parent / name) for name in ("m.onnx", "w.data")}
    assert copy.stat().st_mode & 0o777 == 0o400
    weight = load(copy).graph.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), WEIGHT)


def test_stage_refuses_and_leaves_no_model(tmp_path: Path) -> None:
    with rejected("escapes"):
        stage(write(tmp_path, model(external("../w"))), tmp_path / "stage")
    assert list((tmp_path / "stage").iterdir()) == []
    with rejected("that name is taken"):
        stage(write(tmp_path, model(external("m.onnx", length="48"))), tmp_path / "stage")


DIMS = [
    ([-3, 4], "negative dimension"),
    ([1 << 40, 2], "too large"),
    ([1 << 32, 1 << 32], "too large"),
    ([1 << 62, 1 << 62, 1 << 62], "too large"),
    ([3, 5], "holds 48 of 60"),
    ([3], "holds 48 of 12"),
]


@pytest.mark.parametrize(("dims", "said"), DIMS)
def test_impossible_shapes(tmp_path: Path, dims: list[int], said: str) -> None:
    tensor = inline()
    tensor.ClearField("dims")
    tensor.dims.extend(dims)
    with rejected(said):
        check_onnx(write(tmp_path, model(tensor)))


@pytest.mark.parametrize(
    "kind",
    [
        "FLOAT",
        "INT8",
        "BOOL",
        "FLOAT16",
        "BFLOAT16",
        "INT64",
        "UINT32",
        "DOUBLE",
        "COMPLEX64",
        "INT4",
        "UINT4",
        "STRING",
    ],
)
def test_typed_fields_hold_as_many_values_as_the_shape_says(tmp_path: Path, kind: str) -> None:
    values: Any = [b"a", b"b", b"c"] if kind == "STRING" else [1, 0, 1]
    tensor = helper.make_tensor("k", getattr(TensorProto, kind), [3], values)
    check_onnx(write(tmp_path, hide(tensor, "constant")))
    tensor.dims[0] = 7
    with rejected("of 4" if kind.endswith("INT4") else "of 14" if kind == "COMPLEX64" else "of 7"):
        check_onnx(write(tmp_path, hide(tensor, "constant")))


def nested(levels: int) -> bytes:
    """If in If in If, written as bytes: model.graph (7) > node (1) > attribute (5) > g (6) > node ..."""

    def field(number: int, data: bytes) -> bytes:
        length = bytearray()
        size = len(data)
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *length, size]) + data

    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x0a" + field(8, b"\x10\x11") + field(7, graph)


@pytest.mark.parametrize("levels", [40, 1000, 5000])
def test_deep_nesting_is_refused(tmp_path: Path, levels: int) -> None:
    (tmp_path / "m.onnx").write_bytes(nested(levels))
    with rejected("nested too deep"):
        check_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(nested(20))
    assert check_onnx(tmp_path / "m.onnx").nodes == 20


def test_one_file_over_two_gibibytes(tmp_path: Path) -> None:
    path = write(tmp_path, model())
    os.truncate(path, 1 << 31)
    with rejected("2 GiB", "weights in a file beside it"):
        check_onnx(path)


def test_devices_own_formats_and_custom_operators(tmp_path: Path) -> None:
    with rejected("EPContext", "compiled for one device"):
        check_onnx(write(tmp_path, model(None, helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft"))))
    custom = helper.make_node("Mystery", ["x"], ["y"], domain="custom")
    assert check_onnx(write(tmp_path, model(None, custom))).custom_ops == ("custom::Mystery",)
    known = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    assert check_onnx(write(tmp_path, model(None, known))).custom_ops == ()


def test_names_that_do_not_add_up(tmp_path: Path) -> None:
    def relu(before: str, after: str) -> onnx.NodeProto:
        return helper.make_node("Relu", [before], [after])

    with rejected("made twice"):
        check_onnx(write(tmp_path, model(None, relu("x", "y"), relu("x", "y"))))
    with rejected("'z', which nothing makes"):
        check_onnx(write(tmp_path, model(None, relu("z", "y"))))
    with rejected("nothing makes the output 'y'"):
        check_onnx(write(tmp_path, model(None, relu("x", "z"))))
    with rejected("in a circle"):
        check_onnx(
            write(tmp_path, model(None, helper.make_node("Add", ["x", "b"], ["a"]), relu("a", "b"), relu("b", "y")))
        )
    check_onnx(write(tmp_path, model(None, relu("a", "y"), relu("x", "a"))))  # unsorted, but no circle


def test_overlapping_data_is_told(tmp_path: Path) -> None:
    proto = model(external("w.data"))
    other = external("w.data", offset="4")
    other.name = "v"
    proto.graph.initializer.append(other)
    assert check_onnx(write(tmp_path, proto, WEIGHT.tobytes() + bytes(4))).warnings == ("tensors overlap in w.data",)
    other.external_data[1].value = "0"
    proto.graph.initializer[1].CopyFrom(other)  # tied weights
    assert check_onnx(write(tmp_path, proto, WEIGHT.tobytes())).warnings == ()


def test_limits_and_doubled_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = external("w.data")
    tensor.external_data.add(key="location", value="w.data")
    with rejected("a key given twice"):
        check_onnx(write(tmp_path, model(tensor), WEIGHT.tobytes()))
    monkeypatch.setattr("hasten.safety.walk.MAX_NODES", 1)
    two = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    with rejected("more than 1 nodes"):
        check_onnx(write(tmp_path, model(None, *two)))
    monkeypatch.setattr("hasten.safety.walk.MAX_NODES", 10**6)
    monkeypatch.setattr("hasten.safety.walk.MAX_DEPTH", 3)
    (tmp_path / "m.onnx").write_bytes(nested(5))
    with rejected("more than 3 deep"):
        check_onnx(tmp_path / "m.onnx")


def test_a_full_disk_stops_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = write(tmp_path, model())
    monkeypatch.setattr("hasten.safety.stage.os.fsync", full)
    with rejected("No space left", "free some disk", kind=EnvironmentFault):
        stage(path, tmp_path / "stage")
    assert list((tmp_path / "stage").iterdir()) == []
