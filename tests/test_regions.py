"""Regions and cuts of small networks whose structure is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.graph import edit, evaluate, halves, walk
from hasten.graph.regions import OUTSIDE, located, merged, places, regions
from hasten.model import Model
from tests import tiny

NETWORKS = (tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile)


def inferred(network: Callable[[], Model]) -> ir.Model:
    graph = network().clone_graph()
    edit.infer(graph)
    return graph


def linear(graph: ir.Model) -> list[ir.Node]:
    return [n for n in graph.graph if walk.weight(n)]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_linear_operator_lies_in_exactly_one_region(network: Callable[[], Model]) -> None:
    graph = inferred(network)
    found = regions(graph, linear(graph))
    held = [label for region in found for label in region.linear]
    assert sorted(held) == sorted(walk.label(n) for n in linear(graph))
    nodes = [label for region in found for label in region.nodes]
    assert len(nodes) == len(set(nodes))
    for i, region in enumerate(found):
        assert all(source < len(found) and source != i for _, source, _ in region.reads)


def test_a_region_holds_what_follows_its_convolution() -> None:
    graph = inferred(tiny.residual_cnn)
    found = regions(graph, linear(graph))
    kinds = [region.kind for region in found]
    assert kinds == [
        "convolution 3x3",
        "depthwise convolution 3x3",
        "convolution 1x1",
        "convolution 3x3",
        "matrix product",
    ]
    inside = [{n.op_type for n in graph.graph if walk.label(n) in region.nodes} for region in found]
    assert inside[0] == {"Conv", "BatchNormalization", "Clip"}
    assert inside[2] == {"Conv", "Add", "Relu", "MaxPool"}
    # the residual Add reads the first region's output beside its own
    assert {source for _, source, _ in found[2].reads} == {0, 1}
    assert found[0].reads == (("x", OUTSIDE, 0),)


def test_products_of_one_tensor_are_one_region() -> None:
    graph = inferred(tiny.transformer)
    found = regions(graph, linear(graph))
    assert [len(region.linear) for region in found] == [3, 1, 1, 1]


def test_merging_keeps_operators_and_drops_reads_inside() -> None:
    graph = inferred(tiny.residual_cnn)
    found = regions(graph, linear(graph))
    assert merged(found, 9) == found
    two = merged(found, 2)
    assert [len(r.linear) for r in two] == [3, 2]
    assert [source for _, source, _ in two[1].reads] == [0]
    assert {source for _, source, _ in two[0].reads} == {OUTSIDE}


def test_engine_names_point_at_regions() -> None:
    graph = inferred(tiny.residual_cnn)
    found = regions(graph, linear(graph))
    known = places(graph, found)
    first = found[0].linear[0]
    assert located([f"{first}/WithoutBiases"], known) == 0
    assert located(["Multiply_77", f"{first}/u8/clipped"], known) == 0
    assert located(["Multiply_77"], known) is None
    assert located(["x"], known) is None
    assert known["y"] == len(found) - 1


@pytest.mark.parametrize("network", NETWORKS)
@given(share=st.floats(0, 1), second=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_cut_and_run_on_is_the_network(network: Callable[[], Model], share: float, second: float) -> None:
    graph = inferred(network)
    feeds = tiny.feeds(network(), 1)[0]
    [whole] = evaluate.run(graph, [feeds])
    count = len(list(graph.graph))
    first, last = sorted((int(share * (count - 1)), int(second * (count - 1))))
    held = dict(feeds)
    for start, end in ((0, first), (first, last)):
        part = halves.between(graph, start, end)
        fresh = evaluate.run(part, [held])[0] if part.graph.outputs else {}
        held = halves.advance(held, fresh, halves.crossing(graph, end))
    [rest] = evaluate.run(halves.behind(graph, last), [held])
    for name, array in rest.items():
        np.testing.assert_allclose(array, whole[name], atol=1e-6)
    assert set(rest) == set(whole)


def test_what_a_body_reads_crosses_the_cut() -> None:
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["t"])], "then", [], [info("t", TensorProto.FLOAT, ["n"])]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["r"], ["e"])], "else", [], [info("e", TensorProto.FLOAT, ["n"])]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "m"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes, "body", [info("x", TensorProto.FLOAT, ["n"])], [info("y", TensorProto.FLOAT, ["n"])]
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert set(halves.crossing(model, 3)) == {"r", "c"}
    assert not halves.possible(model, 3)
    edit.infer(model)
    assert halves.possible(model, 3)
    x = np.array([-1, 2, 3], np.float32)
    [rest] = evaluate.run(halves.behind(model, 3), [{"r": np.maximum(x, 0), "c": np.array(False)}])
    np.testing.assert_array_equal(rest["y"], np.maximum(x, 0))
