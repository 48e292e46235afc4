"""Taps against a forward pass written in numpy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hasten import model as model_module
from hasten.errors import InputError
from hasten.graph import taps
from hasten.graph.taps import collect
from hasten.model import Model, TensorSpec
from hasten.protocols import Feeds

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(5, 3, 1, 1)).astype(np.float32)


def network(nodes: Sequence[NodeProto], outputs: Sequence[str] = ("y",), *, opset: int = 11) -> Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    return wrap(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def wrap(proto: ModelProto) -> Model:
    spec = TensorSpec("x", ("n", 3, "h", "w"), "float32")
    return Model(ir.serde.deserialize_model(proto), (spec,), (TensorSpec("y", (None,), "float32"),))


def conv_relu(branch: Sequence[NodeProto] = ()) -> Model:
    """Conv, Relu and Mul by a weight in a Constant node; Conv and Relu would be fused were they not tapped."""
    factor = numpy_helper.from_array(np.array([3.0], np.float32), "factor")
    return network(
        [
            helper.make_node("Conv", ["x", "weight"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Constant", [], ["k"], value=factor),
            helper.make_node("Mul", ["r", "k"], ["y"]),
            *branch,
        ]
    )


def feeding(*shapes: tuple[int, ...]) -> Callable[[], Iterator[Feeds]]:
    def feeds() -> Iterator[Feeds]:
        rng = np.random.default_rng(1)
        for shape in shapes:
            yield {"x": rng.normal(size=shape).astype(np.float32)}

    return feeds


def forward(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    c = np.einsum("oi,nihw->nohw", WEIGHT[:, :, 0, 0], x)
    return {"x": x, "c": c, "r": np.maximum(c, 0), "y": 3 * np.maximum(c, 0)}


SHAPES = ((1, 3, 8, 8), (2, 3, 5, 9), (1, 3, 1, 1))


@pytest.mark.parametrize("memory", [1 << 20, 2000, 1], ids=["whole", "parts", "one by one"])
def test_taps_are_the_naive_forward(memory: int) -> None:
    feeds = feeding(*SHAPES)
    stats = collect(conv_relu(), ["r", "x", "y", "c"], feeds, memory_bytes=memory, channels=["r", "x", "y", "c"])
    assert list(stats) == ["r", "x", "y", "c"]
    for name, got in stats.items():
        arrays = [forward(np.asarray(sample["x"]))[name] for sample in feeds()]
        np.testing.assert_allclose(got.low, min(a.min() for a in arrays), rtol=1e-5)
        np.testing.assert_allclose(got.high, max(a.max() for a in arrays), rtol=1e-5)
        np.testing.assert_allclose(got.mean_high, np.mean([a.max() for a in arrays]), rtol=1e-5)
        assert (got.samples, got.count) == (3, sum(a.size for a in arrays))
        flat = np.concatenate([a.transpose(1, 0, 2, 3).reshape(a.shape[1], -1) for a in arrays], axis=1)
        np.testing.assert_allclose(got.channel_absmax, np.abs(flat).max(axis=1), rtol=1e-5)  # type: ignore[arg-type]
        np.testing.assert_allclose(got.channel_mean, flat.mean(axis=1), atol=1e-5)  # type: ignore[arg-type]


def test_the_network_is_left_as_it_was() -> None:
    model = conv_relu()
    before = ir.serde.serialize_model(model.graph).SerializeToString(deterministic=True)
    collect(model, ["c", "r"], feeding(*SHAPES))
    assert ir.serde.serialize_model(model.graph).SerializeToString(deterministic=True) == before


def test_what_cannot_be_tapped_is_left_out() -> None:
    condition = numpy_helper.from_array(np.array(True), "condition")
    bodies = [
        helper.make_graph([helper.make_node("Neg", ["r"], [f"{arm}_neg"])], arm, [], [_float(f"{arm}_neg")])
        for arm in ("then", "else")
    ]
    model = conv_relu(
        [
            helper.make_node("Shape", ["r"], ["shape"]),
            helper.make_node("Greater", ["r", "c"], ["mask"]),
            helper.make_node("SequenceConstruct", ["r", "c"], ["sequence"]),
            helper.make_node("Constant", [], ["condition"], value=condition),
            helper.make_node("If", ["condition"], ["chosen"], then_branch=bodies[0], else_branch=bodies[1]),
        ]
    )
    names = ["shape", "mask", "sequence", "weight", "k", "then_neg", "chosen", "nowhere", "r"]
    stats = collect(model, names, feeding(*SHAPES))
    assert list(stats) == ["chosen", "r"]
    assert stats["chosen"].low == -stats["r"].high


def test_channels_of_a_matmul_are_the_last_axis() -> None:
    weight = numpy_helper.from_array(np.eye(4, 6, dtype=np.float32), "m")
    model = network(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Constant", [], ["m"], value=weight),
            helper.make_node("MatMul", ["mean", "m"], ["y"]),
        ]
    )
    stats = collect(model, ["mean", "y"], feeding((1, 3, 9, 4), (1, 3, 2, 4)), channels=["mean", "y"])
    sizes = {name: None if s.channel_absmax is None else s.channel_absmax.size for name, s in stats.items()}
    assert sizes == {"mean": 4, "y": 6}


def test_weights_beside_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above protobuf's limit weights live in a file of their own; here the limit is lowered instead."""
    small = collect(conv_relu(), ["c"], feeding(*SHAPES))["c"]
    monkeypatch.setattr(model_module, "EXTERNAL_ABOVE", 0)
    external = collect(conv_relu(), ["c"], feeding(*SHAPES))["c"]
    assert (external.low, external.high) == (small.low, small.high)


def test_feeds_are_read_once_when_the_weights_are_small() -> None:
    reads = 0

    def feeds() -> Iterator[Feeds]:
        nonlocal reads
        reads += 1
        return feeding(*SHAPES)()

    collect(conv_relu(), ["c", "r"], feeds, memory_bytes=1500)  # one tensor fits, and two copies of the weights
    assert reads == 2
    collect(conv_relu(), ["c", "r"], feeds, memory_bytes=1)
    assert reads == 5


def test_weights_in_constant_nodes_count() -> None:
    assert taps._weight_bytes(conv_relu()) == WEIGHT.nbytes + 4


def test_only_needed_nodes_run_in_a_part() -> None:
    part = taps._with_outputs(conv_relu(), ["c"])
    assert [node.op_type for node in part.graph.graph] == ["Conv"]


def test_no_names_and_only_inputs() -> None:
    assert collect(conv_relu(), [], feeding(*SHAPES)) == {}
    assert collect(conv_relu(), ["x"], feeding(*SHAPES))["x"].samples == 3


def test_user_errors() -> None:
    with pytest.raises(InputError, match="no samples to calibrate with"):
        collect(conv_relu(), ["c"], feeding())
    with pytest.raises(InputError, match="cannot run the network on a sample") as caught:
        collect(conv_relu(), ["c"], feeding((1, 3, 4, 4), (1, 2, 4, 4)))
    assert caught.value.cause
    with pytest.raises(InputError, match="cannot run the network on a sample"):
        collect(conv_relu(), ["c"], feeding((1, 2, 4, 4)))
    with pytest.raises(InputError, match="onnxruntime cannot load the network"):
        collect(network([helper.make_node("NoSuchOp", ["x"], ["y"])]), ["y"], feeding(*SHAPES))


def test_importing_loads_no_runtime() -> None:
    code = "import sys, hasten.graph.taps, hasten.quant.ranges; print([m for m in sys.modules if m.startswith('onnx')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def _float(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
