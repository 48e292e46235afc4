"""Every exact rewrite on random networks: it applies, the answers stay, the result is valid ONNX, once is enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten.graph import edit, evaluate, walk
from hasten.model import Model
from hasten.passes import (
    activations,
    clean,
    control,
    fold,
    idioms,
    layout,
    lookup,
    merge,
    noops,
    rewrite,
    scales,
    shapes,
    tidy,
)
from hasten.passes.check import Check
from hasten.passes.clean import Clean
from hasten.passes.rewrite import Rewrite, apply, known
from hasten.protocols import NotApplicable
from tests import tiny
from tests.random_nets import Builder, random_net
from tests.rewrite_cases import CASES, either, number

MODULES = (activations, control, fold, idioms, layout, lookup, noops, scales, shapes, tidy)
EVERY = {r.name: r for m in MODULES for r in m.REWRITES} | {
    r.name: r for r in (*merge.CONSECUTIVE, *merge.STEPWISE, *merge.PARALLEL)
}
CLOSE = 1e-5  # of an output's scale: float32 rounding of sums of a few terms
quick = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 1 << 20)


def built(seed: int, case: Callable[[Builder], Model], opset: int = 17) -> Model:
    return case(Builder(np.random.default_rng(seed), tiny.Net(opset=opset, seed=seed)))


def of_opset(name: str) -> int:
    """ReduceMean takes its axes as an attribute until 17; what needs a newer set has none."""
    return 17 if EVERY[name].since <= 17 else EVERY[name].since


def rewritten(model: Model, rewrites: list[Rewrite]) -> tuple[ir.Model, list[rewrite.Site]]:
    graph = model.clone_graph()
    known(graph)
    return graph, apply(graph, rewrites)


def assert_same(model: Model, graph: ir.Model, *, batch: int = 3, tolerance: float = CLOSE) -> None:
    feeds = tiny.feeds(model, 2, batch=batch)
    assert Check.of(model.graph, feeds).problem(graph, tolerance) == ""
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)


def test_every_rewrite_has_a_case() -> None:
    assert set(CASES) == set(EVERY)


@pytest.mark.parametrize("name", CASES)
@quick
@given(seed=seeds)
def test_a_rewrite_applies_and_changes_no_answer(name: str, seed: int) -> None:
    model = built(seed, CASES[name], of_opset(name))
    before = ir.to_proto(model.graph).SerializeToString()
    graph, done = rewritten(model, [EVERY[name]])
    assert {site.rewrite for site in done} == {name}
    assert_same(model, graph)
    assert apply(graph, [EVERY[name]]) == [], "once is enough"
    assert ir.to_proto(model.graph).SerializeToString() == before, "the argument is not edited"


@pytest.mark.parametrize("name", CASES)
@quick
@given(seed=seeds)
def test_all_of_them_together_settle(name: str, seed: int) -> None:
    """No rewrite makes work for another forever, and clean-up goes no further the second time."""
    model = built(seed, CASES[name], of_opset(name))
    feeds = tiny.feeds(model, 2, batch=3)
    try:
        cleaned = Clean()(model, tiny.context(feeds))
    except NotApplicable:
        assert name in ("parallel layers", "scale last")
        return
    assert_same(model, cleaned.graph)
    with pytest.raises(NotApplicable, match="nothing to tidy"):
        Clean()(cleaned, tiny.context(feeds))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=seeds, steps=st.integers(3, 10))
def test_random_networks_answer_the_same_after_clean_up(seed: int, steps: int) -> None:
    model = random_net(seed, steps)
    feeds = tiny.feeds(model, 2)
    try:
        cleaned = Clean()(model, tiny.context(feeds))
    except NotApplicable:
        return
    assert cleaned.history == ("Clean(samples=2, for_='float')",), "nothing had to be left out"
    assert_same(model, cleaned.graph, tolerance=1e-4)
    with pytest.raises(NotApplicable, match="nothing to tidy"):
        Clean()(cleaned, tiny.context(feeds))


# what looks alike and is not


def unlike(name: str, make: Callable[[Builder], Model], opset: int = 17) -> None:
    """The rewrite stays away."""
    model = built(7, make, opset)
    _, done = rewritten(model, [EVERY[name]])
    assert done == []


def test_an_affine_layer_before_a_convolution_that_pads_stays() -> None:
    def net(b: Builder) -> Model:
        b.net.conv(b.net.add("Add", "x", b.net.w(4, 1, 1)), 4, 6, 3, out="y")
        return b.net.model({"x": [1, 4, 5, 5]}, {"y": [1, 6, 5, 5]})

    unlike("affine conv", net)


def test_a_number_below_zero_does_not_pass_a_rectifier() -> None:
    def net(b: Builder) -> Model:
        h = b.net.add("Relu", b.net.add("Gemm", "x", b.net.w(4, 6), b.net.w(6)))
        b.net.add("Mul", h, number(b, -2), out="y")
        return b.net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})

    unlike("scale into linear", net)


def test_a_scale_of_a_value_that_others_read_stays() -> None:
    def net(b: Builder) -> Model:
        h = b.net.add("MatMul", "x", b.net.w(4, 6))
        b.net.add("Add", b.net.add("Mul", h, number(b, 2)), h, out="y")
        return b.net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})

    unlike("scale into linear", net)
    unlike("scale before linear", net)


def test_the_half_of_a_gelu_stays_beside_it() -> None:
    """Runtimes know the whole pattern: with the half in the next weights they would compute Erf by itself."""

    def net(b: Builder) -> Model:
        h = b.net.add("Relu", "x")
        opened = b.net.add("Add", b.net.add("Erf", b.net.add("Div", h, number(b, 2**0.5))), number(b, 1))
        gelu = b.net.add("Mul", b.net.add("Mul", h, opened), number(b, 0.5))
        b.net.add("MatMul", gelu, b.net.w(4, 6), out="y")
        return b.net.model({"x": ["batch", 4]}, {"y": ["batch", 6]})

    unlike("scale before linear", net)


@pytest.mark.parametrize(("root", "half", "one"), [(1.5, 0.5, 1), (2**0.5, 0.4, 1), (2**0.5, 0.5, 1.1)])
def test_what_is_nearly_a_gelu_is_none(root: float, half: float, one: float) -> None:
    def net(b: Builder) -> Model:
        h = b.net.add("Relu", "x")
        opened = either(b, "Add", b.net.add("Erf", b.net.add("Div", h, number(b, root))), number(b, one))
        b.net.add("Mul", b.net.add("Mul", h, opened), number(b, half), out="y")
        return b.net.model({"x": ["batch", 4]}, {"y": ["batch", 4]})

    unlike("gelu of erf", net, 20)


def test_a_scale_along_another_axis_is_none_of_a_layer() -> None:
    """[d, 1] has as many numbers as the last axis, and runs along the one before it."""

    def norm(b: Builder) -> Model:
        centred = b.net.add("Sub", "x", b.net.add("ReduceMean", "x", axes=[-1], keepdims=1))
        square = b.net.add("ReduceMean", b.net.add("Mul", centred, centred), axes=[-1], keepdims=1)
        y = b.net.add("Div", centred, b.net.add("Sqrt", b.net.add("Add", square, number(b, 1e-3))))
        b.net.add("Mul", y, b.net.w(4, 1, shift=1), out="y")
        return b.net.model({"x": ["batch", 4, 4]}, {"y": ["batch", 4, 4]})

    model = built(2, norm)
    graph, done = rewritten(model, [EVERY["layer normalization"]])
    assert len(done) == 1
    assert [n.op_type for n in graph.graph] == ["LayerNormalization", "Mul"]
    assert_same(model, graph)

    def product(b: Builder) -> Model:
        b.net.add("MatMul", b.net.add("Mul", "x", b.net.w(4, 1, shift=1)), b.net.w(4, 4), out="y")
        return b.net.model({"x": ["batch", 4, 4]}, {"y": ["batch", 4, 4]})

    unlike("scale before linear", product)


def test_a_mean_over_other_axes_is_no_layer_normalization() -> None:
    def net(b: Builder) -> Model:
        centred = b.net.add("Sub", "x", b.net.add("ReduceMean", "x", axes=[1], keepdims=1))
        square = b.net.add("ReduceMean", b.net.add("Mul", centred, centred), axes=[1], keepdims=1)
        b.net.add("Div", centred, b.net.add("Sqrt", b.net.add("Add", square, number(b, 1e-5))), out="y")
        return b.net.model({"x": ["batch", 3, 4]}, {"y": ["batch", 3, 4]})

    unlike("layer normalization", net)


def test_an_expand_whose_other_operand_is_no_wider_stays() -> None:
    def net(b: Builder) -> Model:
        b.net.add("Add", b.net.add("Expand", "x", b.ints(1, 5, 4)), b.net.w(4), out="y")
        return b.net.model({"x": ["batch", 1, 4]}, {"y": ["batch", 5, 4]})

    unlike("expand before stretching", net)


def test_products_through_a_narrow_middle_stay_two() -> None:
    """One matrix for both would be larger than the two together: that is a factorised layer."""

    def net(b: Builder) -> Model:
        b.net.add("MatMul", b.net.add("MatMul", "x", b.net.w(9, 2)), b.net.w(2, 9), out="y")
        return b.net.model({"x": ["batch", 9]}, {"y": ["batch", 9]})

    unlike("consecutive products", net)


def test_a_value_that_leaves_the_network_is_not_cut_off() -> None:
    def net(b: Builder) -> Model:
        b.net.conv("x", 4, 6, 1, pads=[0] * 4, out="z")
        b.net.add("Mul", "z", number(b, 2), out="y")
        shape: list[int | str] = ["batch", 6, 3, 3]
        return b.net.model({"x": ["batch", 4, 3, 3]}, {"y": shape, "z": shape})

    unlike("conv affine", net)


def test_an_input_that_is_an_output_keeps_both_names() -> None:
    """What does nothing between an input and an output has to stay."""

    def net(b: Builder) -> Model:
        b.net.add("Transpose", "x", perm=[0, 1], out="y")
        return b.net.model({"x": ["batch", 4]}, {"y": ["batch", 4]})

    unlike("transpose nothing", net)


def test_a_loop_that_a_condition_ends_is_not_unrolled() -> None:
    unlike("unroll loop", CASES["hoist"])


def test_long_loops_stay_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TRIPS", 0)
    unlike("unroll loop", CASES["unroll loop"])


# the gate


def _doubles(node: ir.Node, taken: set[str]) -> bool:
    """A rule that is wrong: it doubles what a Relu gives out."""
    if node.op_type != "Relu" or (walk.only_consumer(node.outputs[0]) or node).op_type == "Mul":
        return False
    two = edit.add_constant(walk.main_graph(node), edit.fresh(taken, "two"), np.array(2, np.float32))
    inner = edit.add_node(node, "Relu", list(node.inputs), edit.fresh(taken, "inner"))
    return edit.swap(node, "Mul", [inner, two], taken)


def _halves_well(node: ir.Node, taken: set[str]) -> bool:
    """A rule that is right: a Clip from zero on is a Relu."""
    low = walk.scalar(node.inputs[1]) if node.op_type == "Clip" and len(node.inputs) == 2 else None
    return low == 0 and edit.swap(node, "Relu", [node.inputs[0]], taken)


def spoilable() -> Model:
    net = tiny.Net()
    zero = net.const(np.float32(0))
    h = net.add("Clip", net.add("Gemm", "x", net.w(4, 6), net.w(6)), zero, out="first")
    h = net.add("Sigmoid", net.add("Gemm", net.add("Relu", net.add("Tanh", h), out="second"), net.w(6, 6)))
    net.add("Gemm", net.add("Clip", h, zero, out="third"), net.w(6, 3), out="y")
    return net.model({"x": ["batch", 4]}, {"y": ["batch", 3]})


def test_the_application_that_moves_an_output_is_found_told_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Rewrite("double", _doubles), Rewrite("halve well", _halves_well)
    monkeypatch.setattr(clean, "STAGES", (clean.Rules((good, bad)),))
    model = spoilable()
    feeds = tiny.feeds(model, 2)
    cleaned = Clean()(model, tiny.context(feeds))
    assert [n.op_type for n in cleaned.graph.graph] == [
        "Gemm",
        "Relu",
        "Tanh",
        "Relu",
        "Gemm",
        "Sigmoid",
        "Relu",
        "Gemm",
    ]
    left_out = ", ".join(f"double at '{place}'" for place in ("n_second", "first/relu", "third/relu"))
    assert cleaned.history == (f"Clean(samples=2, for_='float') without {left_out}",)
    assert "left out the rewrite double at" in caplog.text
    assert "output 'y' moved by" in caplog.text
    assert_same(model, cleaned.graph)


def test_a_rewrite_that_does_not_run_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(node: ir.Node, taken: set[str]) -> bool:
        return node.op_type == "Sigmoid" and edit.swap(node, "NoSuchOperator", list(node.inputs), taken)

    monkeypatch.setattr(clean, "STAGES", (clean.Rules((Rewrite("break", breaks),)),))
    model = spoilable()
    with pytest.raises(NotApplicable, match="left out break at 'n_sigmoid"):
        Clean()(model, tiny.context(tiny.feeds(model, 1)))


def test_a_rewrite_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(node: ir.Node, taken: set[str]) -> bool:
        if node.op_type == "Sigmoid":
            raise IndexError("no such thing")
        return False

    monkeypatch.setattr(clean, "STAGES", (clean.Rules((Rewrite("fail", fails), Rewrite("halve well", _halves_well))),))
    model = spoilable()
    cleaned = Clean()(model, tiny.context(tiny.feeds(model, 1)))
    assert [n.op_type for n in cleaned.graph.graph].count("Clip") == 0
    assert cleaned.history[0].startswith("Clean(samples=2, for_='float') without fail at 'n_sigmoid")


def test_bisection_names_the_first_culprit() -> None:
    model = spoilable()
    graph = model.clone_graph()
    known(graph)
    rewrites = [Rewrite("halve well", _halves_well), Rewrite("double", _doubles)]
    copy = graph.clone()
    done = apply(copy, rewrites)
    check = Check.of(model.graph, tiny.feeds(model, 2))
    found = rewrite.culprit(graph, rewrites, check.problem, (), done)
    first = next(i for i in range(1, len(done) + 1) if _after(graph, rewrites, i, check))
    assert found == done[first - 1]
    assert found.rewrite == "double"


def _after(graph: ir.Model, rewrites: list[Rewrite], count: int, check: Check) -> str:
    copy = graph.clone()
    apply(copy, rewrites, limit=count)
    return check.problem(copy)


# details


def test_a_known_branch_with_values_of_the_main_graph() -> None:
    model = built(3, CASES["known branch"])
    graph, _ = rewritten(model, [EVERY["known branch"]])
    assert not any(n.op_type == "If" for n in graph.graph)


def test_unrolled_steps_share_one_weight() -> None:
    model = built(4, CASES["unroll loop"])
    graph, _ = rewritten(model, [EVERY["unroll loop"]])
    weights = {n.inputs[1] for n in graph.graph if n.op_type == "MatMul"}
    assert len(weights) == 1


def test_sequences_that_stay_keep_running() -> None:
    """A sequence that is not only picked from: shape inference must not leave a tensor's type on it."""

    def net(b: Builder) -> Model:
        parts = b.net.add("SplitToSequence", b.net.add("Add", "x", number(b, 0)), b.net.const(np.array(2)), axis=1)
        same = b.net.add("Identity", parts)
        b.net.add("ConcatFromSequence", same, axis=0, out="y")
        return b.net.model({"x": ["batch", 4]}, {"y": ["both", 2]})

    model = built(6, net)
    cleaned = Clean()(model, tiny.context(tiny.feeds(model, 2)))
    assert "without" not in cleaned.history[0]
    assert_same(model, cleaned.graph)


def test_hoisted_work_stands_outside() -> None:
    model = built(5, CASES["hoist"])
    graph, _ = rewritten(model, [EVERY["hoist"]])
    [loop] = [n for n in graph.graph if n.op_type == "Loop"]
    assert next(n.op_type for n in graph.graph) in ("Exp", "Tanh")
    assert "MatMul" in [n.op_type for n in loop.attributes["body"].value]


def test_an_unrolled_cell_multiplies_all_its_inputs_at_once() -> None:
    """Scan -> steps -> one product: what a recurrent network is exported as."""
    net = tiny.Net(seed=5)
    cell = [
        onnx.helper.make_node("MatMul", ["c", net.w(4, 6)], ["cw"]),
        onnx.helper.make_node("MatMul", ["h", net.w(6, 6)], ["hw"]),
        onnx.helper.make_node("Add", ["cw", "hw"], ["s"]),
        onnx.helper.make_node("Tanh", ["s"], ["next"]),
        onnx.helper.make_node("Identity", ["next"], ["row"]),
    ]
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        cell,
        "body",
        [value("h", 1, [1, 6]), value("c", 1, [1, 4])],
        [value("next", 1, None), value("row", 1, None)],
    )
    net.nodes.append(onnx.helper.make_node("Scan", [net.w(1, 6), "x"], ["y", "z"], body=body, num_scan_inputs=1))
    model = net.model({"x": [8, 1, 4]}, {"y": [1, 6], "z": [8, 1, 6]})
    cleaned = Clean()(model, tiny.context(tiny.feeds(model, 2)))
    kinds = [n.op_type for n in cleaned.graph.graph]
    assert kinds.count("MatMul") == 8, "one for all inputs, and one for each state but the first, which is known"
    assert "Scan" not in kinds
    assert_same(model, cleaned.graph)


def test_ids_outside_of_the_classes_are_rows_of_zeros() -> None:
    model = built(1, CASES["one hot product"])
    graph, _ = rewritten(model, [EVERY["one hot product"]])
    ids = np.array([[-9, -1, 0, 2, 40]])
    feeds = [{"x": ((ids + 0.1 * np.sign(ids)) / 3).astype(np.float32)}]
    assert evaluate.worst_difference(evaluate.run(model.graph, feeds), evaluate.run(graph, feeds))[1] == 0
