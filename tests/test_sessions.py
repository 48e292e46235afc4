"""Sessions that share the graph's weights: the same answers as from a file, and the graph stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from hasten.graph import halves, walk
from hasten.graph.sessions import SHARED, in_arrays, opened
from hasten.model import Model
from tests import tiny


def options() -> ort.SessionOptions:
    found = ort.SessionOptions()
    found.log_severity_level = 4
    return found


@pytest.mark.parametrize("network", [tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile])
def test_answers_are_those_of_the_written_network(network: Callable[[], Model]) -> None:
    model = network()
    before = [(name, v.const_value) for name, v in model.graph.graph.initializers.items()]
    plain = ort.InferenceSession(ir.to_proto(model.graph).SerializeToString(), options())
    shared = opened(model.graph, options())
    for feeds in tiny.feeds(model, 3):
        for a, b in zip(plain.run(None, dict(feeds)), shared.run(None, dict(feeds)), strict=True):
            np.testing.assert_array_equal(a, b)
    after = [(name, v.const_value) for name, v in model.graph.graph.initializers.items()]
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(a is b for (_, a), (_, b) in zip(before, after, strict=True))


def test_large_weights_are_not_copied() -> None:
    model = tiny.transformer()
    in_arrays(model.graph)
    shared = opened(model.graph, options())
    tensors = [v.const_value for v in model.graph.graph.initializers.values()]
    large = [t.numpy() for t in tensors if t is not None and t.nbytes >= SHARED]
    assert len(shared.shared) == len(large) > 0
    at = {value.data_ptr() for value in shared.shared}
    assert at == {array.__array_interface__["data"][0] for array in large}


def test_weights_that_nobody_reads_any_more_do_no_harm() -> None:
    model = tiny.residual_cnn()
    walk.infer(model.graph)
    behind = halves.behind(model.graph, 4)
    idle = ir.Value(name="idle", const_value=ir.tensor(np.ones((64, 64), np.float32), name="idle"))
    behind.graph.register_initializer(idle)
    session = opened(behind, options())
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
    given = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert np.isfinite(session.run(None, given)[0]).all()
