"""Tables instead of one-hot products, and instead of what is computed from their rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hasten.graph import edit, evaluate
from hasten.passes.lookup import pick_rows, tabulate

CLASSES, WIDTH = 11, 6


def network(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], *, dtype: int = TensorProto.INT32, opset: int = 20
) -> ir.Model:
    """From class numbers ``x`` [batch, 5] to ``y``."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", dtype, ["batch", 5])], [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    model = ir.from_proto(proto)
    edit.infer(model)
    return model


def spelt_out(*after: onnx.NodeProto, **weights: np.ndarray) -> ir.Model:
    """One-hot as exporters spell it: compare with 0, 1, ... and cast; then a product, and whatever comes ``after``."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Concat", ["size", "classes"], ["target"], axis=0),
        helper.make_node("Expand", ["column", "target"], ["spread"]),
        helper.make_node("Equal", ["spread", "numbers"], ["same"]),
        helper.make_node("Cast", ["same"], ["one_hot"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["one_hot", "w"], ["p" if after else "y"]),
        *after,
    ]
    known: dict[str, np.ndarray] = {
        "last": np.array([-1], np.int64),
        "classes": np.array([CLASSES], np.int64),
        "numbers": np.arange(CLASSES, dtype=np.int32).reshape(1, 1, -1),
        "w": np.random.default_rng(0).standard_normal((CLASSES, WIDTH)).astype(np.float32),
    }
    return network(nodes, {**known, **weights})


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(n.op_type for n in model.graph)


def numbers(seed: int, low: int = 0, high: int = CLASSES, dtype: type = np.int32) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).integers(low, high, (3, 5)).astype(dtype)}


def rewritten(model: ir.Model) -> ir.Model:
    copy = model.clone()
    assert pick_rows(copy) == 1
    edit.prune(copy)
    edit.infer(copy)
    return copy


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_one_hot_product_is_a_gather_and_unknown_numbers_are_rows_of_zeros(seed: int) -> None:
    model = spelt_out()
    shorter = rewritten(model)
    assert "MatMul" not in kinds(shorter)
    assert kinds(shorter)["Gather"] == 1
    feeds = [numbers(seed), numbers(seed, -5, CLASSES + 5)]
    assert evaluate.worst_difference(evaluate.run(model, feeds), evaluate.run(shorter, feeds))[1] == 0
    assert pick_rows(shorter) == 0, "once is enough"


@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.UINT8])
def test_the_operator_one_hot_counts_negative_numbers_from_the_end(dtype: int) -> None:
    nodes = [
        helper.make_node("OneHot", ["x", "depth", "values"], ["one_hot"]),
        helper.make_node("MatMul", ["one_hot", "w"], ["y"]),
    ]
    weights: dict[str, np.ndarray] = {
        "depth": np.array(CLASSES, np.int64),
        "values": np.array([0, 1], np.float32),
        "w": np.random.default_rng(1).standard_normal((CLASSES, WIDTH)).astype(np.float32),
    }
    model = network(nodes, weights, dtype=dtype)
    shorter = rewritten(model)
    if dtype == TensorProto.INT64:
        wide = [numbers(3, -2 * CLASSES, 2 * CLASSES, np.int64)]
        assert evaluate.worst_difference(evaluate.run(model, wide), evaluate.run(shorter, wide))[1] == 0
        return
    # ONNX Runtime has no OneHot for bytes, so the reference is numpy
    feeds = numbers(3, 0, CLASSES + 4, np.uint8)
    padded = np.concatenate([weights["w"], np.zeros((1, WIDTH), np.float32)])
    np.testing.assert_array_equal(evaluate.run(shorter, [feeds])[0]["y"], padded[np.minimum(feeds["x"], CLASSES)])


def test_other_comparisons_are_left_alone() -> None:
    shuffled = np.arange(CLASSES, dtype=np.int32)[::-1].copy().reshape(1, 1, -1)
    assert pick_rows(spelt_out(numbers=shuffled)) == 0
    wide = spelt_out(w=np.zeros((CLASSES, 2), np.float32))
    assert pick_rows(wide) == 1


GELU = (
    helper.make_node("Add", ["p", "b"], ["q"]),
    helper.make_node("Gelu", ["q"], ["g"]),
    helper.make_node("Mul", ["g", "q"], ["h"]),  # reads two values of the chain
    helper.make_node("LayerNormalization", ["h", "gamma"], ["n"], axis=-1),
    helper.make_node("MatMul", ["n", "v"], ["m"]),
)
EXTRA = {
    "b": np.random.default_rng(2).standard_normal((1, 1, WIDTH)).astype(np.float32),
    "gamma": np.linspace(0.5, 2, WIDTH, dtype=np.float32),
    "v": np.random.default_rng(3).standard_normal((WIDTH, 4)).astype(np.float32),
}


def test_what_is_computed_from_rows_moves_into_the_table() -> None:
    model = spelt_out(*GELU, helper.make_node("Relu", ["m"], ["y"]), **EXTRA)
    shorter = rewritten(model)
    assert tabulate(shorter) == 6
    edit.prune(shorter)
    assert not kinds(shorter) & Counter(["Gelu", "LayerNormalization", "MatMul", "Mul", "Relu", "Add"])
    feeds = [numbers(4), numbers(5, -3, CLASSES + 3)]
    assert evaluate.worst_difference(evaluate.run(model, feeds), evaluate.run(shorter, feeds))[1] < 1e-5
    assert tabulate(shorter) == 0


def test_what_mixes_positions_or_adds_by_position_ends_the_chain() -> None:
    position = np.random.default_rng(6).standard_normal((1, 5, WIDTH)).astype(np.float32)
    model = spelt_out(
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Add", ["q", "position"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"], axis=1),
        b=EXTRA["b"], position=position,
    )  # fmt: skip
    shorter = rewritten(model)
    assert tabulate(shorter) == 1
    edit.prune(shorter)
    assert kinds(shorter)["Add"] == 1
    feeds = [numbers(7)]
    assert evaluate.worst_difference(evaluate.run(model, feeds), evaluate.run(shorter, feeds))[1] < 1e-6


def test_a_table_may_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from hasten.passes import lookup

    monkeypatch.setattr(lookup, "GROWTH", 16)
    wide = {"v": np.zeros((WIDTH, 64), np.float32)}
    model = spelt_out(helper.make_node("MatMul", ["p", "v"], ["y"]), **wide)
    assert tabulate(rewritten(model)) == 0


def test_rows_that_several_need_stay_as_they_are() -> None:
    model = spelt_out(
        helper.make_node("Relu", ["p"], ["a"]),
        helper.make_node("Neg", ["p"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
    )
    assert tabulate(rewritten(model)) == 0
