"""What goes together, and that taking it out is the same as not listening to it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from hasten.graph import edit, evaluate, walk
from hasten.graph.channels import Channels, channels
from hasten.graph.cut import cut
from hasten.model import Model
from tests import tiny
from tests.random_nets import random_net

READERS = {"Conv": 1, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1, "LSTM": -1}


def inferred(model: Model) -> ir.Model:
    graph = model.clone_graph()
    edit.infer(graph)
    return graph


def masked(graph: ir.Model, found: Channels, removed: np.ndarray) -> ir.Model:
    """The whole network with zeros in place of what its linear layers would read of ``removed``."""
    copy = graph.clone()
    taken = edit.names(copy)
    for node in list(copy.graph):
        value = node.inputs[0] if node.op_type in READERS else None
        if value is None or value.name is None or walk.attribute(node, "group", 1) > 1:
            continue
        if walk.constant(node.inputs[1]) is None:
            continue
        axis = READERS[node.op_type] % len(found.units[value.name])
        kept = found.kept(value.name, axis, removed)
        if kept is not None:
            ids = found.units[value.name]
            whole = ids[axis]
            assert whole is not None
            mask = np.zeros([len(whole) if i == axis else 1 for i in range(len(ids))], np.float32)
            mask[tuple(kept if i == axis else 0 for i in range(len(ids)))] = 1
            constant = edit.add_constant(copy.graph, edit.fresh(taken, f"{value.name}/mask"), mask)
            name = edit.fresh(taken, f"{value.name}/masked")
            node.replace_input_with(0, edit.add_node(node, "Mul", [value, constant], name))
    return copy


def some(found: Channels, random: np.random.Generator) -> np.ndarray:
    """Random units of every group, never all, and never all of a tensor's."""
    gone: list[int] = []
    for group in found.groups:
        count = int(random.integers(0, len(group.units)))
        gone += random.choice(group.units, count, replace=False).tolist()
    return np.array(sorted(found.never_empty(gone)), np.int64)


def check(seed: int) -> tuple[int, set[str]]:
    model = random_net(seed)
    graph = inferred(model)
    found = channels(graph)
    removed = some(found, np.random.default_rng(seed))
    before = ir.to_proto(graph).SerializeToString()
    smaller = cut(graph, found, removed)
    assert ir.to_proto(graph).SerializeToString() == before
    ir.passes.common.CheckerPass(full_check=True)(smaller)
    samples = tiny.feeds(model, 2, batch=2)
    name, difference = evaluate.worst_difference(
        evaluate.run(masked(graph, found, removed), samples), evaluate.run(smaller, samples)
    )
    assert difference <= 1e-5, (seed, name, difference)
    return len(removed), {n.op_type for n in graph.graph}


def test_a_smaller_network_equals_the_masked_one() -> None:
    went = [check(seed) for seed in range(100)]
    assert sum(count > 0 for count, _ in went) > 95
    assert sum(count for count, _ in went) > 1500
    assert len(set().union(*(kinds for _, kinds in went))) >= 35  # the fuzz covers what it says


def test_no_tensor_loses_all_its_channels_while_its_group_lives_on() -> None:
    """Both halves of a Concat are added to one layer's output: one group, but each half is a tensor of its own."""
    net = tiny.Net()
    joined = net.add("Concat", net.conv("x", 3, 4), net.conv("x", 3, 4), axis=1)
    whole = net.add("Add", joined, net.conv("x", 3, 8))
    net.add("Flatten", net.add("GlobalAveragePool", net.conv(whole, 8, 2)), out="y")
    graph = inferred(net.model({"x": ["batch", 3, 8, 8]}, {"y": ["batch", 2]}))
    found = channels(graph)
    [group] = [g for g in found.groups if len(g.units) == 8]
    first, gone = list(group.units[:4]), [group.units[i] for i in (2, 0, 3, 1)]
    assert found.never_empty(gone) == gone[:3]
    assert found.never_empty(first[:3]) == first[:3]
    for removed in (found.never_empty(gone), found.never_empty(list(group.units))):
        ir.passes.common.CheckerPass(full_check=True)(cut(graph, found, removed))


@pytest.mark.slow
def test_a_smaller_network_equals_the_masked_one_a_thousand_times() -> None:
    for seed in range(100, 1100):
        check(seed)
