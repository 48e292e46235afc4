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
@given(
    st.integers(60, 700),
    st.integers(1, 12),
    st.floats(0.0, 0.5),
    st.integers(0, 5),
    st.sampled_from([0.5, 0.6, 0.8]),
)
def test_nothing_is_shared(tmp_path: Path, n: int, size: int, repeats: float, seed: int, share: float) -> None:
    """Parts cover all samples once; groups and copies are never cut, also through chains of both."""
    random = np.random.default_rng(seed)
    x = random.permutation(n)
    copies = random.random(n) < repeats / 10
    x[copies] = x[random.integers(0, n, copies.sum())]
    groups = random.integers(0, max(1, n // size), n)
    made = store(tmp_path, x, groups=groups, labels=random.integers(0, 3, n))
    splits = split(made, seed=seed, confirm_share=share)
    found = parts(splits)
    assert sum(map(len, found)) == n
    assert set.union(*found) == set(range(n))
    where = np.empty(n, int)
    for k, ids in enumerate(found):
        where[list(ids)] = k
    for key in (x, groups):
        assert all(len(set(where[key == v])) == 1 for v in np.unique(key))
    again = split(made, seed=seed, confirm_share=share)
    assert parts(again) == found


@pytest.mark.parametrize(
    ("n", "calibrate", "search"), [(60, 15, 18), (1000, 100, 360), (5000, 500, 1800), (20000, 512, 2000)]
)
def test_sizes(tmp_path: Path, n: int, calibrate: int, search: int) -> None:
    splits = split(store(tmp_path, np.arange(n)))
    assert [len(p) for p in parts(splits)] == [calibrate, search, n - calibrate - search]
    assert not splits.lossless_only
    assert splits.warnings == ()


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


def test_too_few_samples_prove_nothing(tmp_path: Path) -> None:
    splits = split(store(tmp_path, np.arange(59)))
    assert splits.lossless_only
    assert (len(splits.calibrate), len(splits.search)) == (0, 59)
    assert "only 59 samples: too few for a certificate" in splits.warnings[0]
    grouped = split(store(tmp_path, np.arange(600), groups=np.arange(600) // 100))
    assert "600 samples in 6 independent groups" in grouped.warnings[0]


def test_a_huge_group_goes_to_confirm(tmp_path: Path) -> None:
    groups = np.concatenate([np.zeros(300, int), np.arange(1, 301)])
    splits = split(store(tmp_path, np.arange(600), groups=groups))
    assert set(range(300)) <= parts(splits)[2]
    assert len(splits.calibrate) == 100
    lopsided = np.concatenate([np.zeros(10_000, int), np.arange(1, 70)])
    with rejected("cannot be cut in three"):
        split(store(tmp_path, np.arange(10_069), groups=lopsided))


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
