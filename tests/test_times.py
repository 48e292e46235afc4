"""Kernel times by region: on made-up layers, and on what the engines really report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hasten import registry
from hasten.graph import edit, walk
from hasten.graph.regions import places, regions
from hasten.passes.clean import Clean
from hasten.passes.quantize import Quantize
from hasten.protocols import Layer
from hasten.search.times import Spent, by_region, typical
from tests import tiny

KNOWN = {"conv0": 0, "a": 0, "conv1": 1, "b": 1}


def test_kernels_go_where_their_names_point() -> None:
    layers = [
        Layer(("x/u8",), (), "FakeQuantize", 0.5, boundary=True),
        Layer(("conv0/WithoutBiases", "conv0"), ("x/u8",), "Convolution", 1.0),
        Layer(("anonymous",), ("conv0",), "Eltwise", 0.25),
        Layer(("other",), ("anonymous",), "Eltwise", 0.125),
        Layer(("b/u8",), ("other",), "Convolution", 2.0),
        Layer(("shape",), (), "Shape", 0.0625),
    ]
    spent = by_region(layers, KNOWN, 2)
    np.testing.assert_allclose(spent.regions, [1.375, 2.0])
    assert spent.converting == 0.5
    assert spent.outside == 0.0625
    assert spent.total == sum(layer.ms for layer in layers)


def test_one_disturbed_profile_changes_nothing() -> None:
    quiet = Spent((1.0, 2.0), 0.5, 0.1)
    loud = Spent((9.0, 2.0), 7.0, 0.1)
    found = typical([quiet, loud, quiet])
    assert found.regions == quiet.regions
    assert (found.outside, found.converting) == (0.5, 0.1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("narrow", [False, True])
def test_engines_name_the_kernels_after_the_network(name: str, narrow: bool, tmp_path: Path) -> None:
    engine = registry.find("engines", name)
    if engine.missing():
        pytest.skip(engine.missing())
    model = tiny.residual_cnn()
    samples = tiny.feeds(model, 4)
    context = tiny.context(samples)
    clean = Clean()(model, context)
    graph = clean.clone_graph()
    edit.infer(graph)
    found = regions(graph, [n for n in graph.graph if walk.weight(n)])
    served = Quantize(scheme=name)(clean, context) if narrow else clean
    served.save(tmp_path / "model.onnx")
    layers = engine.profile(engine.export(tmp_path / "model.onnx", tmp_path), {}, samples, 0.05)
    spent = by_region(layers, places(graph, found), len(found))
    assert spent.total > 0
    assert sum(ms > 0 for ms in spent.regions) >= len(found) - 1, "each convolution takes its microseconds"
    assert spent.outside < 0.2 * spent.total


def test_shares_of_another_engine_s_time_are_scaled_and_no_region_is_slower_in_int8() -> None:
    wide, narrow = Spent((2.0, 1.0), 0.5, 0.5).scaled(0.5), Spent((0.5, 1.5), 0.0, 1.0).scaled(0.5)
    assert wide == Spent((1.0, 0.5), 0.25, 0.25)
    assert wide.total == 2.0
    assert narrow.at_most(wide) == Spent((0.25, 0.5), 0.0, 0.5)
