"""A graph in torch computes what it computes anywhere, and a short training brings its answers back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hasten.errors import EnvironmentFault
from hasten.graph import evaluate
from hasten.passes import autograd, distill
from hasten.passes.distill import Distill
from hasten.passes.prune import Prune
from hasten.passes.quantize import Quantize
from hasten.protocols import NotApplicable
from tests import tiny
from tests.random_nets import random_net
from tests.test_prune import error, smooth, wide


@pytest.mark.extra
def test_random_networks_compute_the_same_in_torch() -> None:
    torch = pytest.importorskip("torch")
    seen, left = set[str](), list[str]()
    for seed in range(60):
        model = random_net(seed)
        graph, feeds = model.graph, tiny.feeds(model, 1, batch=2)
        try:
            outputs = autograd.run(torch, graph, {}, feeds[0])
        except NotApplicable as reason:
            left.append(str(reason))
            continue
        got = {v.name or "": y.detach().numpy() for v, y in zip(graph.graph.outputs, outputs, strict=True)}
        name, difference = evaluate.worst_difference(evaluate.run(graph, feeds), [got])
        assert difference < 1e-4, (seed, name)
        seen |= {n.op_type for n in graph.graph}
    assert len(seen) >= 20, sorted(seen)
    assert all("cannot be trained through" in reason for reason in left)


@pytest.mark.extra
@pytest.mark.parametrize("make", [tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile])
def test_common_networks_compute_the_same_in_torch(make: object) -> None:
    torch = pytest.importorskip("torch")
    model = make()  # type: ignore[operator]
    feeds = tiny.feeds(model, 1)
    outputs = autograd.run(torch, model.graph, autograd.parameters(torch, model.graph), feeds[0])
    got = {v.name or "": y.detach().numpy() for v, y in zip(model.graph.graph.outputs, outputs, strict=True)}
    assert evaluate.worst_difference(evaluate.run(model.graph, feeds), [got])[1] < 1e-4


@pytest.mark.extra
def test_training_brings_the_answers_back() -> None:
    pytest.importorskip("torch")
    model = wide()
    context = replace(tiny.context(smooth(model, 400, 1)), original=model)
    pruned = Prune(keep=0.4)(model, context)
    taught = Distill(seconds=6)(pruned, context)
    test = smooth(model, 100, 2)
    assert error(model, taught, test) < 0.7 * error(model, pruned, test)
    assert taught.history[-1].startswith("Distill(seconds=6")
    assert [n.op_type for n in taught.graph.graph] == [n.op_type for n in pruned.graph.graph]


def test_what_cannot_be_taught_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide()
    samples = smooth(model, 3, 0)
    with pytest.raises(NotApplicable, match="nothing was taken out of this network before"):
        Distill()(model, tiny.context(samples))
    quantized = Quantize()(model, tiny.context(samples))
    with pytest.raises(NotApplicable, match="the network is quantized already"):
        Distill()(quantized, tiny.context(samples))
    monkeypatch.setattr(distill, "_torch", lambda: np)
    with pytest.raises(NotApplicable, match="3 samples are too few to train on"):
        Distill()(model, replace(tiny.context(samples), original=model))


def test_a_missing_torch_names_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    model = wide()
    with pytest.raises(EnvironmentFault, match=r"distillation needs torch\n  help: pip install .*\[torch\]"):
        Distill()(model, replace(tiny.context(smooth(model, 3, 0)), original=model))


@pytest.mark.extra
def test_sizes_that_the_graph_works_out_itself_are_followed() -> None:
    torch = pytest.importorskip("torch")
    net = tiny.Net()
    size = net.add("Gather", net.add("Shape", "x"), net.const(np.array(0)), axis=0)
    shape = net.add("Concat", net.add("Unsqueeze", size, net.const(np.array([0]))), net.const(np.array([-1])), axis=0)
    net.add("MatMul", net.add("Reshape", "x", shape), net.w(12, 5), out="y")
    model = net.model({"x": ["batch", 3, 4]}, {"y": ["batch", 5]})
    feeds = tiny.feeds(model, 1, batch=2)
    [y] = autograd.run(torch, model.graph, autograd.parameters(torch, model.graph), feeds[0])
    assert evaluate.worst_difference(evaluate.run(model.graph, feeds), [{"y": y.detach().numpy()}])[1] < 1e-5


@pytest.mark.extra
def test_masks_and_extremes_are_followed() -> None:
    torch = pytest.importorskip("torch")
    net = tiny.Net()
    x = net.add("MatMul", "x", net.w(6, 6))
    lesser, greater = net.add("Less", x, net.w(6)), net.add("GreaterOrEqual", x, net.w(6))
    either = net.add("And", net.add("Not", lesser), greater)
    x = net.add("Where", either, x, net.add("Reciprocal", net.add("Exp", net.add("Neg", x))))
    x = net.add("Add", x, net.add("Expand", net.w(1, 6), net.const(np.array([2, 1]))))
    x = net.add("Max", x, net.add("Cast", either, to=1), net.add("Min", x, net.w(6)))
    top = net.add("ReduceMax", x, axes=[-1], keepdims=1)
    pooled = net.add("GlobalMaxPool", net.add("Reshape", x, net.const(np.array([2, 3, 2]))))
    net.add("Concat", net.add("Sub", x, top), net.add("Flatten", pooled), out="y", axis=1)
    model = net.model({"x": [2, 6]}, {"y": [2, 9]})
    feeds = tiny.feeds(model, 1)
    [y] = autograd.run(torch, model.graph, autograd.parameters(torch, model.graph), feeds[0])
    assert evaluate.worst_difference(evaluate.run(model.graph, feeds), [{"y": y.detach().numpy()}])[1] < 1e-5
