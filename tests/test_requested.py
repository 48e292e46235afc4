"""Passes that only run when they are asked for: layers joined, sizes fixed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hasten.errors import UsageError
from hasten.graph import evaluate, walk
from hasten.model import Model
from hasten.passes.join import Join
from hasten.passes.specialise import Specialise
from hasten.protocols import NotApplicable
from hasten.testing import check_pass
from tests import tiny


def kinds(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.graph)


def pictures() -> Model:
    """x[batch, 3, height, width] -> convolution -> its own sizes in a Reshape -> y[batch, 8, pixels]."""
    net = tiny.Net()
    h = net.conv("x", 3, 8)
    whole = net.add("Shape", h)
    batch = net.add("Slice", whole, net.const(np.array([0])), net.const(np.array([1])))
    wanted = net.add("Concat", batch, net.const(np.array([8, -1])), axis=0)
    net.add("Reshape", h, wanted, out="y")
    return net.model({"x": ["batch", 3, "height", "width"]}, {"y": ["batch", 8, "pixels"]})


def test_query_key_and_value_become_one_product(tmp_path: Path) -> None:
    model = tiny.transformer()
    feeds = tiny.feeds(model, 3, batch=2)
    joined = check_pass(Join(), model, tiny.context(feeds), tmp_path)
    assert kinds(joined)["MatMul"] == kinds(model)["MatMul"] - 2
    assert kinds(joined)["Split"] == 1
    before, after = (evaluate.run(m.graph, feeds) for m in (model, joined))
    assert evaluate.worst_difference(before, after)[1] < 1e-6


def test_nothing_to_join_is_an_answer() -> None:
    model = tiny.mlp()
    with pytest.raises(NotApplicable, match="no two layers read the same"):
        Join()(model, tiny.context(tiny.feeds(model, 1)))


def test_sizes_of_the_samples_are_written_in() -> None:
    model = pictures()
    random = np.random.default_rng(0)
    feeds = [{"x": random.standard_normal((1, 3, 5, 7)).astype(np.float32)} for _ in range(3)]
    fixed = Specialise()(model, tiny.context(feeds))
    assert [str(s) for s in (*fixed.inputs, *fixed.outputs)] == ["x[1,3,5,7] float32", "y[1,8,35] float32"]
    assert [walk.dims(v) for v in fixed.graph.graph.outputs] == [[1, 8, 35]]
    assert kinds(fixed) == {"Conv": 1, "Reshape": 1}
    before, after = (evaluate.run(m.graph, feeds) for m in (model, fixed))
    assert evaluate.worst_difference(before, after)[1] == 0
    assert model.inputs[0].shape == ("batch", 3, "height", "width"), "the argument is not edited"
    assert walk.dims(model.graph.graph.inputs[0]) == ["batch", 3, "height", "width"]


def test_a_size_by_the_name_of_its_axis() -> None:
    model = pictures()
    feeds = [{"x": np.ones((1, 3, 5, 7), np.float32)}]
    fixed = Specialise(sizes=("height=5",))(model, tiny.context(feeds))
    assert fixed.inputs[0].shape == ("batch", 3, 5, "width")
    assert fixed.history == ("Specialise(sizes=('height=5',), samples=2)",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hight=5", "no input has an axis 'hight'\n.*did you mean 'height'"),
        ("height", "'height' gives no size to the axis 'height'\n.*write height=16"),
        ("height=0", "'height=0' gives no size"),
    ],
)
def test_a_size_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Specialise(sizes=(text,))(pictures(), tiny.context([]))
    assert re.search(message, str(caught.value))


def test_samples_of_different_sizes_cannot_be_written_in() -> None:
    feeds = [{"x": np.ones((1, 3, 5, n), np.float32)} for n in (7, 9)]
    with pytest.raises(NotApplicable, match=r"samples of 'x' differ in size: \(1, 3, 5, 7\) and \(1, 3, 5, 9\)"):
        Specialise()(pictures(), tiny.context(feeds))


def test_nothing_open_is_an_answer() -> None:
    net = tiny.Net()
    net.add("Relu", "x", out="y")
    model = net.model({"x": [1, 4]}, {"y": [1, 4]})
    with pytest.raises(NotApplicable, match="has its size already"):
        Specialise()(model, tiny.context(tiny.feeds(model, 1)))
    with pytest.raises(NotApplicable, match="no samples tell the sizes"):
        Specialise()(pictures(), tiny.context([]))
