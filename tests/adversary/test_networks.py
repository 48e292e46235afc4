"""Networks made to exhaust memory or time, and valid spellings that few exporters use."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.frontends.describe import describe
from hasten.frontends.onnx import load
from hasten.safety import bounds
from hasten.safety.archive import opened
from hasten.search.enter import enter
from tests import networks
from tests.reject import rejected

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def doubling(levels: int) -> onnx.ModelProto:
    """Function k calls function k - 1 twice: with all inlined, the nodes double at each level."""
    functions = []
    for k in range(levels):
        call = ("Relu", "") if k == 0 else (f"f{k - 1}", "own")
        nodes = [helper.make_node(call[0], [a], [b], domain=call[1]) for a, b in (("a", "b"), ("b", "c"))]
        functions.append(helper.make_function("own", f"f{k}", ["a"], ["c"], nodes, OPSETS))
    node = helper.make_node(f"f{levels - 1}", ["x"], ["y"], domain="own")
    return model([node], functions=functions, opsets=OPSETS)


def model(
    nodes: list[onnx.NodeProto],
    *,
    functions: list[onnx.FunctionProto] | None = None,
    opsets: list[onnx.OperatorSetIdProto] | None = None,
    shape: list[int | str] | None = None,
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, functions=functions or [], opset_imports=opsets or OPSETS[:1], ir_version=9)


def saved(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_functions_that_double_are_counted_not_inlined(tmp_path: Path) -> None:
    path = saved(tmp_path, doubling(40))
    assert path.stat().st_size < 6000
    start = time.monotonic()
    with rejected("too large", "functions inlined", "over 500,000"):
        load(path)
    assert time.monotonic() - start < 2
    assert describe(load(saved(tmp_path, doubling(4))))["nodes"] > 0


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    loop = doubling(2)
    loop.functions[0].node[0].op_type, loop.functions[0].node[0].domain = "f1", "own"
    with rejected("calls itself"):
        load(saved(tmp_path, loop))


def test_calls_in_bodies_are_counted_too(tmp_path: Path) -> None:
    proto = doubling(30)
    body = helper.make_graph([helper.make_node("f29", ["x"], ["r"], domain="own")], "b", [], [])
    body.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    del proto.graph.node[:]
    proto.graph.node.extend([condition, choice])
    with rejected("too large"):
        load(saved(tmp_path, proto))


@pytest.mark.parametrize("what", ["inputs", "outputs", "node inputs", "attributes", "shape"])
def test_numbers_of_values_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(bounds, "MAX_VALUES", 8)
    monkeypatch.setattr(bounds, "MAX_ATTRIBUTES", 8)
    proto = model([helper.make_node("Sum", ["x"] * (9 if what == "node inputs" else 1), ["y"])])
    if what in ("inputs", "outputs"):
        values = proto.graph.input if what == "inputs" else proto.graph.output
        values.extend(helper.make_tensor_value_info(f"v{i}", TensorProto.FLOAT, [1]) for i in range(9))
    if what == "attributes":
        proto.graph.node[0].attribute.extend(helper.make_attribute(f"a{i}", 1) for i in range(9))
    if what == "shape":
        for _ in range(5):
            proto.graph.input[0].type.tensor_type.shape.dim.add(dim_value=1 << 40)
    with rejected("too large to be real" if what == "shape" else "too many"):
        load(saved(tmp_path, proto))


def test_thirty_thousand_nodes_are_described_in_seconds(tmp_path: Path) -> None:
    n = 30_000
    nodes = [helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"], name=f"n{i}") for i in range(n)]
    nodes += [helper.make_node("MatMul", [f"v{n}", "w"], ["y"])]
    proto = model(nodes)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, 5), np.float32), "w"))
    path = saved(tmp_path, proto)
    start = time.process_time()
    facts = describe(load(path))
    assert facts["macs"] == 20
    assert facts["nodes"] == n + 1
    assert time.process_time() - start < 4  # about one second alone


def sparse(
    name: str, dense: np.ndarray[tuple[int, ...], np.dtype[np.float32]], *, flat: bool
) -> onnx.SparseTensorProto:
    places = np.flatnonzero(dense) if flat else np.argwhere(dense)
    values = numpy_helper.from_array(dense[dense != 0], name)
    indices = numpy_helper.from_array(places.astype(np.int64), f"{name}_places")
    return helper.make_sparse_tensor(values, indices, dense.shape)


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_weights_are_read_as_dense_ones(tmp_path: Path, flat: bool) -> None:
    weights = np.diag(np.arange(1, 5, dtype=np.float32))
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    proto.graph.sparse_initializer.append(sparse("w", weights, flat=flat))
    found = load(saved(tmp_path, proto)).graph.graph.initializers["w"].const_value
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), weights)
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse("w", weights, flat=flat))
    read = load(saved(tmp_path, model([constant, helper.make_node("MatMul", ["x", "w"], ["y"])])))
    read.save(tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x @ weights)


@pytest.mark.parametrize(
    ("dims", "places", "said"),
    [([1 << 20, 1 << 20], [0, 1], "too large"), ([4, 4], [0, 16], "damaged"), ([4, 4], [0, -1], "damaged")],
)
def test_sparse_weights_that_are_none_are_named(tmp_path: Path, dims: list[int], places: list[int], said: str) -> None:
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    values = numpy_helper.from_array(np.ones(2, np.float32), "w")
    indices = numpy_helper.from_array(np.array(places, np.int64), "w_places")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dims))
    with rejected("sparse weight 'w'", said, "dense weights"):
        load(saved(tmp_path, proto))


def test_the_default_domain_may_be_spelt_out(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")], opsets=[helper.make_opsetid("ai.onnx", 17)]
    )
    read = load(saved(tmp_path, proto))
    assert read.graph.opset_imports == {"": 17}
    assert [node.domain for node in read.graph.graph] == [""]
    twice = [helper.make_opsetid("ai.onnx", 17), helper.make_opsetid("", 13)]
    with rejected("imported twice", "13, 17"):
        load(saved(tmp_path, model([helper.make_node("Relu", ["x"], ["y"])], opsets=twice)))


def test_errors_name_the_users_file_not_the_copy(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with rejected(f"cannot read {path}"):
        enter(path, tmp_path / "run")


def test_an_archive_whose_packed_bytes_are_damaged_is_named(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w", method) as archive:
            archive.writestr("a/config.json", "{}" + " " * 4000)
            archive.writestr("a/data", np.random.default_rng(0).bytes(4000))
        data = bytearray((tmp_path / "m.pt2").read_bytes())
        for at in range(600, 3000, 300):
            data[at] ^= 0xFF
        (tmp_path / "m.pt2").write_bytes(data)
        with rejected("m.pt2 is a damaged archive"), opened(tmp_path / "m.pt2") as archive:
            for name in archive.namelist():
                archive.read(name)
