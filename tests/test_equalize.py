"""Equalize and Smooth leave the float function alone and make the integer one better."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hasten.errors import UsageError
from hasten.graph import evaluate, walk
from hasten.model import Model
from hasten.passes import channels
from hasten.passes.equalize import Equalize, pairs_of
from hasten.passes.quantize import Quantize
from hasten.passes.smooth import Smooth
from hasten.protocols import NotApplicable, Pass
from hasten.quant import equalise
from hasten.quant.gram import Gram
from hasten.quant.grid import S8, U8, affine, fake_quantize, symmetric
from tests import tiny
from tests.test_quantize import decibels

Array = NDArray[Any]
EXACT = 1e-4  # float32, after what channels of sizes 1 to 1,000 cancel of each other


def spread(net: tiny.Net, *shape: int, over: float, axis: int = 0) -> str:
    """Weights whose channels differ by factors of up to 10**over."""
    w = net.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    factors = 10 ** net.random.uniform(-over / 2, over / 2, shape[axis])
    return net.const((w * factors.reshape(-1, *[1] * (len(shape) - 1 - axis))).astype(np.float32))


def unchanged(before: Model, after: Model, samples: Any) -> None:
    name, difference = evaluate.worst_difference(
        evaluate.run(before.graph, samples), evaluate.run(after.graph, samples)
    )
    assert difference <= EXACT, (name, difference)
    onnx.checker.check_model(ir.to_proto(after.graph), full_check=True)
    assert [str(v) for v in after.graph.graph.outputs] == [str(v) for v in before.graph.graph.outputs]


ACTIVATIONS = ["none", "Relu", "LeakyRelu", "PRelu", "Clip", "MaxPool", "AveragePool", "shift", "Transpose"]


def link(net: tiny.Net, x: str, kind: str, channels: int) -> str:
    if kind == "none":
        return x
    if kind == "PRelu":
        return net.add("PRelu", x, net.const(net.random.uniform(0, 0.5, (channels, 1, 1)).astype(np.float32)))
    if kind == "Clip":
        return net.add("Clip", x, net.const(np.float32(0)), net.const(np.float32(0.7)))
    if kind in ("MaxPool", "AveragePool"):
        return net.add(kind, x, kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    if kind == "shift":
        return net.add("Add", x, net.const(net.random.standard_normal((channels, 1, 1)).astype(np.float32)))
    if kind == "Transpose":
        return net.add("Transpose", net.add("Transpose", x, perm=[0, 2, 1, 3]), perm=[0, 2, 1, 3])
    return net.add(kind, x)


def chain(kinds: list[str], *, over: float, seed: int, group: int, last: str, bias: bool = True) -> Model:
    """Conv -> .. -> depthwise -> .. -> grouped Conv -> pool -> Gemm or Conv, with uneven channels everywhere."""
    net = tiny.Net(seed=seed)
    extra = [[net.w(8, scale=0.3)] if bias else [] for _ in range(3)]
    x = net.add("Conv", "x", spread(net, 8, 3, 3, 3, over=over), *extra[0], pads=[1] * 4)
    x = net.add("Conv", link(net, x, kinds[0], 8), spread(net, 8, 1, 3, 3, over=over), *extra[1], group=8, pads=[1] * 4)
    x = net.add("Conv", link(net, x, kinds[1], 8), spread(net, 8, 8 // group, 1, 1, over=over), *extra[2], group=group)
    x = link(net, x, kinds[2], 8)
    if last == "Gemm":
        flat = net.add("Flatten", net.add("GlobalAveragePool", x))
        net.add("Gemm", flat, spread(net, 5, 8, over=over, axis=1), net.w(5), out="y", transB=1)
        return net.model({"x": [1, 3, 8, 8]}, {"y": [1, 5]})
    net.add("Conv", net.add("GlobalMaxPool", x), spread(net, 5, 8, 1, 1, over=over), out="y")
    return net.model({"x": [1, 3, 8, 8]}, {"y": [1, 5, 1, 1]})


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(ACTIVATIONS), min_size=3, max_size=3),
    over=st.floats(0.5, 3),
    seed=st.integers(0, 10**6),
    group=st.sampled_from([1, 2]),
    last=st.sampled_from(["Gemm", "Conv"]),
    bias=st.booleans(),
)
def test_the_float_function_stays(kinds: list[str], over: float, seed: int, group: int, last: str, bias: bool) -> None:
    model = chain(kinds, over=over, seed=seed, group=group, last=last, bias=bias)
    samples, fresh = tiny.feeds(model, 4), tiny.feeds(model, 3, seed=9)
    for step in (Equalize(), Smooth(worth=0), Smooth(exponent=0.5)):
        try:
            changed = step(model, tiny.context(samples))
        except NotApplicable:
            assert isinstance(step, Smooth)
            continue
        assert changed.history == (repr(step),)
        unchanged(model, changed, fresh)


def ranges(model: Model) -> list[Array]:
    """The largest magnitude of each row and of each column of every weight."""
    found = []
    for pair in pairs_of(model.graph):
        w1, w2 = walk.constant(pair.layer.inputs[1]), walk.constant(pair.readers[0].node.inputs[1])
        assert w1 is not None
        assert w2 is not None
        rows = np.abs(w1).max(axis=tuple(range(1, w1.ndim)))
        found.append(np.stack([rows, channels.per_channel(pair.readers[0], np.abs(pair.readers[0].matrix(w2)).max(1))]))
    return found


def test_ranges_become_those_of_the_closed_form() -> None:
    """Of a depthwise triple r1, r2, r3 all become (r1 r2 r3)**(1/3)."""
    net = tiny.Net()
    shapes = ((8, 3, 1, 1), (8, 1, 3, 3), (4, 8, 1, 1))
    w = [spread(net, *s, over=3, axis=1 if s[0] == 4 else 0) for s in shapes]
    x = net.add("Relu", net.add("Conv", "x", w[0]))
    x = net.add("Relu", net.add("Conv", x, w[1], group=8, pads=[1] * 4))
    net.add("Conv", x, w[2], out="y")
    model = net.model({"x": [1, 3, 6, 6]}, {"y": [1, 4, 6, 6]})
    r1, r2 = ranges(model)[0]
    r3 = ranges(model)[1][1]
    after = Equalize()(model, tiny.context([]))
    (a, b), (c, d) = ranges(after)
    for got in (a, b, c, d):
        np.testing.assert_allclose(got, np.cbrt(r1 * r2 * r3), rtol=3e-3)


def test_a_clip_keeps_its_bound_for_each_channel() -> None:
    model = chain(["Clip", "none", "none"], over=3, seed=0, group=1, last="Conv")
    samples = [{"x": 3 * np.asarray(s["x"])} for s in tiny.feeds(model, 4)]
    after = Equalize()(model, tiny.context(samples))
    unchanged(model, after, samples)
    assert [n.op_type for n in after.graph.graph].count("Min") == 1
    skipped = Equalize(clip="skip")(model, tiny.context(samples))
    assert "Clip" in [n.op_type for n in skipped.graph.graph]


def test_what_others_read_is_left_alone() -> None:
    net = tiny.Net()
    x = net.add("Relu", net.conv("x", 3, 8))
    net.add("Add", net.conv(x, 8, 8), x, out="y")
    model = net.model({"x": [1, 3, 6, 6]}, {"y": [1, 8, 6, 6]})
    with pytest.raises(NotApplicable, match="no two linear layers follow one another"):
        Equalize()(model, tiny.context([]))
    with pytest.raises(NotApplicable, match="no linear layer's input can be divided"):
        Smooth()(model, tiny.context(tiny.feeds(model, 2)))


def test_biases_are_absorbed_where_no_sample_falls_below() -> None:
    net = tiny.Net()
    bias = net.const(np.array([30, 0, -30, 25], np.float32))
    x = net.add("Relu", net.add("Conv", "x", net.w(4, 3, 1, 1), bias))
    net.add("Conv", x, net.w(5, 4, 1, 1), out="y")
    model = net.model({"x": [1, 3, 6, 6]}, {"y": [1, 5, 6, 6]})
    samples = tiny.feeds(model, 8)
    after = Equalize(absorb=True)(model, tiny.context(samples))
    unchanged(model, after, [*samples, *tiny.feeds(model, 4, seed=5)])
    left = walk.constant(pairs_of(after.graph)[0].layer.inputs[2])
    plain = walk.constant(pairs_of(Equalize()(model, tiny.context([])).graph)[0].layer.inputs[2])
    assert left is not None
    assert plain is not None
    assert (left < 0.3 * plain)[[0, 3]].all()
    np.testing.assert_array_equal(left[[1, 2]], plain[[1, 2]])


def test_equalizing_rescues_one_scale_for_a_whole_weight() -> None:
    model = chain(["Relu", "Relu", "Relu"], over=3, seed=1, group=1, last="Gemm")
    samples = tiny.feeds(model, 16)
    context = tiny.context(samples)
    step = Quantize(per_channel=False)
    before = decibels(model, step(model, context), samples)
    after = decibels(model, step(Equalize()(model, context), context), samples)
    assert after > before + 10


def outliers(seed: int = 0) -> Model:
    """LayerNormalization with three wide channels -> MatMul, Gelu-like gate, and a second one fed by a sum."""
    net, d = tiny.Net(seed=seed), 32
    gamma = np.ones(d, np.float32)
    gamma[[3, 17, 30]] = [40, 25, 60]
    h = net.add("LayerNormalization", "x", net.const(gamma), net.w(d), axis=-1)
    parts = [net.add("Add", net.add("MatMul", h, net.w(d, d)), net.w(d, scale=0.1)) for _ in range(2)]
    both = net.add("Mul", net.add("Sigmoid", parts[0]), parts[1])
    net.add("Add", both, net.add("MatMul", both, net.w(d, d)), out="y")
    return net.model({"x": ["batch", 12, d]}, {"y": ["batch", 12, d]})


def test_smoothing_folds_into_the_normalisation_and_helps() -> None:
    model = outliers()
    samples, fresh = tiny.feeds(model, 16), tiny.feeds(model, 8, seed=7)
    context = tiny.context(samples)
    folded = Smooth(insert=False)(model, context)
    unchanged(model, folded, fresh)
    assert len(folded.graph.graph) == len(model.graph.graph)
    before = decibels(model, Quantize()(model, context), fresh)
    after = decibels(model, Quantize()(folded, context), fresh)
    assert after > before + 6


def test_a_shared_input_gets_a_mul_of_its_own() -> None:
    model = outliers()
    samples = tiny.feeds(model, 8)
    both = Smooth(exponent=0.6)(model, tiny.context(samples))
    unchanged(model, both, tiny.feeds(model, 4, seed=3))
    kinds = [n.op_type for n in both.graph.graph]
    assert kinds.count("Mul") == [n.op_type for n in model.graph.graph].count("Mul") + 1


def test_the_estimate_orders_factors_as_a_run_does() -> None:
    """The predicted output error of an exponent against rounding real inputs and weights."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4000, 24)) * 10 ** rng.uniform(-1, 1.5, 24)).astype(np.float32)
    w = (rng.standard_normal((1, 16, 24)) * 10 ** rng.uniform(-0.5, 0.5, 24)).astype(np.float32)
    gram = Gram(1, 24)
    gram.update(x[:, None])
    low, high = x.min(0).astype(np.float64), x.max(0).astype(np.float64)
    predicted, measured = [], []
    for exponent in (None, *equalise.EXPONENTS):
        s = np.ones(24) if exponent is None else equalise.smoothing(np.abs(x).max(0), np.abs(w[0]).max(0), exponent)
        predicted.append(equalise.output_error(w, s[None, None], low[None, None], high[None, None], gram))
        xs = (x / s).astype(np.float32)
        x8 = fake_quantize(xs, *affine(xs.min(), xs.max(), U8), U8)
        ws = (w[0] * s).astype(np.float32)
        w8 = fake_quantize(ws, *symmetric(np.abs(ws).max(1), S8), S8, axis=0)
        y = x @ w[0].T
        measured.append(float(np.square(x8 @ w8.T - y).sum() / np.square(y).sum()))
    np.testing.assert_allclose(predicted, measured, rtol=0.25)
    assert np.argmin(predicted) == np.argmin(measured)


def test_factors_are_those_of_the_papers() -> None:
    np.testing.assert_allclose(equalise.balance(np.array([4.0, 1, 0]), np.array([1.0, 4, 2])), [2, 0.5, 1])
    s = equalise.smoothing(np.array([8.0, 2]), np.array([2.0, 0.5]), 0.5)
    np.testing.assert_allclose(s[0] / s[1], np.sqrt(8 / 2) / np.sqrt(2 / 0.5))


def test_answers() -> None:
    model = tiny.mlp()
    samples = tiny.feeds(model, 4)
    context = tiny.context(samples)
    quantized = Quantize()(model, context)
    for step in (Equalize(), Smooth()):
        assert isinstance(step, Pass)
        with pytest.raises(NotApplicable, match="quantized already"):
            step(quantized, context)
    with pytest.raises(NotApplicable, match="in balance already"):
        Equalize()(Equalize(iterations=100)(model, context), context)
    with pytest.raises(NotApplicable, match="so uneven that smoothing lowers its error by 99%"):
        Smooth(worth=0.99)(model, context)
    with pytest.raises(UsageError, match=r"no clip 'keep'\n.*write split or skip"):
        Equalize(clip="keep")
    with pytest.raises(UsageError, match=r"no exponent 1\.5"):
        Smooth(exponent=1.5)
