"""What a width costs: the region that is timed is the network's own, and plateaus are passed over."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from hasten import registry
from hasten.errors import InputError
from hasten.graph import evaluate, walk
from hasten.measure import steps
from hasten.measure.steps import Step, cliffs, region_of
from hasten.model import Model
from hasten.passes.prune import prepared
from hasten.protocols import Feeds
from tests import tiny
from tests.random_nets import random_net


def test_a_region_computes_what_the_network_computes_there() -> None:
    seen = 0
    for seed in range(12):
        model = random_net(seed)
        graph, found = prepared(model)
        feeds = tiny.feeds(model, 1, batch=2)[0]
        for group in found.groups:
            region, inputs = region_of(graph, found, group, feeds)
            ir.passes.common.CheckerPass(full_check=True)(region)
            names = [v.name for v in region.graph.outputs]
            assert set(inputs) == {v.name for v in region.graph.inputs}
            whole = graph.clone()
            values = {v.name: v for node in whole.graph for v in node.outputs}
            whole.graph.outputs[:] = [values[name] for name in names]
            name, difference = evaluate.worst_difference(evaluate.run(whole, [feeds]), evaluate.run(region, [inputs]))
            assert difference < 1e-5, (seed, name)
            seen += len(region.graph) < len(graph.graph)
    assert seen > 20


def test_each_width_is_loaded_and_timed() -> None:
    model = tiny.residual_cnn()
    graph, found = prepared(model)
    group = found.groups[-1]
    feeds = tiny.feeds(model, 1)[0]
    widths: list[int] = []

    def finish(small: Model, inputs: Feeds) -> Model:
        arrays = [walk.constant(v) for v in small.graph.graph.initializers.values()]
        widths.append(max(len(a) for a in arrays if a is not None))
        assert inputs
        return small

    engine = registry.find("engines", "onnxruntime")
    timed = steps.steps(graph, found, group, [32, 8, 16, 8], engine, feeds, finish=finish)
    assert [step.kept for step in timed] == [8, 16, 32]
    assert all(step.ms > 0 for step in timed)
    assert widths == [max(10, w) for w in (8, 16, 32)]


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert"])
def test_a_part_whose_body_reads_what_stayed_outside_is_told_from_a_fault(name: str) -> None:
    engine = registry.find("engines", name)
    if missing := engine.missing():
        pytest.skip(missing)

    def branch(out: str, op: str) -> onnx.GraphProto:
        value = onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None)
        return onnx.helper.make_graph([onnx.helper.make_node(op, ["outside"], [out])], out, [], [value])

    net = tiny.Net()
    net.add("Exp", "x", out="outside")
    condition = net.add("Less", net.add("ReduceSum", "x", keepdims=0), net.const(np.float32(1)))
    net.add("If", condition, out="y", then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs"))
    part, inputs = steps.node_of(net.model({"x": [4]}, {"y": [4]}).graph, "y", {"x": np.ones(4, np.float32)})
    with pytest.raises((steps.DoesNotRun, InputError)):
        steps.times({0: steps.as_model(part)}, engine, {}, inputs)
    with pytest.raises(AttributeError):
        steps.times({0: part}, engine, {}, inputs)  # type: ignore[dict-item]


def test_rounds_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """A runner that takes a given time; now and then three times as long."""

        def __init__(self, seconds: float) -> None:
            self.seconds, self.calls = seconds, 0

        def run(self, feeds: Feeds) -> list[np.ndarray]:
            self.calls += 1
            now[0] += self.seconds * (3 if self.calls % 4 == 0 else 1)
            return []

        def executed(self) -> str:
            return ""

        def close(self) -> None: ...

    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    found = steps.interleaved({1: Clock(0.004), 2: Clock(0.008)}, {})
    assert found == {1: pytest.approx(4.0), 2: pytest.approx(8.0)}


def test_a_plateau_is_kept_at_its_widest() -> None:
    timed = [Step(8, 1.0), Step(16, 1.5), Step(24, 2.0), Step(32, 2.01), Step(40, 2.9), Step(48, 2.5)]
    assert [s.kept for s in cliffs(timed)] == [48, 32, 16, 8]
    assert [s.kept for s in cliffs(timed, within=0.3)] == [48, 16, 8]
