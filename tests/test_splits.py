"""Three parts that share nothing, and the same three every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten.model import TensorSpec
from hasten.samples import SampleStore, load_samples
from hasten.splits import Splits, split, together
from tests.reject import rejected


def store(folder: Path, x: Any, **sides: Any) -> SampleStore:
    data = {"x": np.asarray(x, np.float32).reshape(len(x), 1), **sides}
    groups = "groups" if "groups" in sides else None
    return load_samples(data, groups=groups).spool(folder / "s", (TensorSpec("x", ("N", 1), "float32"),))


def parts(splits: Splits) -> list[set[int]]:
    return [set(ids.tolist()) for ids in (splits.calibrate, splits.search, splits.confirm)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 700), st.integers(1, 12), st.floats(0.0, 0.5), st.integers(0, 5))
def test_nothing_is_shared(tmp_path: Path, n: int, size: int, repeats: float, seed: int) -> None:
    """Nothing that chose a candidate tests it, also through chains of groups and copies; copies test once."""
    random = np.random.default_rng(seed)
    x = random.permutation(n)
    copies = random.random(n) < repeats / 10
    x[copies] = x[random.integers(0, n, copies.sum())]
    groups = random.integers(0, max(1, n // size), n)
    made = store(tmp_path, x, groups=groups, labels=random.integers(0, 3, n))
    splits = split(made, seed=seed)
    calibrate, search, confirm = parts(splits)
    assert calibrate
    assert search
    assert not (calibrate | search) & confirm
    assert search == calibrate or not search & calibrate
    where = np.full(n, -1)
    for k, ids in enumerate((confirm, search, calibrate)):
        where[list(ids)] = k
    for key in (x, groups):
        assert all(len(set(where[key == v]) - {-1}) <= 1 for v in np.unique(key))
    told = {(x[i], int(made.labels[i])) for i in confirm}  # type: ignore[index]
    assert len(told) == len(confirm)
    left_out = [i for i in range(n) if where[i] == -1]
    assert all((x[i], int(made.labels[i])) in told for i in left_out)  # type: ignore[index]
    assert parts(split(made, seed=seed)) == [calibrate, search, confirm]


@pytest.mark.parametrize(
    ("n", "calibrate", "pilot", "tests"),
    [(2, 1, 0, 1), (20, 2, 0, 18), (60, 7, 0, 53), (250, 31, 0, 219), (300, 30, 30, 240), (1000, 100, 100, 800),
     (5000, 128, 256, 4616), (20000, 128, 256, 19616)],
)  # fmt: skip
def test_sizes(tmp_path: Path, n: int, calibrate: int, pilot: int, tests: int) -> None:
    splits = split(store(tmp_path, np.arange(n)))
    assert [len(p) for p in parts(splits)] == [calibrate, pilot or calibrate, tests]
    assert splits.pilot_is_small == (pilot == 0)
    assert not splits.lossless_only
    assert len(splits.warnings) == (n < 20)


def test_classes_keep_their_shares(tmp_path: Path) -> None:
    """Sorted labels, one class rare: each part holds every class within one sample of its share."""
    labels = np.repeat([0, 1, 2], [500, 450, 50])
    splits = split(store(tmp_path, np.arange(1000), labels=labels))
    for ids in (splits.calibrate, splits.search, splits.confirm):
        counts = np.bincount(labels[ids], minlength=3)
        assert np.all(np.abs(counts - np.array([0.5, 0.45, 0.05]) * len(ids)) <= 1.01), counts


def test_seed_and_content_decide(tmp_path: Path) -> None:
    first = split(store(tmp_path, np.arange(200)))
    assert parts(split(store(tmp_path, np.arange(200)))) == parts(first)
    assert parts(split(store(tmp_path, np.arange(200)), seed=1)) != parts(first)
    assert parts(split(store(tmp_path, np.arange(200) + 0.5))) != parts(first)
    assert len(split(store(tmp_path, np.arange(200)), calibrate=20).calibrate) == 20


def test_little_data_estimate(tmp_path: Path) -> None:
    splits = split(store(tmp_path, np.arange(19)))
    assert [len(p) for p in parts(splits)] == [2, 2, 17]
    assert "only 19 samples: candidates are estimated" in splits.warnings[0]
    alone = split(store(tmp_path, np.arange(1)))
    assert parts(alone) == [{0}, {0}, set()]
    assert "one independent unit" in alone.warnings[0]
    assert not alone.lossless_only
    grouped = split(store(tmp_path, np.arange(600), groups=np.arange(600) // 100))
    assert "600 samples in 6 independent groups" in grouped.warnings[0]


def test_groups_by_the_handful_test_without_one_of_them(tmp_path: Path) -> None:
    splits = split(store(tmp_path, np.arange(700), groups=np.arange(700) // 100))
    assert [len(p) for p in parts(splits)] == [100, 100, 600]
    assert splits.pilot_is_small
    assert splits.warnings == ()


def test_copies_count_once(tmp_path: Path) -> None:
    labels = np.tile(np.arange(100) % 2, 10)
    splits = split(store(tmp_path, np.tile(np.arange(100), 10), labels=labels))
    assert len(splits.confirm) <= 80
    assert len(np.unique(splits.confirm % 100)) == len(splits.confirm)
    assert "900 of 1000 samples are copies" in splits.warnings[0]


def test_a_huge_group_tests(tmp_path: Path) -> None:
    groups = np.concatenate([np.zeros(300, int), np.arange(1, 301)])
    splits = split(store(tmp_path, np.arange(600), groups=groups))
    assert set(range(300)) <= parts(splits)[2]
    assert len(splits.calibrate) == 60
    lopsided = split(store(tmp_path, np.arange(310), groups=np.repeat([0, 1], [300, 10])))
    assert [len(p) for p in parts(lopsided)] == [10, 10, 300]


def test_labels_that_are_missing_or_contradict(tmp_path: Path) -> None:
    with rejected("needs labels", "agree:99%"):
        split(store(tmp_path, np.arange(100)), needs_labels=True)
    x = np.arange(100)
    x[1] = x[0]
    clash = split(store(tmp_path, x, labels=np.arange(100) % 2), needs_labels=True)
    assert clash.warnings == ("1 inputs occur with different labels",)


def test_chains_are_followed() -> None:
    groups = np.array([0, 0, 1, 1, 2, 3])
    hashes = np.array([10, 11, 11, 12, 12, 13], np.uint64)
    assert together(groups, hashes).tolist() == [0, 0, 0, 0, 0, 1]
    assert together(None, hashes).tolist() == [0, 1, 1, 2, 2, 3]
