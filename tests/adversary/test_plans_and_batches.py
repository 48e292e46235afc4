"""Plans that do not run, engines with names of their own, networks that die in a bench, outputs that are no batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

import hasten
from hasten.errors import InputError
from hasten.measure.evaluate import Evaluator, Unscorable
from hasten.metrics import AGREEMENT
from hasten.model import TensorSpec
from hasten.protocols import Array
from hasten.replies import Outputs
from hasten.samples import load_samples
from hasten.search import space
from hasten.search.improve import improve
from hasten.search.plan import Plan, Problem, fastest, fits, refit
from hasten.testing import check_engine
from hasten.worker import Worker
from tests import networks
from tests.engines import renamed

MS = np.array([[2.0, 1.0], [3.0, 1.0], [2.0, 0.5]])
HARM = np.array([[0.0, 0.1], [0.0, 0.2], [0.0, 0.4]])
PROBLEM = Problem(MS, HARM, (False, True))


@pytest.mark.parametrize("broken", [inf, nan, 0.0, -1.0])
def test_a_plan_that_does_not_run_teaches_nothing_and_ends_nothing(broken: float) -> None:
    seen = [((0, 0, 0), 7.5), ((1, 1, 1), 2.4)]
    learnt = refit(PROBLEM, [*seen, ((0, 1, 0), broken)])
    np.testing.assert_array_equal(learnt.ms, refit(PROBLEM, seen).ms)
    assert refit(PROBLEM, [((0, 1, 0), broken)]) is PROBLEM


class OneDies:
    """A bench on which one plan, or all of them, never runs."""

    def __init__(self, dead: Sequence[Plan] | None) -> None:
        self.dead = dead

    def solve(self, problem: Problem, limits: Sequence[float]) -> list[Plan]:
        assert np.isfinite(problem.ms).all()
        return fastest(problem, limits)

    def harms(self, plans: Sequence[Plan]) -> list[float]:
        return [float(HARM[np.arange(3), list(p)].sum()) for p in plans]

    def times(self, plans: Sequence[Plan]) -> list[float]:
        times = [float(MS[np.arange(3), list(p)].sum()) for p in plans]
        return [inf if self.dead is None or p in self.dead else ms for p, ms in zip(plans, times, strict=True)]

    def inside(self, plan: Plan) -> bool:
        return self.harms([plan])[0] < 0.5

    def over(self) -> bool:
        return False


@pytest.mark.parametrize("dead", [[(1, 1, 1)], [(0, 0, 0)], [(1, 1, 0), (1, 1, 1)], None])
def test_planning_survives_plans_that_do_not_run(dead: list[Plan] | None) -> None:
    known, problem = improve(PROBLEM, OneDies(dead))
    assert np.isfinite(problem.ms).all()
    if dead is not None and (1, 1, 0) not in dead:
        assert known.best() == (1, 1, 0)


def test_plans_of_other_regions_or_formats_are_named() -> None:
    assert not fits(PROBLEM, [(0, 1, 0)])
    for wrong in ((0, 1), (0, 1, 2), (0, 1, -1), (0, 1, 0, 0), ()):
        assert fits(PROBLEM, [wrong])


def test_a_lossy_setting_may_have_any_name(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
    labels = networks.answers(path, x).argmax(1)
    result = hasten.optimize(
        path, {"x": x, "labels": labels}, metric="top1", served_by="tests.engines.renamed",
        engines=["tests.engines.renamed"], seconds=8,
    )  # fmt: skip
    tried = [t for t in result.trials if t.candidate.settings.get("fast_math")]
    assert tried
    assert any("fast_math=True" in t.candidate.label for t in tried)
    assert space.narrowings(renamed) == [{"fast_math": True}]


def test_the_kit_holds_an_engine_of_ones_own_to_the_whole_protocol(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
    check_engine(cast(Any, renamed), path, {"x": x}, [networks.answers(path, x)], tmp_path / "kit")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("spins", "sometimes"),
        ("scheme", "mine"),
        ("name", "tests.engines.quick"),
        ("version", lambda: 7),
        ("formats", lambda: frozenset({"int8"})),
        ("formats", lambda: frozenset({"f32", "fp4"})),
        ("settings", lambda cores: []),
        ("settings", lambda cores: [{"threads": None}]),
        ("settings", lambda cores: [{"random": str(np.random.default_rng().random())}]),
        ("lossy_settings", lambda cores: [{}]),
        ("lossy_settings", lambda cores: [{"cores": cores}]),
        ("profile", lambda path, settings, feeds, seconds: []),
    ],
)
def test_the_kit_notices_a_protocol_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any
) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
    monkeypatch.setattr(renamed, name, wrong, raising=False)
    with pytest.raises((AssertionError, msgspec.ValidationError)):
        check_engine(cast(Any, renamed), path, {"x": x}, [networks.answers(path, x)], tmp_path / "kit")


@pytest.mark.parametrize("engines", [["crashing", "quick", "quick"], ["quick", "crashing"], ["crashing", "crashing"]])
def test_a_bench_whose_first_network_dies_compares_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: list[str]
) -> None:
    from hasten import read_result

    path = networks.mlp(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    inputs = (TensorSpec("x", ("N", 16), "float32"),)
    left = iter(engines)

    def network(place: Path, folder: Path, door: object) -> read_result.Served:
        name = next(left)
        return read_result.Served(name, f"tests.engines.{name}", path, {}, inputs)

    monkeypatch.setattr(read_result, "network", network)
    if set(engines) == {"crashing"}:
        with pytest.raises(InputError, match="none of these networks ran"):
            hasten.bench([path] * len(engines), {"x": x}, pairs=6)
        return
    rows = hasten.bench([path] * len(engines), {"x": x}, pairs=6)
    living = [row for row in rows if "median_ms" in row]
    assert [row["name"] for row in living] == ["quick"] * engines.count("quick")
    assert living[0]["speedup"] == pytest.approx(1.0, abs=0.01)
    [dead] = [row for row in rows if "reason" in row]
    assert "SIGSEGV" in dead["reason"]
    assert ("the others are compared with quick" in dead["reason"]) == (engines[0] == "crashing")


class Batches:
    """Answers with what ``rows`` makes of a batch."""

    def __init__(self, store: Any, rows: Any) -> None:
        self.store, self.rows = store, rows

    def call(self, operation: str, kind: type[Any], *, ids: Sequence[int], batch: int, **_: Any) -> Any:
        parts = [(len(members), self.rows(feeds["x"])) for members, feeds in self.store.batches(ids, batch)]
        return Outputs([size for size, _ in parts], [array for _, array in parts])


def evaluator(tmp_path: Path, batch: int, rows: Any) -> tuple[Evaluator, Worker]:
    x = np.arange(1, 31, dtype=np.float32).reshape(10, 3)
    store = load_samples({"x": x}).spool(tmp_path / "store", (TensorSpec("x", ("N", 3), "float32"),))
    return Evaluator(store, AGREEMENT, ("y",), (0,), batch), cast(Worker, Batches(store, rows))


def found_boxes(x: Array) -> Array:
    """As many rows as a detector finds things, in all samples of the batch together."""
    return np.repeat(x, 2, axis=0)[: 2 * len(x) - 1]


NO_BATCH = {
    "too few rows": lambda x: x[:-1],
    "a row too many": lambda x: np.concatenate([x, x[:1]]),
    "a number": lambda x: np.float32(x.sum()),
    "one row for all": lambda x: x.sum(0, keepdims=True),
    "boxes": found_boxes,
    "twice as many in one batch only": lambda x: np.concatenate([x, x]) if x[0, 0] > 1 else x,
}


@pytest.mark.parametrize("kind", NO_BATCH)
def test_outputs_that_are_no_batch_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    held, fake = evaluator(tmp_path, 4, NO_BATCH[kind])
    with pytest.raises(InputError, match="output 'y' cannot be divided among the samples of a batch") as told:
        held.measure_baseline(fake, range(10))
    assert "--batch 1" in told.value.help


@pytest.mark.parametrize("each", [1, 3])
def test_every_row_goes_to_its_own_sample(tmp_path: Path, each: int) -> None:
    held, fake = evaluator(tmp_path, 4, lambda x: np.repeat(x, each, axis=0))
    seen = dict(held.answers(fake, range(10)))
    for i, [rows] in seen.items():
        np.testing.assert_array_equal(rows, np.repeat([[3 * i + 1, 3 * i + 2, 3 * i + 3]], each, axis=0))


def test_a_candidate_whose_batches_cannot_be_divided_is_a_row(tmp_path: Path) -> None:
    held, fake = evaluator(tmp_path, 4, lambda x: x)
    held.measure_baseline(fake, range(10))
    _, other = evaluator(tmp_path / "other", 4, NO_BATCH["too few rows"])
    with pytest.raises(Unscorable, match="cannot be divided"):
        held.rows(other, range(10))
    assert held.rows(fake, range(10)).all()
