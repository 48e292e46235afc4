"""A few hundred random graphs through every exact change; and a change that is wrong is found and shrunk."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from benchmarks import differential, differential_child
from benchmarks.differential_shrink import shrunk, told
from benchmarks.random_graphs.graphs import random_case

from hasten.graph import edit
from hasten.passes.rewrite import Rewrite

SEEDS = 120


def test_every_change_answers_the_same_on_sizes_branches_and_edges_that_no_sample_shows() -> None:
    logging.disable(logging.CRITICAL)
    try:
        found = [(seed, differential_child.examine(random_case(seed))) for seed in range(SEEDS)]
    finally:
        logging.disable(logging.NOTSET)
    assert [(seed, d) for seed, one in found for d in one.differences] == []
    operators = Counter(op for _, one in found for op in one.operators)
    changes = Counter(change for _, one in found for change in one.changes)
    assert len(operators) >= 60
    assert len(changes) >= 25
    assert sum(one.not_loaded for _, one in found) < SEEDS / 20


@pytest.mark.parametrize(
    "seed",
    [
        9480,  # a MaxPool of infinities answers the largest float32, and a product behind it overflows
        10263,  # so does a Clip without an upper end
        13679,  # a sine of 10,000; sizes of a Resize are no weights whose last digit rounding changes
        9444,  # a vector times a matrix in LiteRT
    ],
)
def test_graphs_that_once_differed(seed: int) -> None:
    assert differential_child.examine(random_case(seed)).differences == []


def test_only_infinities_are_excused_where_a_value_inside_is_huge() -> None:
    case, at = random_case(9480), np.array([1.0, np.inf], np.float32)
    assert differential_child.problem(case, "special", "clean", [at], [at + 1])
    assert not differential_child.problem(case, "special", "clean", [at], [at[:1].repeat(2)])
    assert differential_child.problem(case, "sample", "clean", [at], [at[:1].repeat(2)])


def _forgets_nan(node: ir.Node, taken: set[str]) -> bool:
    """A rule that is right for numbers alone: x - x is zero."""
    if node.op_type != "Neg":
        return False
    zero = edit.add_node(node, "Sub", [node.inputs[0], node.inputs[0]], edit.fresh(taken, "zero"))
    return edit.swap(node, "Sub", [zero, node.inputs[0]], taken) and _of_shape(zero)


def _of_shape(value: ir.Value) -> bool:
    maker = value.producer()
    assert maker is not None
    maker.op_type, maker.attributes["axis"] = "Softmax", ir.AttrInt64("axis", 0)
    maker.resize_inputs(1)
    return True


def test_a_wrong_change_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differential_child, "REWRITES", (Rewrite("forgets", _forgets_nan),))
    for seed in range(60):
        case = random_case(seed)
        found = [d for d in differential_child.examine(case, only="forgets").differences if "raises" not in d.text]
        if found:
            small = shrunk(case, found[0])
            assert "Neg" in told(small.proto)
            assert len(small.proto.graph.node) <= 3
            return
    pytest.fail("no graph shows it")


def test_a_child_that_dies_is_the_fault_of_its_seed(tmp_path: Path) -> None:
    table = differential.empty(0, 4)
    differential.add(table, {"seed": 3, "died": "original"})
    assert (table["died"], table["differences"]) == (1, [])
    differential.add(table, {"seed": 2, "died": "hoist"})
    assert table["differences"] == [{"seed": 2, "change": "hoist", "text": "the process died"}]
    assert "hoist: the process died" in differential.report(table)


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    table = differential.run(0, 3, 60, 2, out)
    assert (table["graphs"], table["died"], table["differences"]) == (3, 0, [])
    assert table["operators"]
    assert table["changes"]["clean"]["applied"]
    again = differential.run(0, 3, 60, 2, out)
    assert (again["graphs"], again["next"]) == (3, 3)
    assert sum(again["commits"].values()) == 3
    assert "graphs by commit: 3 at" in differential.report(again)
