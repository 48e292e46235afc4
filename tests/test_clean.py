"""Clean changes nothing that a user can see, and removes what runtimes should not have to."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from hasten.graph import evaluate, walk
from hasten.model import Model
from hasten.passes import clean
from hasten.passes.check import same_outputs
from hasten.passes.clean import Clean
from hasten.protocols import Feeds, NotApplicable, Pass
from tests import tiny


def kinds(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.graph)


@pytest.mark.parametrize("network", [tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile])
def test_outputs_and_interface_stay(network: object) -> None:
    model = network()  # type: ignore[operator]
    samples = tiny.feeds(model, 3, batch=2)
    before = ir.to_proto(model.graph).SerializeToString()
    cleaned = _clean(model, samples)
    same, name, difference = same_outputs(model.graph, cleaned.graph, samples)
    assert same, (name, difference)
    assert [str(v) for v in cleaned.graph.graph.inputs] == [str(v) for v in model.graph.graph.inputs]
    assert [str(v) for v in cleaned.graph.graph.outputs] == [str(v) for v in model.graph.graph.outputs]
    assert ir.to_proto(model.graph).SerializeToString() == before  # the argument is not edited
    ir.passes.common.CheckerPass(full_check=True)(cleaned.graph)


def _clean(model: Model, samples: list[Feeds]) -> Model:
    try:
        return Clean()(model, tiny.context(samples))
    except NotApplicable:
        return model


def test_batchnorm_folds_into_convolutions() -> None:
    model = tiny.residual_cnn()
    cleaned = Clean()(model, tiny.context(tiny.feeds(model, 2)))
    assert kinds(model)["BatchNormalization"] == 2
    assert kinds(cleaned)["BatchNormalization"] == 0
    assert cleaned.history == ("Clean(samples=2, for_='float')",)


def test_opset_11_with_constant_nodes_becomes_17_with_initialisers() -> None:
    model = tiny.residual_cnn(opset=11, constants=True)
    assert not model.graph.graph.initializers
    samples = tiny.feeds(model, 2)
    cleaned = Clean()(model, tiny.context(samples))
    assert walk.opset(cleaned.graph) == 17
    assert kinds(cleaned)["Constant"] == 0
    assert same_outputs(model.graph, cleaned.graph, samples)[0]


def test_hard_swish_and_affine_layers() -> None:
    model = tiny.mobile()
    cleaned = Clean()(model, tiny.context(tiny.feeds(model, 2)))
    found = kinds(cleaned)
    assert found["HardSwish"] == 2
    assert found["Clip"] == found["Div"] == 0
    assert found["Mul"] == 1  # the squeeze-and-excite product; the scales went into weights
    assert found["Add"] == 2  # the residual, and a shift in front of a convolution that pads


def test_affine_before_an_unpadded_grouped_convolution() -> None:
    net = tiny.Net()
    x = net.add("Add", net.add("Mul", "x", net.w(1, 8, 1, 1)), net.w(8, 1, 1))
    net.conv(x, 8, 16, 3, group=2, pads=[0] * 4, out="y")
    model = net.model({"x": [1, 8, 9, 9]}, {"y": [1, 16, 7, 7]})
    samples = tiny.feeds(model, 2)
    cleaned = Clean()(model, tiny.context(samples))
    assert kinds(cleaned) == {"Conv": 1}
    assert same_outputs(model.graph, cleaned.graph, samples, 1e-6)[0]


def test_pad_joins_the_convolution_and_a_bias_makes_a_gemm() -> None:
    net = tiny.Net()
    pads = net.const(np.array([0, 0, 1, 0, 0, 0, 2, 1], np.int64))
    y = net.add("Flatten", net.conv(net.add("Pad", "x", pads), 2, 3, 3, pads=[0, 1, 0, 0]))
    net.add("Add", net.add("MatMul", y, net.w(3 * 7 * 6, 5)), net.w(5), out="y")
    model = net.model({"x": [1, 2, 6, 6]}, {"y": [1, 5]})
    samples = tiny.feeds(model, 2)
    cleaned = Clean()(model, tiny.context(samples))
    assert kinds(cleaned) == {"Conv": 1, "Flatten": 1, "Gemm": 1}
    assert same_outputs(model.graph, cleaned.graph, samples, 1e-6)[0]


def test_shared_weights_stay_right_when_one_reader_folds() -> None:
    net = tiny.Net()
    w = net.w(4, 4, 1, 1)
    a = net.add("Mul", net.add("Conv", "x", w), net.w(1, 4, 1, 1))
    net.add("Conv", a, w, out="y")
    model = net.model({"x": [1, 4, 5, 5]}, {"y": [1, 4, 5, 5]})
    samples = tiny.feeds(model, 2)
    cleaned = Clean()(model, tiny.context(samples))
    assert kinds(cleaned) == {"Conv": 2}
    assert same_outputs(model.graph, cleaned.graph, samples, 1e-6)[0]


def test_constants_fold_and_dropout_goes() -> None:
    net = tiny.Net()
    two = net.add("Add", net.const(np.array([1], np.float32)), net.const(np.array([1], np.float32)))
    net.add("Add", net.add("Dropout", "x"), net.add("Sqrt", two), out="y")
    model = net.model({"x": [3]}, {"y": [3]})
    cleaned = Clean()(model, tiny.context(tiny.feeds(model, 1)))
    assert kinds(cleaned) == {"Add": 1}


def test_nothing_to_tidy_is_an_answer() -> None:
    net = tiny.Net()
    net.add("Relu", "x", out="y")
    model = net.model({"x": [3]}, {"y": [3]})
    with pytest.raises(NotApplicable, match="nothing to tidy"):
        Clean()(model, tiny.context([]))
    assert isinstance(Clean(), Pass)


def test_a_stage_that_changes_outputs_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(graph: ir.Model) -> ir.Model:
        copy = graph.clone()
        for value in list(copy.graph.initializers.values()):
            array = walk.constant(value)
            assert array is not None
            value.const_value = ir.tensor(array * np.float32(1.01), name=value.name)
        return copy

    monkeypatch.setattr(clean, "STAGES", (clean.Whole("spoil", spoil), *clean.STAGES))
    model = tiny.residual_cnn()
    samples = tiny.feeds(model, 2)
    cleaned = Clean()(model, tiny.context(samples))
    assert cleaned.history == ("Clean(samples=2, for_='float') without spoil",)
    assert "left out the clean-up 'spoil': output 'y' moved by" in caplog.text
    assert same_outputs(model.graph, cleaned.graph, samples)[0]


def test_worst_difference_names_the_output() -> None:
    one = [{"a": np.ones(3, np.float32), "b": np.array([2.0, 4.0], np.float32)}]
    other = [{"a": np.ones(3, np.float32), "b": np.array([2.0, 3.0], np.float32)}]
    assert evaluate.worst_difference(one, other) == ("b", 0.25)
    assert evaluate.worst_difference(one, [{"a": one[0]["a"]}]) == ("b", np.inf)
    broken = [{**one[0], "a": np.array([1, np.nan, 1], np.float32)}]
    assert evaluate.worst_difference(one, broken) == ("a", np.inf)
