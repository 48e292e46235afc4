"""Rows from a worker's replies: batches cut back into samples, steps of sequences judged, new NaN refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from hasten.measure.evaluate import Evaluator, NewNaN
from hasten.metrics import AGREEMENT, TOP1
from hasten.model import TensorSpec
from hasten.protocols import Array
from hasten.replies import Outputs
from hasten.samples import SampleStore, load_samples
from hasten.worker import Worker

X = np.arange(30, dtype=np.float32).reshape(10, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


class FakeWorker:
    """Answers ``run`` with ``answer(feeds)``, batch by batch, as a child process does."""

    def __init__(self, store: SampleStore, answer: Any) -> None:
        self.store, self.answer = store, answer
        self.asked: list[int] = []
        self.waits = set[float]()

    def call(
        self,
        operation: str,
        kind: type[Any],
        *,
        seconds: float,
        ids: Sequence[int],
        batch: int,
        keep: Sequence[int],
        **_: Any,
    ) -> Any:
        assert operation == "run"
        self.waits.add(seconds)
        arrays: list[Array] = []
        sizes = []
        for members, feeds in self.store.batches(ids, batch):
            arrays.append(self.answer(feeds["x"]))
            sizes.append(len(members))
            self.asked += members
        return Outputs(sizes, arrays)


def one_hot(x: Array) -> Array:
    """Scores that are right for label ``row % 3``."""
    rows = (x.reshape(len(x), -1)[:, 0] / 3).round().astype(int) % 3
    return np.asarray(np.eye(3, dtype=np.float32)[rows])


def evaluator(tmp_path: Path, metric: Any = TOP1, *, batch: int = 1, labels: bool = True) -> Evaluator:
    data = {"x": X, "labels": LABELS} if labels else {"x": X}
    store = load_samples(data).spool(tmp_path / "store", (TensorSpec("x", ("N", 3), "float32"),))
    return Evaluator(store, metric, ("y",), (0,), batch)


def worker(held: Evaluator, answer: Any = one_hot) -> Worker:
    return cast(Worker, FakeWorker(held.store, answer))


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_rows_are_the_same_for_every_batch(tmp_path: Path, batch: int) -> None:
    held = evaluator(tmp_path, batch=batch)
    rows = held.rows(worker(held), range(10))
    assert rows.shape == (10,)
    np.testing.assert_array_equal(rows, 1.0)


def test_a_large_request_is_waited_for_no_longer_than_a_small_one(tmp_path: Path) -> None:
    """A request is made as large as seconds allow; a hang in one of a thousand samples is not to take hours."""
    held = evaluator(tmp_path)
    fake = FakeWorker(held.store, one_hot)
    held.rows(cast(Worker, fake), list(range(10)) * 40)
    assert fake.waits == {held.limit_seconds}


def test_known_rows_are_not_run_again(tmp_path: Path) -> None:
    held = evaluator(tmp_path)
    runs = worker(held)
    held.measure_baseline(runs, [3, 1])
    held.measure_baseline(runs, [1, 2, 3])
    assert cast(Any, runs).asked == [3, 1, 2]
    assert len(held.known([1, 2])) == 2


def test_without_labels_the_baseline_is_the_truth(tmp_path: Path) -> None:
    held = evaluator(tmp_path, AGREEMENT, labels=False)
    held.measure_baseline(worker(held), range(10))
    assert held.known(range(10)).mean() == 1
    flipped = worker(held, lambda x: -one_hot(x))
    assert held.rows(flipped, range(10)).mean() == 0


def test_new_nan_is_refused_and_old_nan_is_not_held_against_a_candidate(tmp_path: Path) -> None:
    held = evaluator(tmp_path)

    def broken_on_two(x: Array) -> Array:
        return np.where(x[:, :1] == 6, np.nan, one_hot(x)).astype(np.float32)

    held.measure_baseline(worker(held, broken_on_two), range(10))
    assert held.broken == {2}
    held.rows(worker(held, broken_on_two), range(10))
    with pytest.raises(NewNaN, match="on sample 0"):
        held.rows(worker(held, lambda x: np.full((1, 3), np.inf, np.float32)), range(10))


def test_sequences_give_a_row_a_labelled_step_and_a_group_a_sequence(tmp_path: Path) -> None:
    steps = np.zeros((4, 5, 3), np.float32)
    labels = np.tile([1, 0, 1, -100, 1], (4, 1))
    specs = (TensorSpec("x", (1, 3), "float32"), TensorSpec("h", (1, 2), "float32"))
    data = {"x": steps, "labels": labels}
    store = load_samples(data, state={"h": "hn"}).spool(tmp_path / "store", specs)
    held = Evaluator(store, TOP1, ("y",), (0,))
    runs = cast(Worker, FakeWorker(store, lambda x: np.full((5, 1), 0.9, np.float32)))
    held.measure_baseline(runs, range(4))
    rows, groups = held.known(range(4)), held.groups(range(4))
    assert len(rows) == 16
    assert rows.mean() == 0.75
    assert groups is not None
    np.testing.assert_array_equal(np.bincount(groups), [4, 4, 4, 4])
