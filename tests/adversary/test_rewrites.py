"""Rewrites on what no sample shows: other sizes than those of the file, other branches, loops without steps, edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from hasten.graph import edit, evaluate
from hasten.model import Model
from hasten.passes import activations, control, idioms, lookup, merge
from hasten.passes.clean import Clean
from hasten.passes.opsets import converted
from hasten.passes.rewrite import apply, known
from hasten.protocols import NotApplicable
from tests import tiny

Array = NDArray[Any]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
rng = np.random.default_rng(0)


def value(name: str, shape: Sequence[int | str] | None = None, kind: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def net(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: dict[str, Array] | None = None,
    *,
    opset: int = 17,
    hints: Sequence[ValueInfoProto] = (),
) -> Model:
    stored = [numpy_helper.from_array(np.asarray(w), n) for n, w in (weights or {}).items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, stored, value_info=hints)
    return tiny.as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def cleaned(model: Model, *samples: dict[str, Array]) -> ir.Model:
    try:
        return Clean()(model, tiny.context(samples)).graph
    except NotApplicable:
        return model.graph


def assert_same(before: ir.Model, after: ir.Model, *feeds: dict[str, Array]) -> None:
    wanted, got = evaluate.run(before, feeds), evaluate.run(after, feeds)
    for one, other in zip(wanted, got, strict=True):
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


def kinds(graph: ir.Model) -> list[str]:
    return [n.op_type for n in graph.graph]


# shapes written in a file are hints


def frozen(hinted: bool, declared: Sequence[int | str] | None) -> Model:
    """Traced at length 5, made dynamic afterwards: the mean over time as a sum that is divided by the length."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("Shape", ["h"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["length"]),
        helper.make_node("Cast", ["length"], ["n"], to=FLOAT),
        helper.make_node("ReduceSum", ["h", "axes"], ["sum"], keepdims=0),
        helper.make_node("Div", ["sum", "n"], ["y"]),
        helper.make_node("Reshape", ["h", "s"], ["z"]),
    ]
    hints = [value("h", [1, 5, 4]), value("s", [3], INT64)] if hinted else []
    weights = {"one": np.array(1), "axes": np.array([1])}
    outputs = [value("y", ["b", 4]), value("z", declared)]
    return net(nodes, [value("x", ["b", "t", 4])], outputs, weights, hints=hints)


@pytest.mark.parametrize("declared", [None, ["b", "t", 4], [1, 5, 4], [7, 7]])
@pytest.mark.parametrize("hinted", [False, True])
def test_sizes_of_a_trace_are_not_believed(hinted: bool, declared: Sequence[int | str] | None) -> None:
    model = frozen(hinted, declared)
    feeds = [{"x": rng.standard_normal((b, t, 4)).astype(np.float32)} for b, t in ((1, 5), (1, 10), (3, 2), (2, 1))]
    assert_same(model.graph, cleaned(model, feeds[0]), *feeds)


def test_an_output_that_is_declared_wrongly_loses_its_declaration() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["h"]), helper.make_node("Flatten", ["h"], ["y"])]
    model = net(nodes, [value("x", ["b", 2, 3])], [value("y", ["b", 5])])
    [output] = cleaned(model, {"x": np.ones((1, 2, 3), np.float32)}).graph.outputs
    assert output.shape is not None
    assert list(output.shape)[1] == 6


def test_inferred_shapes_come_from_inputs_and_weights_alone() -> None:
    graph = frozen(True, [1, 5, 4]).graph
    known(graph)
    shapes = {v.name: v.shape for n in graph.graph for v in n.outputs}
    assert str(shapes["h"]) == "[b,t,4]"
    assert "5" not in str(shapes["z"])


@pytest.mark.parametrize("outputs", [False, True])
def test_every_pass_infers_anew(outputs: bool) -> None:
    graph = frozen(True, [1, 5, 4]).graph
    edit.infer(graph, outputs=outputs)
    assert str(next(iter(graph.graph)).outputs[0].shape) == "[b,t,4]"


def test_a_body_says_nothing_about_sizes() -> None:
    """The body of a Loop declares a state of 5; 9 come."""
    cell = [
        helper.make_node("Shape", ["h"], ["s"]),
        helper.make_node("Expand", ["one", "s"], ["wide"]),
        helper.make_node("Add", ["wide", "h"], ["next"]),
        helper.make_node("Identity", ["go"], ["goes"]),
    ]
    given = [value("i", [], INT64), value("go", [], BOOL), value("h", [5])]
    body = helper.make_graph(cell, "b", given, [value("goes", [], BOOL), value("next", [5])])
    loop = helper.make_node("Loop", ["two", "", "x"], ["y"], body=body)
    model = net([loop], [value("x", ["n"])], [value("y", None)], {"two": np.array(2), "one": np.ones(1, np.float32)})
    feeds = [{"x": rng.standard_normal(n).astype(np.float32)} for n in (5, 9)]
    graph = cleaned(model, feeds[0])
    assert "Loop" not in kinds(graph)
    assert_same(model.graph, graph, *feeds)


# one-hot products


def one_hot(kind: int, *, expand: bool = False, table: Array | None = None) -> Model:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("Expand", ["x", "wide"], ["spread"]),
        helper.make_node("Equal", ["spread" if expand else "x", "numbers"], ["same"]),
        helper.make_node("Cast", ["same"], ["hot"], to=FLOAT),
        helper.make_node("MatMul", ["hot", "w"], ["y"]),
    ]
    w = rng.standard_normal((4, 3)).astype(np.float32) if table is None else table
    weights = {"numbers": np.arange(4).astype(dtype), "w": w, "wide": np.array([3, 2, 4])}
    return net(nodes if expand else nodes[1:], [value("x", ["b", 2, 1], kind)], [value("y", None)], weights)


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.DOUBLE, TensorProto.INT32, INT64])
def test_numbers_between_classes_pick_no_row(kind: int) -> None:
    model = one_hot(kind)
    numbers = np.array([0, 0.5, -0.0, 3.999, -1, 4, 1e9, 2], helper.tensor_dtype_to_np_dtype(kind)).reshape(4, 2, 1)
    graph = model.clone_graph()
    known(graph)
    done = lookup.pick_rows(graph)
    assert done == (kind in (TensorProto.INT32, INT64))
    assert_same(model.graph, graph, {"x": numbers})


def test_an_expand_that_also_repeats_rows_stays() -> None:
    model = one_hot(INT64, expand=True)
    graph = cleaned(model, {"x": np.ones((3, 2, 1), np.int64)})
    assert_same(model.graph, graph, {"x": np.array([[[1], [7]]])}, {"x": np.ones((3, 2, 1), np.int64)})


def test_a_table_with_infinities_is_multiplied() -> None:
    """Zero times infinity is no number, and no zero."""
    model = one_hot(INT64, table=np.array([[1], [np.inf], [2], [np.nan]], np.float32))
    graph = cleaned(model, {"x": np.zeros((1, 2, 1), np.int64)})
    assert_same(model.graph, graph, {"x": np.array([[[0], [1]]])})


# loops without steps, branches that are not taken


def loop(inner: Sequence[NodeProto], weights: dict[str, Array], trips: Array | None, extra: str) -> Model:
    """A Loop over ``h`` whose body adds ``extra``, a value that ``inner`` computes from outside in every step."""
    cell = [
        *inner,
        helper.make_node("ReduceSum", [extra], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["number"], to=FLOAT),
        helper.make_node("Add", ["h", "number"], ["next"]),
        helper.make_node("Identity", ["go"], ["goes"]),
    ]
    body = helper.make_graph(
        cell,
        "body",
        [value("i", [], INT64), value("go", [], BOOL), value("h")],
        [value("goes", [], BOOL), value("next")],
    )
    inputs = [value("x", ["b"]), value("k", [1], INT64)] + ([] if trips is not None else [value("n", [], INT64)])
    stored = {**weights, "true": np.array(True)} | ({"n": trips} if trips is not None else {})
    nodes = [helper.make_node("Loop", ["n", "true", "x"], ["y"], body=body)]
    return net(nodes, inputs, [value("y", None)], stored)


FAILS: dict[str, tuple[list[NodeProto], dict[str, Array], str]] = {
    "gather": ([helper.make_node("Gather", ["w", "k"], ["f"])], {"w": np.ones(3, np.float32)}, "f"),
    "division": ([helper.make_node("Div", ["w", "k"], ["f"])], {"w": np.ones(3, np.int64)}, "f"),
    "reshape": ([helper.make_node("Reshape", ["w", "k"], ["f"])], {"w": np.ones(3, np.float32)}, "f"),
    "broadcast": (
        [helper.make_node("Expand", ["one", "k"], ["e"]), helper.make_node("Add", ["w", "e"], ["f"])],
        {"w": np.ones(3, np.float32), "one": np.ones(1, np.float32)}, "f",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
@pytest.mark.parametrize("trips", [None, 0])
def test_a_loop_without_steps_runs_nothing_of_its_body(name: str, trips: int | None) -> None:
    inner, weights, extra = FAILS[name]
    model = loop(inner, weights, None if trips is None else np.array(trips), extra)
    k = {"gather": 9, "division": 0, "reshape": 5, "broadcast": 2}[name]
    feed = {"x": np.ones(2, np.float32), "k": np.array([k])} | ({"n": np.array(0)} if trips is None else {})
    good = {**feed, "k": np.array([{"broadcast": 3, "reshape": 3}.get(name, 1)])}
    assert_same(model.graph, cleaned(model, good), feed)


def test_a_loop_that_certainly_steps_may_give_up_its_work() -> None:
    inner, weights, extra = FAILS["gather"]
    model = loop(inner, weights, np.array(3), extra)
    graph = model.clone_graph()
    known(graph)
    hoist = [r for r in control.REWRITES if r.name == "hoist"]
    assert [site.rewrite for site in apply(graph, hoist)] == ["hoist"]
    feed = {"x": np.ones(2, np.float32), "k": np.array([1])}
    assert_same(model.graph, graph, feed)


OLD: dict[str, NodeProto] = {
    "Hardmax": helper.make_node("Hardmax", ["x"], ["r"]),
    "Hardmax along an axis": helper.make_node("Hardmax", ["x"], ["r"], axis=1),
    "Softmax": helper.make_node("Softmax", ["x"], ["r"]),
    "LogSoftmax": helper.make_node("LogSoftmax", ["x"], ["r"]),
    "ReduceSum": helper.make_node("ReduceSum", ["x"], ["r"], axes=[1]),
    "Squeeze": helper.make_node("Squeeze", ["x"], ["r"], axes=[0]),
    "Split": helper.make_node("Split", ["x"], ["r", "rest"], axis=1, split=[1, 2]),
}


@pytest.mark.parametrize("name", OLD)
def test_old_operators_inside_a_branch_keep_their_meaning(name: str) -> None:
    """A sample takes the other branch, so that no comparison of answers could tell."""
    bodies = {
        "then_branch": helper.make_graph([OLD[name]], "then", [], [value("r")]),
        "else_branch": helper.make_graph([helper.make_node("Neg", ["x"], ["q"])], "else", [], [value("q")]),
    }
    nodes = [
        helper.make_node("If", ["c"], ["h"], **bodies),
        helper.make_node("Identity", ["h"], ["i"]),
        helper.make_node("Abs", ["i"], ["y"]),
    ]
    model = net(nodes, [value("x", [1, 3, 4]), value("c", [], BOOL)], [value("y", None)], opset=11)
    x = rng.standard_normal((1, 3, 4)).astype(np.float32)
    graph = cleaned(model, {"x": x, "c": np.array(False)})
    assert_same(model.graph, graph, {"x": x, "c": np.array(True)}, {"x": x, "c": np.array(False)})
    assert converted(model.graph, 17) is None


def test_a_branch_of_unchanged_operators_is_brought_up_to_date() -> None:
    bodies = {
        branch: helper.make_graph([helper.make_node(kind, ["x"], ["r"])], branch, [], [value("r")])
        for branch, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [helper.make_node("If", ["c"], ["y"], **bodies)]
    model = net(nodes, [value("x", [2]), value("c", [], BOOL)], [value("y", None)], opset=11)
    graph = converted(model.graph, 17)
    assert graph is not None
    assert graph.opset_imports[""] == 17


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
def test_old_operators_of_two_axes_keep_their_meaning(kind: str, axis: int) -> None:
    """Up to operator set 12 everything from the axis on counts as one; the converter of onnx forgets it for some."""
    nodes = [helper.make_node("Neg", ["x"], ["h"]), helper.make_node(kind, ["h"], ["y"], axis=axis)]
    model = net(nodes, [value("x", ["b", "t", 4])], [value("y", None)], opset=11)
    graph = converted(model.graph, 17)
    assert graph is not None
    feeds = [{"x": rng.standard_normal((b, t, 4)).astype(np.float32)} for b, t in ((2, 3), (1, 5), (0, 3), (2, 0))]
    assert_same(model.graph, graph, *feeds)


def test_one_axis_that_both_operator_sets_mean_stays_one_node() -> None:
    shapes: list[tuple[list[int | str], int]] = [(["b", 4], 1), (["b", 4, 1, 1], 1), (["b", 2, 4], -1)]
    for shape, axis in shapes:
        model = net(
            [helper.make_node("Softmax", ["x"], ["y"], axis=axis)], [value("x", shape)], [value("y", None)], opset=11
        )
        graph = converted(model.graph, 13)
        assert graph is not None
        assert kinds(graph) == ["Softmax"]


# copies


def test_a_body_that_returns_one_value_twice_keeps_its_copy() -> None:
    """Both outputs of a Scan's body under one name: ONNX Runtime then answers wrongly."""
    cell = [
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Add", ["m", "c"], ["next"]),
        helper.make_node("Identity", ["next"], ["row"]),
    ]
    body = helper.make_graph(cell, "b", [value("h"), value("c")], [value("next"), value("row")])
    nodes = [
        helper.make_node("Identity", ["start"], ["s"]),
        helper.make_node("Scan", ["s", "x"], ["y", "z"], body=body, num_scan_inputs=1),
    ]
    weights = {"w": rng.standard_normal((2, 2)).astype(np.float32)}
    model = net(nodes, [value("start", ["b", 2]), value("x", ["t", "b", 2])], [value("y"), value("z")], weights)
    feeds = {
        "start": rng.standard_normal((3, 2)).astype(np.float32),
        "x": rng.standard_normal((4, 3, 2)).astype(np.float32),
    }
    graph = cleaned(model, feeds)
    assert "Identity" not in kinds(graph)
    assert_same(model.graph, graph, feeds)


@pytest.mark.parametrize("seen", [True, False])
def test_copies_that_leave_the_network_keep_their_names(seen: bool) -> None:
    """The whole of the housekeeping used to be left out where two outputs are computed alike."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["x"], ["b"]),
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Identity", ["h"], ["i"]),
        helper.make_node("Tanh", ["i"], ["y"]),
    ]
    model = net(nodes, [value("x", ["n"])], [value(name, ["n"]) for name in ("a", "b", "y")])
    feeds = {"x": rng.standard_normal(3).astype(np.float32)}
    made = Clean()(model, tiny.context([feeds] if seen else []))
    assert made.history == ("Clean(samples=2, for_='float')",)
    assert [o.name for o in made.graph.graph.outputs] == ["a", "b", "y"]
    assert sorted(kinds(made.graph)) == ["Relu", "Relu", "Tanh"]
    assert_same(model.graph, made.graph, feeds)


# edges of numbers

SPECIAL = np.array([[np.inf, 1.0, -2.0], [-np.inf, np.inf, 0.0], [np.nan, 1.0, 1.0], [3e38, -3e38, 1e-40]], np.float32)


def product_of(kind: str) -> Model:
    nodes = [
        helper.make_node(kind, ["x"], ["h"]),
        helper.make_node("MatMul", ["h", "a"], ["m"]),
        helper.make_node("MatMul", ["m", "b"], ["y"]),
    ]
    weights = {n: rng.standard_normal((3, 3)).astype(np.float32) for n in "ab"}
    return net(nodes, [value("x", ["n", 3])], [value("y", ["n", 3])], weights)


@pytest.mark.parametrize(("kind", "products"), [("Relu", 2), ("Identity", 2), ("Tanh", 1), ("Softmax", 1)])
def test_products_are_joined_of_what_is_never_infinite(kind: str, products: int) -> None:
    """Of infinity two products make NaN, and their product infinity."""
    model = product_of(kind)
    graph = cleaned(model, {"x": np.ones((1, 3), np.float32)})
    assert kinds(graph).count("MatMul") == products
    with np.errstate(all="ignore"):
        assert_same(model.graph, graph, {"x": SPECIAL[:3]})


def test_a_pool_of_one_pixel_keeps_what_it_makes_of_nan() -> None:
    nodes = [helper.make_node("MaxPool", ["x"], ["h"], kernel_shape=[1, 1]), helper.make_node("Abs", ["h"], ["y"])]
    model = net(nodes, [value("x", [1, 1, 1, 3])], [value("y", None)])
    feed = {"x": np.array([[[[np.nan, 1, -np.inf]]]], np.float32)}
    assert_same(model.graph, cleaned(model, {"x": np.ones((1, 1, 1, 3), np.float32)}), feed)


@pytest.mark.parametrize("empty", [(0, 3), (2, 0)])
def test_a_shape_that_is_counted_takes_empty_batches(empty: tuple[int, int]) -> None:
    """What is worked out (-1) cannot be beside an axis of size 0."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"]),
        helper.make_node("Gather", ["s", "one"], ["t"]),
        helper.make_node("Mul", ["t", "four"], ["wide"]),
        helper.make_node("Concat", ["b", "wide"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "one": np.array([1]), "four": np.array([4])}
    model = net(nodes, [value("x", ["b", "t", 4])], [value("y", None)], weights)
    sample, none = ({"x": np.ones((*size, 4), np.float32)} for size in ((2, 3), empty))
    assert_same(model.graph, cleaned(model, sample), none, sample)


@pytest.mark.parametrize("opset", [11, 12])
def test_layers_of_old_operator_sets_are_not_joined(opset: int) -> None:
    nodes = [helper.make_node("MatMul", ["x", w], [y]) for w, y in (("a", "m"), ("b", "n"))]
    nodes.append(helper.make_node("Concat", ["m", "n"], ["y"], axis=1))
    weights = {n: rng.standard_normal((3, 2)).astype(np.float32) for n in "ab"}
    graph = net(nodes, [value("x", ["n", 3])], [value("y", None)], weights, opset=opset).clone_graph()
    known(graph)
    assert apply(graph, merge.PARALLEL) == []


@pytest.mark.parametrize("factor", [1e-30, 1e30, 1e-45, np.inf, np.nan, 0.0])
@pytest.mark.parametrize("order", ["before", "behind"])
def test_a_factor_that_weights_cannot_hold_stays(order: str, factor: float) -> None:
    """Weights that become zero or infinite turn infinite inputs into NaN."""
    w, x = np.array([[1e-20, 1e20], [0, 1]], np.float32), "x"
    nodes = [helper.make_node("Mul", ["x", "c"], ["h"])] if order == "before" else []
    nodes.append(helper.make_node("MatMul", ["h" if nodes else x, "w"], ["m" if order == "behind" else "y"]))
    nodes += [helper.make_node("Mul", ["m", "c"], ["y"])] if order == "behind" else []
    model = net(nodes, [value("x", ["n", 2])], [value("y", ["n", 2])], {"w": w, "c": np.array(factor, np.float32)})
    graph = cleaned(model, {"x": np.ones((1, 2), np.float32)})
    with np.errstate(all="ignore"):
        assert_same(model.graph, graph, {"x": np.array([[np.inf, 1], [1, -np.inf], [0, 0], [1, 1]], np.float32)})


@pytest.mark.parametrize("kind", ["MaxPool", "GlobalMaxPool"])
def test_a_factor_does_not_pass_a_maximum_that_makes_a_number_of_nan(kind: str) -> None:
    more: dict[str, Any] = {"kernel_shape": [2, 2]} if kind == "MaxPool" else {}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node(kind, ["h"], ["p"], **more),
        helper.make_node("Mul", ["p", "c"], ["y"]),
    ]
    weights = {"w": np.ones((1, 1, 1, 1), np.float32), "c": np.array(0.25, np.float32)}
    model = net(nodes, [value("x", [1, 1, 2, 2])], [value("y", None)], weights)
    graph = cleaned(model, {"x": np.ones((1, 1, 2, 2), np.float32)})
    assert_same(model.graph, graph, {"x": np.full((1, 1, 2, 2), np.nan, np.float32)})


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_floats_keep_the_operators_that_runtimes_have_for_them(kind: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("Add", ["x", "three"], ["a"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["k"]),
        helper.make_node("Div", ["k", "six"], ["y"]),
        helper.make_node("Div", ["x", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["x", "f"], ["g"]),
        helper.make_node("Mul", ["g", "half"], ["z"]),
    ]
    numbers = {"three": 3, "zero": 0, "six": 6, "root": 2**0.5, "one": 1, "half": 0.5}
    weights: dict[str, Array] = {n: np.array(v, dtype) for n, v in numbers.items()}
    model = net(nodes, [value("x", ["n"], kind)], [value("y", ["n"], kind), value("z", ["n"], kind)], weights, opset=20)
    graph = model.clone_graph()
    known(graph)
    rules = (*activations.REWRITES, *idioms.REWRITES)
    assert apply(graph, rules) == []
