"""ONNX graphs as TensorFlow Lite files: LiteRT's answers against ONNX Runtime's, and there and back again."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hasten.errors import EnvironmentFault
from hasten.export import tflite as export
from hasten.extras import pip
from hasten.frontends import tflite as door
from hasten.frontends.tflite_reader import read
from hasten.graph import evaluate
from hasten.model import Model
from tests import tiny
from tests.flat import litert, single
from tests.reject import rejected
from tests.test_tflite_operators import CASES

Array = NDArray[Any]


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    kind, arguments, table, more = CASES[name]
    path, feeds = single(tmp_path / "one.tflite", kind, arguments, table, **more)
    export.write(door.load(path).graph, tmp_path / "back.tflite")
    for want, got in zip(litert(path, feeds), litert(tmp_path / "back.tflite", feeds), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def agrees(model: Model, tmp_path: Path, batch: int = 1, tolerance: float = 1e-5) -> list[str]:
    """LiteRT on what we write against ONNX Runtime; returns the operators written."""
    path, random = tmp_path / "m.tflite", np.random.default_rng(1)
    export.write(model.graph, path)
    free: dict[Any, int] = {"batch": batch, "h": 6, "w": 7}
    shapes: dict[str, Any] = {s.name: [free.get(d, d) for d in s.shape] for s in model.inputs}
    feed = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    [wanted] = evaluate.run(model.graph, [feed])
    got = litert(path, [feed[s.name] for s in model.inputs])
    for want, ours in zip(wanted.values(), got, strict=True):
        assert ours.shape == want.shape
        np.testing.assert_allclose(ours, want, rtol=0, atol=tolerance * max(1.0, float(np.abs(want).max())))
    return [o.kind for o in read(path).operators]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("network", [tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile])
def test_networks(network: Callable[[], Model], batch: int, tmp_path: Path) -> None:
    agrees(network(), tmp_path, batch)


def with_input(net: tiny.Net, shape: list[int | str], tmp_path: Path, batch: int = 2) -> list[str]:
    """The network from x to the last node's output."""
    net.nodes[-1].output[0] = "y"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        net.nodes, "net", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, None)], net.weights
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=8)
    return agrees(tiny.as_model(proto), tmp_path, batch)


Build = Callable[[tiny.Net], str]
IMAGE: list[int | str] = ["batch", 4, 9, 10]
MORE: dict[str, tuple[list[int | str], Build]] = {
    "explicit padding": (IMAGE, lambda n: n.conv("x", 4, 6, strides=[2, 2], pads=[1, 1, 1, 1])),
    "one-sided padding": (IMAGE, lambda n: n.conv("x", 4, 6, pads=[2, 0, 0, 1])),
    "auto pad lower": (IMAGE, lambda n: n.add("Conv", "x", n.w(6, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2])),
    "auto pad upper": (IMAGE, lambda n: n.add("Conv", "x", n.w(6, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])),
    "groups": (IMAGE, lambda n: n.conv("x", 4, 6, group=2)),
    "depthwise times three": (IMAGE, lambda n: n.conv("x", 4, 12, group=4)),
    "over time": (["batch", 4, 12], lambda n: n.add("Relu", n.add("Conv", "x", n.w(6, 4, 3), n.w(6), pads=[2, 0]))),
    "over space and time": (
        ["batch", 2, 4, 5, 6], lambda n: n.add("Conv", "x", n.w(3, 2, 2, 3, 3), pads=[0, 1, 1] * 2),
    ),
    "max pool over time": (
        ["batch", 4, 12], lambda n: n.add("MaxPool", "x", kernel_shape=[3], strides=[2], pads=[1, 1])
    ),
    "max pool padded": (IMAGE, lambda n: n.add("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)),
    "max pool ceil": (IMAGE, lambda n: n.add("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1)),
    "average pool padded": (
        IMAGE, lambda n: n.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    ),
    "average pool counts": (
        IMAGE, lambda n: n.add("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    ),
    "transposed by two": (IMAGE, lambda n: n.add("ConvTranspose", "x", n.w(4, 3, 2, 2), n.w(3), strides=[2, 2])),
    "transposed same": (IMAGE, lambda n: n.add("ConvTranspose", "x", n.w(4, 3, 4, 4), strides=[2, 2], pads=[1] * 4)),
    "transposed cut": (
        IMAGE,
        lambda n: n.add("ConvTranspose", "x", n.w(4, 3, 3, 3), n.w(3), strides=[2, 2], pads=[1] * 4,
                        output_padding=[1, 1]),
    ),
    "transposed over time": (
        ["batch", 4, 7], lambda n: n.add("ConvTranspose", "x", n.w(4, 3, 4), strides=[2], pads=[1, 1])
    ),
    "transposed any size": (
        ["batch", 4, "h", "w"],
        lambda n: n.add("Relu", n.add("ConvTranspose", "x", n.w(4, 3, 3, 3), strides=[2, 2], pads=[1] * 4)),
    ),
    "nearest twice": (
        ["batch", 4, "h", "w"],
        lambda n: n.add("Resize", "x", "", n.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
                        coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    ),
    "nearest as torch": (
        IMAGE, lambda n: n.add("Resize", "x", "", n.const(np.array([1, 1, 3, 3], np.float32)), mode="nearest")
    ),
    "linear": (
        IMAGE, lambda n: n.add("Resize", "x", "", "", n.const(np.array([2, 4, 13, 7])), mode="linear"),
    ),
    "linear twice": (
        ["batch", 4, "h", "w"],
        lambda n: n.add("Resize", "x", "", n.const(np.array([1, 1, 2, 2], np.float32)), mode="linear"),
    ),
    "instance norm": (IMAGE, lambda n: n.add("InstanceNormalization", "x", n.w(4), n.w(4))),
    "layer norm": (IMAGE, lambda n: n.add("LayerNormalization", "x", n.w(10), n.w(10))),
    "batch norm": (IMAGE, lambda n: n.bn("x", 4)),
    "lrn": (IMAGE, lambda n: n.add("LRN", "x", size=3, alpha=0.3, beta=0.6, bias=1.2)),
    "lp norm": (IMAGE, lambda n: n.add("LpNormalization", "x", axis=1)),
    "global pools": (IMAGE, lambda n: n.add("Add", n.add("GlobalAveragePool", "x"), n.add("GlobalMaxPool", "x"))),
    "crd": (IMAGE, lambda n: n.add("DepthToSpace", "x", blocksize=2, mode="CRD")),
    "dcr": (IMAGE, lambda n: n.add("DepthToSpace", "x", blocksize=2)),
    "blocks": (["batch", 3, 4, 6], lambda n: n.add("SpaceToDepth", "x", blocksize=2)),
    "hard sigmoid": (IMAGE, lambda n: n.add("HardSigmoid", "x", alpha=0.2)),
    "softplus": (IMAGE, lambda n: n.add("Softplus", "x")),
    "mish": (IMAGE, lambda n: n.add("Mul", "x", n.add("Tanh", n.add("Softplus", "x")))),
    "clip odd": (IMAGE, lambda n: n.add("Clip", "x", n.const(np.float32(-0.3)), n.const(np.float32(0.7)))),
    "clip low": (IMAGE, lambda n: n.add("Clip", "x", n.const(np.float32(-0.3)))),
    "sum of three": (IMAGE, lambda n: n.add("Sum", "x", n.add("Relu", "x"), n.add("Tanh", "x"))),
    "prelu": (IMAGE, lambda n: n.add("PRelu", "x", n.w(4, 1, 1))),
    "softmax over channels": (IMAGE, lambda n: n.add("Softmax", "x", axis=1)),
    "gemm with factors": (["batch", 8], lambda n: n.add("Gemm", "x", n.w(8, 3), n.w(3), alpha=0.5, beta=2.0)),
    "product and bias": (
        ["batch", 5, 8], lambda n: n.add("Relu", n.add("Add", n.w(3), n.add("MatMul", "x", n.w(8, 3))))
    ),
    "a vector": ([8], lambda n: n.add("Add", n.add("MatMul", "x", n.w(8, 3)), n.w(3))),
    "a vector of free size": (["batch"], lambda n: n.add("MatMul", "x", n.add("Transpose", n.add("Relu", "x")))),
    "a stored vector": (["batch", 5, 8], lambda n: n.add("MatMul", "x", n.w(8))),
    "a stored vector on the left": (["batch", 5, 8], lambda n: n.add("MatMul", n.w(5), "x")),
    "two vectors": ([8], lambda n: n.add("MatMul", "x", n.w(8))),
    "stored on the left": (["batch", 5, 8], lambda n: n.add("MatMul", n.w(4, 5), "x")),
    "flat": (IMAGE, lambda n: n.add("Flatten", "x", axis=2)),
    "flat any size": (["batch", 4, "h", "w"], lambda n: n.add("Flatten", "x", axis=2)),
    "reshape by zero": (IMAGE, lambda n: n.add("Reshape", "x", n.const(np.array([0, 0, -1])))),
    "reshape of free sizes": (
        ["batch", "h", 12], lambda n: n.add("Reshape", "x", n.const(np.array([0, 0, 3, 4])))
    ),
    "reshape of free sizes and a rest": (
        ["batch", "h", "w", 12], lambda n: n.add("Reshape", "x", n.const(np.array([0, 0, -1])))
    ),
    "split uneven": (IMAGE, lambda n: n.add("Concat", *several(n, "Split", ["x"], 3, axis=3, num_outputs=3), axis=3)),
    "mean and max": (IMAGE, lambda n: n.add("ReduceMax", n.add("ReduceMean", "x", axes=[2], keepdims=0), keepdims=1)),
    "squares": (IMAGE, lambda n: n.add("ReduceL2", "x", axes=[-1])),
    "argmax": (IMAGE, lambda n: n.add("Cast", n.add("ArgMax", "x", axis=1), to=1)),
    "top k": (
        IMAGE, lambda n: n.add("Cast", several(n, "TopK", ["x", n.const(np.array([3]))], 2)[0], to=1)
    ),
    "reflect": (IMAGE, lambda n: n.add("Pad", "x", n.const(np.array([0, 0, 2, 1] * 2)), mode="reflect")),
    "pad one": (IMAGE, lambda n: n.add("Pad", "x", n.const(np.array([0, 1, 2, 0] * 2)), n.const(np.float32(1)))),
    "backwards": (
        IMAGE,
        lambda n: n.add("Slice", "x", *(n.const(np.array([v])) for v in (-1, -(1 << 62), 3, -2))),
    ),
    "negative index": (IMAGE, lambda n: n.add("Gather", "x", n.const(np.array([-1, 0])), axis=2)),
    "one row": (IMAGE, lambda n: n.add("Gather", "x", n.const(np.array(2)), axis=2)),
    "square root below": (IMAGE, lambda n: n.add("Reciprocal", n.add("Sqrt", n.add("Exp", "x")))),
    "one over": (IMAGE, lambda n: n.add("Reciprocal", n.add("Exp", "x"))),
    "mish at once": (IMAGE, lambda n: n.add("Mish", "x")),
    "root mean square": (IMAGE, lambda n: n.add("RMSNormalization", "x", n.w(10))),
    "dropped": (IMAGE, lambda n: n.add("Relu", n.add("Dropout", "x"))),
    "sum of squares": (IMAGE, lambda n: n.add("ReduceSumSquare", "x", axes=[1, 2], keepdims=0)),
    "powers": (IMAGE, lambda n: n.add("Pow", n.add("Pow", "x", n.const(np.float32(2))), n.const(np.float32(0.5)))),
    "exclusive": (
        IMAGE,
        lambda n: n.add("Cast", n.add("Xor", *(n.add("Greater", "x", n.const(np.float32(v))) for v in (0, 1))), to=1),
    ),
    "zeros of a shape": (IMAGE, lambda n: n.add("Add", "x", n.add("ConstantOfShape", n.add("Shape", "x")))),
    "places that are not zero": (IMAGE, lambda n: n.add("Cast", n.add("NonZero", n.add("Relu", "x")), to=1)),
    "where": (IMAGE, lambda n: n.add("Where", n.add("Greater", "x", n.const(np.float32(0))), "x", n.w(1))),
}  # fmt: skip


def several(net: tiny.Net, kind: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
    """A node with several outputs, the last one first."""
    names = [f"part{k}" for k in range(count)]
    net.nodes.append(helper.make_node(kind, inputs, names, name=kind, **attributes))
    return names[::-1]


@pytest.mark.parametrize("name", MORE)
def test_operators_of_onnx(name: str, tmp_path: Path) -> None:
    shape, build = MORE[name]
    net = tiny.Net({"split uneven": 18, "mish at once": 18, "root mean square": 23}.get(name, 17))
    build(net)
    with_input(net, shape, tmp_path)


def test_every_operator_that_is_written_has_a_case(tmp_path: Path) -> None:
    seen = {"Gemm", "MatMul", "HardSwish", "Sigmoid"}  # in the networks above
    for _, build in MORE.values():
        net = tiny.Net(17)
        build(net)
        seen |= {node.op_type for node in net.nodes}
    for kind, arguments, table, more in CASES.values():
        path, _ = single(tmp_path / "one.tflite", kind, arguments, table, **more)
        seen |= {node.op_type for node in door.load(path).graph.graph}
    assert set(export.operators()) <= seen


def test_the_documentation_lists_what_is_written() -> None:
    text = (Path(__file__).parent.parent / "docs" / "tflite.md").read_text().partition("### Written")[2]
    listed = set(re.findall(r"`([A-Z]\w+)`", text.partition("### Measured")[0]))
    assert listed == set(export.operators())


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (lambda n: n.add("Erf", "x"), "inside GELU"),
        (lambda n: n.add("Det", "x"), "there is no operator for it"),
        (lambda n: n.add("Elu", "x", alpha=0.5), "its alpha is 0.5"),
        (lambda n: n.add("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2]), "no dilated pooling"),
        (lambda n: n.add("Pad", "x", n.const(np.array([0, 0, 1, 1] * 2)), mode="edge"), "its mode is edge"),
        (
            lambda n: n.add("Resize", "x", "", n.const(np.array([1, 1, 2, 2], np.float32)), mode="cubic"),
            "mode is cubic",
        ),
    ],
)
def test_what_cannot_be_written_is_named(build: Build, cause: str, tmp_path: Path) -> None:
    net = tiny.Net(17)
    build(net)
    with rejected(f"LiteRT cannot run {net.nodes[-1].op_type}", cause):
        with_input(net, IMAGE, tmp_path)


def test_recurrent_layers_are_refused_with_the_reason(tmp_path: Path) -> None:
    net = tiny.Net(17)
    net.nodes.append(
        helper.make_node("LSTM", ["x", net.w(1, 12, 4), net.w(1, 12, 3)], ["y"], name="lstm", hidden_size=3)
    )
    with rejected("LiteRT cannot run LSTM 'lstm'", "keep their state"):
        with_input(net, [5, 1, 4], tmp_path)


def test_old_operator_sets_are_refused(tmp_path: Path) -> None:
    with rejected("operator set 11 cannot be written", "clean the network first"):
        export.write(tiny.residual_cnn(opset=11).graph, tmp_path / "m.tflite")


def test_a_missing_package_names_its_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with rejected("LiteRT", pip("tflite"), kind=EnvironmentFault):
        export.write(tiny.mlp().graph, tmp_path / "m.tflite")


def test_weights_beyond_two_gibibytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasten.export.tflite_file.LARGEST", 1 << 20)
    with rejected("the weights take", "ends at 2 GiB"):
        export.write(tiny.mlp().graph, tmp_path / "m.tflite")


def test_constants_are_aligned_and_stored_once(tmp_path: Path) -> None:
    net = tiny.Net()
    w = net.w(16, 16)
    h = net.add("Relu", net.add("MatMul", "x", w))
    net.add("MatMul", net.add("Relu", net.add("MatMul", h, w)), net.w(16, 3), out="y")
    model = net.model({"x": ["batch", 16]}, {"y": ["batch", 3]})
    data = export.encode(model.graph)
    (tmp_path / "m.tflite").write_bytes(data)
    stored = [t.data for t in read(tmp_path / "m.tflite").tensors if t.data is not None]
    assert sorted(a.shape for a in stored) == [(3, 16), (16, 16)]
    for array in stored:
        assert data.index(array.tobytes()) % 16 == 0
