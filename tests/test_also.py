"""Further scores that must hold beside the metric."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hasten import console
from hasten.budget import parse_budget
from hasten.errors import UsageError
from hasten.search.also import conditions, named, with_conditions
from hasten.search.field import Run
from tests import results
from tests.test_confirm import quality


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("auc", ("auc", None)),
        ("sensitivity>=-0.5%", ("sensitivity", "0.5%")),
        ("recall >= - 1 %", ("recall", "1 %")),
        ("mae<=+2%", ("mae", "2%")),
        ("f1>=rel:99%", ("f1", "rel:99%")),
        ("recall@5>=-1%", ("recall@5", "1%")),
    ],
)
def test_a_condition_is_a_name_and_a_loss(text: str, wanted: tuple[str, str | None]) -> None:
    assert named(text) == wanted


@pytest.mark.parametrize("text", ["sensitivity>=0.95", "sensitivity>=+1%", "mae<=-1%", "a b", ">=-1%"])
def test_other_forms_are_refused_with_the_line_to_write(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        named(text)
    assert "--also 'sensitivity>=-0.5%'" in caught.value.help


def test_a_condition_has_its_own_budget_or_the_search_s() -> None:
    scores, labels = np.linspace(0, 1, 8)[:, None], np.arange(8) % 2
    budget = parse_budget("1%")
    first, second = conditions(["sensitivity>=-0.5%", "auc"], budget, {"y": scores}, labels, None)
    assert (first.metric.name, str(first.budget)) == ("recall", "0.5%")
    assert (second.metric.name, second.budget) == ("auc", budget)


def run_of(rows: np.ndarray[Any, Any], known: np.ndarray[Any, Any]) -> Run:
    """A run whose candidate is right where ``rows`` says so, and the network where ``known`` does."""
    labels = np.arange(len(rows)) % 2
    [condition] = conditions(["balanced_accuracy>=-2%"], parse_budget("1%"), {"y": known[:, None]}, labels, None)

    def kept(right: np.ndarray[Any, Any]) -> dict[int, list[np.ndarray[Any, Any]]]:
        return {
            i: [np.array([[float(r), float(label)]])] for i, (r, label) in enumerate(zip(right, labels, strict=True))
        }

    evaluator = SimpleNamespace(also_known=kept(known), also_rows=kept(rows), groups=lambda ids: None)
    return cast(Run, SimpleNamespace(conditions=(condition,), evaluator=evaluator))


@pytest.mark.parametrize(("lost", "met"), [(0, True), (400, False)])
def test_every_condition_must_hold(lost: int, met: bool) -> None:
    right = np.ones(2000)
    candidate = right.copy()
    candidate[:lost:2] = 0  # all of one class
    main = replace(quality(0.0, 0.004, flips=0), met=True)
    found = with_conditions(run_of(candidate, right), range(2000), main, "confirm", 0.05)
    assert main.met
    assert found.met == met
    assert found.metric == (main.metric if met else "balanced_accuracy")
    assert "balanced_accuracy: 1 becomes" in found.also[0]
    assert "(allowed 2)" in found.also[0]


def test_the_console_lists_them() -> None:
    result = results.met()
    assert result.winner.confirm is not None
    seen = replace(
        result.winner.confirm, also=("recall: 0.9 becomes 0.9, a loss of at most 0.30 points (allowed 0.5)",)
    )
    stream = io.StringIO()
    console.show(
        console.result_block(replace(result, winner=replace(result.winner, confirm=seen)), Path("out")), stream
    )
    assert "also recall: 0.9 becomes 0.9" in stream.getvalue()
