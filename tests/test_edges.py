"""Edges of engines: which of them a network has, and which of those the samples come near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from hasten.engines.edges import declared
from hasten.frontends.onnx import load
from hasten.samples import load_samples
from hasten.search.edges import Found, found_in

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def look(tmp_path: Path, text: str, data: dict[str, Any], engine: str = "openvino") -> list[Found]:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(HEAD + text), path)
    store = load_samples(data).spool(tmp_path / "spool", load(path).inputs)
    return found_in(str(path), str(store.directory), engine, range(4))


def told(found: list[Found], words: str) -> bool | None:
    """True where the edge is reached, False where it only exists, None where it does not."""
    return next((one.reached for one in found if words in one.words), None)


SUM = "g (int64[N,4] x) => (int64[N,4] y) { axis = Constant<value_ints = [1]>() y = CumSum(x, axis) }"


@pytest.mark.parametrize(("largest", "reached"), [(1000, False), (2**26, True), (2**40, True)])
def test_whole_numbers_of_64_bits(tmp_path: Path, largest: int, reached: bool) -> None:
    assert told(look(tmp_path, SUM, {"x": np.full((6, 4), largest)}), "64 bits") == reached


def test_sizes_are_no_whole_numbers_of_the_user(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[M,2] y) {
        s = Shape(x) t = Mul(s, s) minus = Constant<value_ints = [-1, 2]>() y = Reshape(x, minus) }"""
    assert look(tmp_path, text, {"x": np.ones((6, 4), np.float32)}) == []


@pytest.mark.parametrize(("value", "reached"), [(200.0, False), (1e8, True), (-1e10, True)])
def test_floats_that_are_cast(tmp_path: Path, value: float, reached: bool) -> None:
    text = "g (float[N,4] x) => (int32[N,4] y) { y = Cast<to = 6>(x) }"
    assert told(look(tmp_path, text, {"x": np.full((6, 4), value, np.float32)}), "ends at its limit") == reached


@pytest.mark.parametrize(("index", "reached"), [(2, False), (-1, True)])
def test_places_in_a_table(tmp_path: Path, index: int, reached: bool) -> None:
    text = """g (float[N,4] x, int64[N,1] i) => (float[N,1] y) { y = GatherElements<axis = 1>(x, i) }"""
    data = {"x": np.ones((6, 4), np.float32), "i": np.full((6, 1), index)}
    assert told(look(tmp_path, text, data), "outside the table") == reached


def test_float64_is_reached_wherever_it_is(tmp_path: Path) -> None:
    text = "g (double[N,4] x) => (double[N,4] y) { y = Exp(x) }"
    assert told(look(tmp_path, text, {"x": np.ones((6, 4))}), "float64") is True


def test_an_ordinary_network_stays_lossless_on_openvino(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Softmax(a) }"
    found = look(tmp_path, text, {"x": np.ones((6, 4), np.float32)})
    assert [one.reached for one in found] == [False]
    assert found[0].nodes[0].startswith("Relu")


def test_a_sample_with_a_missing_value_reaches_nan(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
    x = np.ones((6, 4), np.float32)
    x[0, 0] = np.nan
    assert told(look(tmp_path, text, {"x": x}), "NaN") is True


def test_an_engine_that_declares_nothing_has_no_edges(tmp_path: Path) -> None:
    assert look(tmp_path, SUM, {"x": np.full((6, 4), 2**40)}, "onnxruntime") == []
    assert declared("openvino", "Relu")
    assert not declared("onnxruntime", "Relu")


def test_bodies_are_looked_into(tmp_path: Path) -> None:
    """What is inside an If is named, and that its values are not seen."""
    text = """g (float[N,4] x, bool c) => (int32[N,4] y) {
        y = If (c) <then_branch = a () => (int32[N,4] p) { p = Cast<to = 6>(x) },
                    else_branch = b () => (int32[N,4] q) { r = Neg(x) q = Cast<to = 6>(r) }> }"""
    data = {"x": np.full((6, 4), 2.0, np.float32), "c": np.ones(6, bool)}
    [found] = [one for one in look(tmp_path, text, data) if "ends at its limit" in one.words]
    assert len(found.nodes) == 2
    assert (found.reached, found.hidden) == (False, True)
