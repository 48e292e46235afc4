"""Passes behind the quantizer: biases, weights and ranges that bring the integer network nearer to the float one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from hasten.errors import UsageError
from hasten.graph import edit, evaluate, pieces, taps, walk
from hasten.graph.linear import linear, linears
from hasten.model import Model
from hasten.passes.correct import Correct
from hasten.passes.own_ranges import own_ranges
from hasten.passes.quantize import Quantize
from hasten.passes.round_weights import METHODS, RoundWeights
from hasten.passes.rounded import Rounded, bias_of, rounded
from hasten.passes.switches import Place, Switches
from hasten.protocols import Context, Feeds, NotApplicable, Pass
from hasten.quant.ranges import choose_range
from tests import tiny
from tests.test_quantize import NETWORKS, decibels, ort_kinds, prepared

Array = NDArray[Any]
SCHEMES = ("onnxruntime", "openvino")


def quantized(
    network: Callable[[], Model], scheme: str = "onnxruntime", **options: Any
) -> tuple[Model, Model, Context, list[Feeds]]:
    """(float network, integer network, context, samples)."""
    model, samples = prepared(network)
    context = replace(tiny.context(samples), reference=model)
    return model, Quantize(scheme=scheme, **options)(model, context), context, samples


def values(model: Model, names: Sequence[str], samples: Sequence[Feeds]) -> list[list[Array]]:
    """Inner tensors of each sample, every node run as it is written."""
    graph = model.clone_graph()
    by_name = {v.name: v for n in graph.graph for v in n.outputs}
    graph.graph.outputs[:] = [by_name[n] for n in names]
    session = evaluate.session(graph)
    return [session.run(list(names), dict(s)) for s in samples]


def mean_errors(model: Model, other: Model, layers: Sequence[Rounded], samples: Sequence[Feeds]) -> dict[str, float]:
    """For each layer the largest |E[y_float] - E[y]| over its channels, in steps of its bias's grid or deviations."""
    names = [layer.node.outputs[0].name or "" for layer in layers]
    first, second = values(model, names, samples), values(other, names, samples)
    found = {}
    for k, layer in enumerate(layers):
        axis = layer.channel_axis
        a, b = (np.mean([np.moveaxis(v[k], axis, 0).reshape(v[k].shape[axis], -1).mean(1) for v in side], axis=0)
                for side in (first, second))  # fmt: skip
        spread = float(np.std([v[k] for v in first]))
        found[names[k]] = float(np.abs(a - b).max()) / spread
    return found


def inside(layers: Sequence[Rounded]) -> list[Rounded]:
    return [layer for layer in layers if bias_of(layer).place == "inside"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_sequential_correction_zeroes_the_mean_error(network: Callable[[], Model], scheme: str) -> None:
    model, integer, context, samples = quantized(network, scheme)
    corrected = Correct()(integer, context)
    onnx.checker.check_model(ir.to_proto(corrected.graph), full_check=True)
    layers = rounded(corrected.graph, context)
    before, after = (mean_errors(model, m, layers, samples) for m in (integer, corrected))
    for layer in inside(layers):
        name = layer.node.outputs[0].name or ""
        assert after[name] < 1e-3, (name, before[name], after[name])
    assert max(before.values()) > 5e-3
    assert decibels(model, corrected, samples) > decibels(model, integer, samples) - 0.2
    assert corrected.history[-1] == repr(Correct())
    old, new = ort_kinds(integer), ort_kinds(corrected)
    assert {k: v for k, v in new.items() if k != "Add"} == {k: v for k, v in old.items() if k != "Add"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_product_without_a_bias_gets_one_and_stays_in_integers(scheme: str) -> None:
    net = tiny.Net()
    h = net.add("Relu", net.add("MatMul", "x", net.w(16, 32)))
    net.add("MatMul", h, net.w(32, 4), out="y")
    model = net.model({"x": [4, 16]}, {"y": [4, 4]})
    samples = tiny.feeds(model, 32)
    context = replace(tiny.context(samples), reference=model)
    integer = Quantize(scheme=scheme)(model, context)
    corrected = Correct()(integer, context)
    names = ["y"]
    wanted = np.mean([v[0] for v in values(model, names, samples)], axis=(0, 1))
    got = np.mean([v[0] for v in values(corrected, names, samples)], axis=(0, 1))
    np.testing.assert_allclose(got, wanted, atol=1e-4)  # half a step of an int32 bias
    if scheme == "onnxruntime":
        assert ort_kinds(corrected)["QGemm"] == 2


def test_fast_correction_is_what_the_weights_lost_times_the_mean_input() -> None:
    model, integer, context, samples = quantized(tiny.mlp)
    corrected = Correct(method="fast")(integer, context)
    layers = rounded(integer.graph, context)
    for old, new in zip(layers, rounded(corrected.graph, context), strict=True):
        found = linear(old.origin)
        assert found is not None
        x = np.concatenate([v[0] for v in values_of_input(model, found.input.name or "", samples)])
        w = walk.constant(old.origin.inputs[1])
        assert w is not None
        lost = (found.matrix(w)[0] - found.matrix(old.weight)[0]) @ x.mean(axis=0)
        before, after = bias_of(old).value, bias_of(new).value
        assert before is not None
        assert after is not None
        np.testing.assert_allclose(after - before, lost, atol=2e-4)


def values_of_input(model: Model, name: str, samples: Sequence[Feeds]) -> list[list[Array]]:
    return [[np.asarray(s[name])] for s in samples] if name in samples[0] else values(model, [name], samples)


def test_each_node_runs_once_and_only_what_is_read_again_is_kept() -> None:
    model, samples = prepared(tiny.residual_cnn)
    layers = linears(model.graph)
    plan = pieces.pieces(model.graph, [layer.node.outputs[0] for layer in layers])
    counts: dict[str, int] = {}
    for piece in plan:
        graph = ir.convenience.extract(model.graph.graph, piece.inputs, piece.outputs)
        for node in graph:
            counts[node.name or ""] = counts.get(node.name or "", 0) + 1
    assert set(counts.values()) == {1}
    names = [piece.target for piece in plan]
    wanted = values(model, names, samples[:3])
    seen = []
    for piece, known in pieces.run(model.graph, plan, samples[:3]):
        for k, arrays in enumerate(known):
            np.testing.assert_allclose(arrays[piece.target], wanted[k][names.index(piece.target)], atol=1e-5)
        seen.append(len(known[0]))
    assert max(seen) <= 3  # the residual operand beside what is at hand
    sizes = taps.sizes(model, sorted({n for p in plan for n in p.outputs}), lambda: iter(samples))
    assert pieces.peak_bytes(plan, sizes) == max(
        sum(sizes.get(n, 0) for n in {*p.inputs, *p.outputs, *p.kept}) for p in plan
    )


def test_pieces_may_be_changed_on_the_way() -> None:
    net = tiny.Net()
    h = net.add("MatMul", "x", net.w(4, 4))
    net.add("Add", net.add("MatMul", net.add("Relu", h), net.w(4, 4)), h, out="y")
    model = net.model({"x": [2, 4]}, {"y": [2, 4]})
    [sample] = tiny.feeds(model, 1)
    nodes = list(model.graph.graph)
    plan = pieces.pieces(model.graph, [nodes[0].outputs[0], nodes[-1].outputs[0]])
    found = {}
    for piece, known in pieces.run(model.graph, plan, [sample]):
        found[piece.target] = known[0][piece.target].copy()
        known[0][piece.target] = known[0][piece.target] + 1
    w1, w2 = (walk.constant(n.inputs[1]) for n in nodes if n.op_type == "MatMul")
    changed = np.asarray(sample["x"]) @ w1 + 1
    np.testing.assert_allclose(found["y"], np.maximum(changed, 0) @ w2 + changed, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_rounding_again_lowers_the_error_of_every_layer(network: Callable[[], Model], scheme: str, method: str) -> None:
    model, integer, context, samples = quantized(network, scheme)
    again = RoundWeights(method=method, iterations=100)(integer, context)
    onnx.checker.check_model(ir.to_proto(again.graph), full_check=True)
    assert ort_kinds(again) == ort_kinds(integer)
    for old, new in zip(rounded(integer.graph, context), rounded(again.graph, context), strict=True):
        found = linear(old.origin)
        if found is None:
            continue
        x = [found.columns(v[0], limit=10**6) for v in values_of_input(model, found.input.name or "", samples)]
        columns, w = np.concatenate(x), walk.constant(old.origin.inputs[1])
        assert w is not None
        before, after = (
            np.square(np.einsum("grk,ngk->ngr", found.matrix(layer.weight - w), columns)).sum() for layer in (old, new)
        )
        assert after <= before * 1.001, (found.node.name, before, after)
        first, second = bias_of(old).value, bias_of(new).value
        if first is not None and second is not None:
            np.testing.assert_allclose(first, second, atol=2e-4 * max(1, np.abs(first).max()))
    assert decibels(model, again, samples) > decibels(model, integer, samples) - 0.5


def test_one_scale_a_weight_and_its_rerounding() -> None:
    model, integer, context, samples = quantized(tiny.residual_cnn, per_channel=False)
    assert all(layer.axis is None for layer in rounded(integer.graph, context))
    assert ort_kinds(integer)["QLinearConv"] == 4
    per_channel = Quantize()(model, context)
    assert 20 < decibels(model, integer, samples) < decibels(model, per_channel, samples)
    again = RoundWeights()(integer, context)
    assert all(layer.axis is None for layer in rounded(again.graph, context))
    assert decibels(model, again, samples) > decibels(model, integer, samples) + 1
    corrected = Correct()(integer, context)
    assert decibels(model, corrected, samples) > decibels(model, integer, samples) + 1


def test_no_time_left_changes_nothing() -> None:
    _, integer, context, _ = quantized(tiny.mlp)
    same = RoundWeights(seconds=0)(integer, context)
    for old, new in zip(rounded(integer.graph, context), rounded(same.graph, context), strict=True):
        np.testing.assert_array_equal(old.weight, new.weight)


def wide() -> Model:
    """One tensor with rare giants that mean nothing: their rows of the next weight are zero."""
    net, d = tiny.Net(), 24
    w = np.asarray(net.random.standard_normal((16, d)) / 4, np.float32)
    w[:, 5] *= 200
    after = np.asarray(net.random.standard_normal((d, 8)) / 5, np.float32)
    after[5] = 1e-4
    h = net.add("Relu", net.add("MatMul", "x", net.const(w)))
    net.add("MatMul", h, net.const(after), out="y")
    return net.model({"x": [4, 16]}, {"y": [4, 8]})


def squared(wanted: Array, got: Array) -> float:
    return float(np.square(wanted - got).mean() / np.var(wanted))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_worst_tensor_gets_another_range(scheme: str) -> None:
    model = wide()
    samples, fresh = tiny.feeds(model, 32), tiny.feeds(model, 16, seed=4)
    context = tiny.context(samples)
    step = Quantize(scheme=scheme)
    better = own_ranges(model, context, step, squared)
    relu = next(n.outputs[0].name for n in model.graph.graph if n.op_type == "Relu")
    assert [pair.rpartition("=")[0] for pair in better.overrides] == [relu]
    assert decibels(model, better(model, context), fresh) > decibels(model, step(model, context), fresh) + 6
    assert own_ranges(model, context, step, squared, seconds=0) == step


def test_switches_are_the_quantized_network_itself() -> None:
    """All on: what Quantize wrote. One with another range: what Quantize writes with that override. All off: float."""
    for network in NETWORKS:
        model, samples = prepared(network)
        context = tiny.context(samples)
        graph = model.clone_graph()
        edit.infer(graph)
        step = Quantize()
        plan = step.placement(graph)
        gated = {n.inputs[0] for n in plan.hardswish}
        groups = [(tuple(v.name or "" for v in g), g[0] in gated) for g in plan.groups()]
        stats = context.stats(model, [n for names, _ in groups for n in names])

        def covered(names: Sequence[str], method: str, stats: Any = stats) -> tuple[float, float]:
            each = [choose_range(stats[n], method) for n in names]
            return min(low for low, _ in each), max(high for _, high in each)

        places = [Place(names, covered(names, "minmax"), is_gated) for names, is_gated in groups]
        integer = step(model, context)
        judge = Switches(model, integer, places, samples[:4], squared)
        output = model.outputs[0].name

        def measured(other: Model, model: Model = model, samples: Any = samples, output: str = output) -> float:
            runs = zip(evaluate.run(model.graph, samples[:4]), evaluate.run(other.graph, samples[:4]), strict=True)
            return float(np.mean([squared(a[output], b[output]) for a, b in runs]))

        assert judge({}) == pytest.approx(measured(integer), rel=0.02)
        assert judge(dict.fromkeys(range(len(places)))) < judge({})  # what is left is the weights
        k = len(places) // 2
        own = replace(step, overrides=(f"{places[k].names[0]}=p99.99",))
        assert judge({k: covered(places[k].names, "p99.99")}) == pytest.approx(measured(own(model, context)), rel=0.02)


def test_overrides() -> None:
    model, samples = prepared(tiny.residual_cnn)
    context = tiny.context(samples)
    name = next(n.outputs[0].name for n in model.graph.graph if n.op_type == "Conv" and walk.depthwise(n))
    after = next(n.outputs[0].name for n in model.graph.graph if n.inputs[0] is not None and n.inputs[0].name == name)
    plain, own = Quantize()(model, context), Quantize(overrides=(f"{after}=p99.99",))(model, context)

    def scale(m: Model) -> float:
        [node] = [n for n in m.graph.graph if n.op_type == "QuantizeLinear" and n.inputs[0].name == after]  # type: ignore[union-attr]
        found = walk.scalar(node.inputs[1])
        assert found is not None
        return found

    assert scale(own) < scale(plain)
    with pytest.raises(
        UsageError, match=r"cannot read the override 'conv1'\n.*write tensor=method, with a method of minm"
    ):
        Quantize(overrides=("conv1",))
    with pytest.raises(UsageError, match="cannot read the override 'conv1=best'"):
        Quantize(overrides=("conv1=best",))
    with pytest.raises(UsageError, match=rf"no tensor '{after}x' to override\n.*did you mean '{after}'"):
        Quantize(overrides=(f"{after}x=mse",))(model, context)
    assert Quantize(overrides=["a=mse"]) == Quantize(overrides=("a=mse",))  # type: ignore[arg-type]


def test_answers() -> None:
    model, integer, context, _ = quantized(tiny.mlp)
    for step in (Correct(), Correct(method="fast"), RoundWeights()):
        assert isinstance(step, Pass)
        with pytest.raises(NotApplicable, match="has not been quantized by an earlier step"):
            step(integer, replace(context, reference=None))
        with pytest.raises(NotApplicable, match="no linear layer has integer weights"):
            step(model, context)
    with pytest.raises(UsageError, match=r"correct has no method 'quick'"):
        Correct(method="quick")
    with pytest.raises(UsageError, match=r"round_weights has no method 'adaquant'\n.*did you mean 'adaround'"):
        RoundWeights(method="adaquant")
