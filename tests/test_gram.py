"""Gram matrices: columns times weights are the layer, and their sums are what the data says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.graph import evaluate, taps, walk
from hasten.graph.grams import grams
from hasten.graph.linear import linear, linears
from hasten.protocols import Feeds
from hasten.quant import gram
from hasten.quant.gram import Gram
from tests import tiny


def layer(model: Any) -> Any:
    return linears(model)[0]


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    auto=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
    group=st.sampled_from([1, 2, 4]),
    batch=st.integers(1, 2),
)
def test_columns_times_weights_are_the_convolution(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: list[int],
    auto: str,
    group: int,
    batch: int,
) -> None:
    net = tiny.Net()
    how: dict[str, Any] = {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
    if auto.startswith("SAME"):
        dilation = (1, 1)  # the runtime does not take both
    w = net.w(8, 4 // group, *kernel)
    net.add("Conv", "x", w, out="y", strides=list(stride), dilations=list(dilation), group=group, **how)
    model = net.model({"x": [batch, 4, 9, 11]}, {"y": [batch, 8, None, None]})  # type: ignore[list-item]
    [sample] = tiny.feeds(model, 1)
    [got] = evaluate.run(model.graph, [sample])
    found = layer(model.graph)
    columns = found.columns(np.asarray(sample["x"]), limit=10**6)
    y = np.einsum("grk,ngk->ngr", found.matrix(walk.constant(found.weight.value)), columns)
    wanted = got["y"].transpose(0, 2, 3, 1).reshape(len(y), 8)
    np.testing.assert_allclose(y.reshape(len(y), 8), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("op", "trans"), [("MatMul", 0), ("Gemm", 0), ("Gemm", 1)])
def test_matrices_of_products(op: str, trans: int) -> None:
    net = tiny.Net()
    net.add(op, "x", net.w(*((5, 7) if trans else (7, 5))), out="y", **({"transB": trans} if op == "Gemm" else {}))
    model = net.model({"x": [3, 7]}, {"y": [3, 5]})
    [sample] = tiny.feeds(model, 1)
    found = layer(model.graph)
    w = walk.constant(found.weight.value)
    matrix = found.matrix(w)
    assert matrix.shape == (1, 5, 7)
    np.testing.assert_array_equal(found.restored(matrix), w)
    [got] = evaluate.run(model.graph, [sample])
    np.testing.assert_allclose(np.asarray(sample["x"]) @ matrix[0].T, got["y"], rtol=1e-5, atol=1e-6)


def test_what_is_no_matrix_is_left_out() -> None:
    net = tiny.Net()
    stacked = net.add("MatMul", "x", net.w(2, 4, 4))
    turned = net.add("Gemm", net.add("Squeeze", net.add("Slice", stacked, *[net.const(np.array([v])) for v in (0, 1)]),
                                     net.const(np.array([0]))), net.w(4, 4), transA=1)  # fmt: skip
    net.add("ConvTranspose", net.add("Unsqueeze", turned, net.const(np.array([0, 1]))), net.w(1, 2, 2, 2), out="y")
    model = net.model({"x": [2, 4, 4]}, {"y": [1, 2, 5, 5]})
    assert linears(model.graph) == []
    assert [linear(n) for n in model.graph.graph if n.op_type == "Slice"] == [None]


@given(st.integers(1, 3), st.integers(1, 80), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_sums_and_errors_are_those_of_the_columns(groups: int, k: int, n: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.standard_normal((n, groups, k)).astype(np.float32)
    found = Gram(groups, k)
    for part in np.array_split(x, 3):
        found.update(part)
    assert found.count == n
    np.testing.assert_allclose(found.total, np.einsum("ngi,ngj->gij", x, x, dtype=np.float64), atol=1e-4)
    np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64), atol=1e-5)
    np.testing.assert_allclose(found.sizes, np.abs(x).sum(0, dtype=np.float64), atol=1e-4)
    d = rng.standard_normal((groups, 6, k))
    wanted = np.square(np.einsum("grk,ngk->ngr", d, x.astype(np.float64))).mean(0)
    np.testing.assert_allclose(found.error(d), wanted, rtol=1e-4, atol=1e-4)


def test_columns_that_are_not_finite_are_left_out() -> None:
    found = Gram(1, 2)
    found.update(np.array([[[1, 2]], [[np.nan, 1]], [[np.inf, -np.inf]], [[3, 4]]], np.float32))
    assert found.count == 2
    np.testing.assert_array_equal(found.total[0], [[10, 14], [14, 20]])


def test_a_limit_takes_columns_at_random_and_the_same_again() -> None:
    x = np.arange(400, dtype=np.float32).reshape(100, 4)
    taken = gram.rows(x, 10, seed=3)
    assert taken.shape == (10, 1, 4)
    assert len(np.unique(taken[:, 0, 0])) == 10
    np.testing.assert_array_equal(taken, gram.rows(x, 10, seed=3))
    assert not np.array_equal(taken, gram.rows(x, 10, seed=4))


@pytest.mark.parametrize("memory", [1 << 30, 1], ids=["one run", "a run each"])
def test_layers_that_read_alike_share_a_matrix(memory: int) -> None:
    model = tiny.transformer()
    samples = tiny.feeds(model, 4)
    runs = 0

    def feeds() -> Iterator[Feeds]:
        nonlocal runs
        runs += 1
        return iter(samples)

    found = list(grams(model, linears(model.graph), feeds, memory_bytes=memory))
    assert [len(alike) for alike, _ in found] == [3, 1, 1, 1]  # queries, keys and values read the same
    assert [total.k for _, total in found] == [32, 32, 32, 128]
    assert runs == (2 if memory > 1 else 8)  # once to size the tensors, once to fill
    x = np.concatenate([np.asarray(s["x"])[0] for s in samples])
    np.testing.assert_allclose(found[0][1].total[0], x.T.astype(np.float64) @ x, rtol=1e-4, atol=1e-3)


def test_streaming_keeps_nothing_and_hands_out_every_sample() -> None:
    model = tiny.residual_cnn()
    samples = tiny.feeds(model, 3)
    wanted = [n.outputs[0].name or "" for n in model.graph.graph if n.op_type == "Conv"]
    seen: dict[str, list[tuple[int, ...]]] = {}
    taps.stream(model, ["x", *wanted], lambda: iter(samples), lambda name, x: seen.setdefault(name, []).append(x.shape))
    assert list(seen) == ["x", *wanted]
    assert {len(shapes) for shapes in seen.values()} == {3}
