"""Pruning a network, and what repair brings back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from hasten.errors import UsageError
from hasten.graph import evaluate, walk
from hasten.graph.affine import affine, columns
from hasten.graph.moments import batches, moments, paired
from hasten.model import Model
from hasten.passes import repair
from hasten.passes.prune import Prune, prepared, remaining, rounded
from hasten.passes.quantize import Quantize
from hasten.protocols import Context, Feeds, NotApplicable, Pass
from tests import tiny
from tests.random_nets import random_net


def wide(seed: int = 0) -> Model:
    """A CNN with far more channels than its data have directions."""
    net = tiny.Net(seed=seed)
    x = net.add("Relu", net.conv("x", 3, 32))
    x = net.add("Relu", net.conv(x, 32, 32))
    x = net.add("Add", x, net.conv(x, 32, 32, 1))
    x = net.add("Flatten", net.add("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4]))
    h = net.add("Relu", net.add("Add", net.add("MatMul", x, net.w(32 * 4, 64)), net.w(64)))
    net.add("Gemm", h, net.w(5, 64), net.w(5), out="y", transB=1)
    return net.model({"x": ["batch", 3, 8, 8]}, {"y": ["batch", 5]})


def smooth(model: Model, n: int, seed: int) -> list[Feeds]:
    """Inputs of few degrees of freedom, as real ones are."""
    random, basis = np.random.default_rng(seed), np.random.default_rng(99).standard_normal((6, 3, 8, 8))
    rows = np.tensordot(random.standard_normal((n, 6)), basis, 1) + 0.05 * random.standard_normal((n, 3, 8, 8))
    return [{"x": row[None].astype(np.float32)} for row in rows]


def error(model: Model, pruned: Model, samples: Sequence[Feeds]) -> float:
    """Squared error of the output, as a share of its variance."""
    a, b = (np.concatenate([o["y"] for o in evaluate.run(m.graph, samples)]) for m in (model, pruned))
    return float(np.square(a - b).sum() / np.square(a - a.mean(0)).sum())


@pytest.fixture(scope="module")
def case() -> tuple[Model, Context, list[Feeds]]:
    model = wide()
    return model, tiny.context(smooth(model, 300, 1)), smooth(model, 100, 2)


def test_half_of_the_channels_go_and_repair_brings_the_answers_back(
    case: tuple[Model, Context, list[Feeds]],
) -> None:
    model, context, test = case
    errors = {way: error(model, Prune(keep=0.5, repair=way)(model, context), test) for way in repair.METHODS}
    assert errors["once"] < 0.6 * errors["bias"]
    assert errors["sequential"] < 0.6 * errors["once"]
    assert errors["bias"] < errors["none"]


def test_what_is_read_counts_more_than_what_is_written(case: tuple[Model, Context, list[Feeds]]) -> None:
    model, context, test = case
    ways = ("compensated", "energy", "magnitude")
    errors = [error(model, Prune(keep=0.5, importance=way)(model, context), test) for way in ways]
    assert max(errors[:2]) < 0.75 * errors[2]


def test_the_shapes_say_what_was_kept(case: tuple[Model, Context, list[Feeds]]) -> None:
    model, context, _ = case
    before = ir.to_proto(model.graph).SerializeToString()
    pruned = Prune(keep=0.5)(model, context)
    shapes = {n.op_type + str(i): list(n.inputs[1].shape) for i, n in enumerate(pruned.graph.graph) if walk.weight(n)}  # type: ignore[union-attr,arg-type]
    assert shapes == {
        "Conv0": [16, 3, 3, 3],
        "Conv2": [16, 16, 3, 3],
        "Conv4": [16, 16, 1, 1],
        "MatMul8": [64, 32],
        "Gemm11": [5, 32],
    }
    assert ir.to_proto(model.graph).SerializeToString() == before
    assert pruned.history[-1].startswith("Prune(keep=0.5")
    ir.passes.common.CheckerPass(full_check=True)(pruned.graph)


def test_counts_by_group_leave_the_others_alone(case: tuple[Model, Context, list[Feeds]]) -> None:
    model, context, _ = case
    _, found = prepared(model)
    first = found.groups[0]
    pruned = Prune(counts=(f"{first.name}=9",))(model, context)
    _, left = prepared(pruned)
    assert [len(g.units) for g in left.groups] == [9, *(len(g.units) for g in found.groups[1:])]


@pytest.mark.parametrize("way", repair.METHODS)
def test_random_networks_survive(way: str) -> None:
    for seed in range(6):
        model = random_net(seed)
        samples = tiny.feeds(model, 6, batch=2)
        try:
            pruned = Prune(keep=0.6, multiple=2, repair=way)(model, tiny.context(samples))
        except NotApplicable:
            continue
        ir.passes.common.CheckerPass(full_check=True)(pruned.graph)
        for outputs in evaluate.run(pruned.graph, samples):
            assert np.isfinite(outputs["y"]).all()


def test_only_a_different_input_calls_for_repair() -> None:
    graph, found = prepared(wide())
    assert repair.changed(graph, graph.clone()) == []
    last = found.groups[-1]
    from hasten.graph.cut import cut

    smaller = cut(graph, found, last.units[:3])
    assert repair.changed(graph, smaller) == [n.outputs[0].name for n in graph.graph if n.op_type == "Gemm"]
    rows, at = remaining(graph, found, list(last.units[:3]))("y")
    assert (len(rows), len(at)) == (5, 61)


NODES = [
    ("Conv", [2, 3, 3, 2], {"pads": [1, 0, 0, 1], "strides": [2, 1], "dilations": [1, 2]}, [2, 3, 7, 8]),
    ("Conv", [4, 3, 3, 3], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [1, 3, 6, 7]),
    ("Conv", [4, 3, 2], {"auto_pad": "SAME_LOWER"}, [1, 3, 9]),
    ("Conv", [4, 3, 2], {"auto_pad": "VALID"}, [1, 3, 9]),
    ("ConvTranspose", [3, 2, 2, 2], {"strides": [2, 2]}, [1, 3, 4, 5]),
    ("MatMul", [6, 4], {}, [2, 3, 6]),
    ("Gemm", [6, 4], {"alpha": 0.5}, [3, 6]),
    ("Gemm", [4, 6], {"transB": 1}, [3, 6]),
]


@pytest.mark.parametrize(("kind", "shape", "attributes", "size"), NODES)
def test_a_linear_node_is_its_matrix_times_its_columns(
    kind: str, shape: list[int], attributes: dict[str, object], size: list[int]
) -> None:
    net = tiny.Net()
    net.add(kind, "x", net.w(*shape), out="y", **attributes)
    model = net.model({"x": size}, {"y": [None] * len(size)})  # type: ignore[list-item]
    node = model.graph.graph[0]
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    y = evaluate.run(model.graph, [{"x": x}])[0]["y"]
    view = affine(node)
    assert view is not None
    got = columns(node, x, 10_000, 0) @ view.w.T
    if kind == "ConvTranspose":  # strides equal the kernel: each pixel fills a square of its own
        got = got.reshape(4, 5, 2, 2, 2).transpose(2, 0, 3, 1, 4).reshape(y.shape)
    elif kind == "Conv":
        got = np.moveaxis(got.reshape(y.shape[0], *y.shape[2:], -1), -1, 1)
    np.testing.assert_allclose(got.reshape(y.shape), y, rtol=1e-4, atol=1e-5)


def test_recurrent_layers_are_refitted_too() -> None:
    net, h = tiny.Net(), 5
    x = net.add("Relu", net.add("MatMul", "x", net.w(4, 24)))
    name = net.add("LSTM", x, net.w(1, 4 * h, 24), net.w(1, 4 * h, h), net.w(1, 8 * h), hidden_size=h)
    net.add("Squeeze", name, net.const(np.array([1], np.int64)), out="y")
    model = net.model({"x": [7, 1, 4]}, {"y": [7, 1, h]})
    random = np.random.default_rng(0)
    samples = [{"x": random.standard_normal((7, 1, 4)).astype(np.float32)} for _ in range(200)]
    context = tiny.context(samples[:150])
    errors = [error(model, Prune(keep=0.67, repair=way)(model, context), samples[150:]) for way in ("once", "none")]
    assert errors[0] < 0.5 * errors[1]
    kept = Prune(keep=0.67)(model, context)
    assert [list(n.inputs[1].shape) for n in kept.graph.graph if n.op_type == "LSTM"] == [[1, 4 * h, 16]]  # type: ignore[union-attr,arg-type]


def test_moments_of_two_versions_are_taken_at_the_same_places() -> None:
    graph, _ = prepared(wide())
    samples = smooth(wide(), 20, 3)
    name = next(n.outputs[0].name for n in graph.graph if n.op_type == "Conv" and n.inputs[0].name != "x") or ""  # type: ignore[union-attr]
    one, two = moments(graph, [name], samples)[name], paired(graph, graph.clone(), name, samples)
    np.testing.assert_allclose(two.xz, one.zz, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two.zz, one.zz, rtol=1e-5, atol=1e-6)


def test_samples_run_together_where_their_first_axis_is_free() -> None:
    free, fixed = wide().graph, tiny.mlp().graph
    fixed.graph.inputs[0].shape = ir.Shape([1, 32])
    samples = smooth(wide(), 37, 0)
    found = list(batches(free, samples))
    assert [n for n, _ in found] == [16, 16, 5]
    np.testing.assert_array_equal(np.concatenate([b["x"] for _, b in found]), np.concatenate([s["x"] for s in samples]))
    assert [n for n, _ in batches(fixed, tiny.feeds(tiny.mlp(), 3))] == [1, 1, 1]
    uneven = [{"x": np.zeros((1, 3, 8 + i // 2, 8), np.float32)} for i in range(4)]
    assert [n for n, _ in batches(free, uneven)] == [2, 2]
    assert [n for n, _ in batches(free, [*samples[:2], {"x": np.zeros((2, 3, 8, 8), np.float32)}])] == [2, 1]


def test_small_groups_stay_whole_and_large_ones_end_on_a_multiple() -> None:
    _, found = prepared(wide())
    group = found.groups[0]
    assert rounded(0.5, group, 8) == 16
    assert rounded(0.55, group, 8) == 16
    assert rounded(0.01, group, 8) == 8
    assert rounded(0.5, group, 32) == 32


def test_wrong_options_say_what_is_right() -> None:
    with pytest.raises(UsageError, match=r"prune has no importance 'energie'\n  help: did you mean 'energy'\?"):
        Prune(importance="energie")
    with pytest.raises(UsageError, match=r"prune has no repair 'twice'\n  help: .*known: bias, none, once, sequential"):
        Prune(repair="twice")
    with pytest.raises(
        UsageError, match=r"prune cannot keep 0 of the channels\n  help: write a share above 0, up to 1"
    ):
        Prune(keep=0)
    model = wide()
    with pytest.raises(UsageError, match=r"prune knows no group 'n_conv'\n  help: did you mean 'n_conv\d+'\?"):
        Prune(counts=("n_conv=3",))(model, tiny.context([]))
    name = prepared(model)[1].groups[0].name
    with pytest.raises(UsageError, match=rf"prune cannot keep '99' units of '{name}'\n  help: write 1 to 32"):
        Prune(counts=(f"{name}=99",))(model, tiny.context([]))


def test_what_cannot_be_pruned_is_an_answer() -> None:
    net = tiny.Net()
    net.add("Softmax", net.add("MatMul", "x", net.w(8, 8)), out="y", axis=-1)
    one = net.model({"x": [1, 8]}, {"y": [1, 8]})
    with pytest.raises(NotApplicable, match="no channels can go"):
        Prune()(one, tiny.context([]))
    model = wide()
    with pytest.raises(NotApplicable, match=r"no group of channels is large enough to keep 0\.75 of it"):
        Prune(multiple=64)(model, tiny.context([]))
    quantized = Quantize()(model, tiny.context(smooth(model, 2, 0)))
    with pytest.raises(NotApplicable, match="the network is quantized already: DequantizeLinear"):
        Prune()(quantized, tiny.context([]))
    assert isinstance(Prune(), Pass)
