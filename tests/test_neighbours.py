"""Samples that come in series are noticed, and files sorted by class are not mistaken for such."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.measure.neighbours import alike, dependence


def test_independent_samples_raise_no_alarm() -> None:
    random = np.random.default_rng(0)
    far = [alike((random.random(300) < 0.9).astype(float))[1] for _ in range(60)]
    assert max(far) < 4
    assert np.mean(far) == pytest.approx(0, abs=0.5)


def test_series_are_noticed() -> None:
    random = np.random.default_rng(1)
    series = np.repeat(random.random(60) < 0.8, 5).astype(float)
    assert "--groups" in dependence(series)
    assert alike(series)[0] > 0.6


def test_a_file_sorted_by_class_is_no_series() -> None:
    random = np.random.default_rng(2)
    classes = np.repeat([0, 1, 2], 100)
    scores = (random.random(300) < np.array([0.99, 0.5, 0.1])[classes]).astype(float)
    assert dependence(scores)
    assert dependence(scores, classes) == ""


def test_few_or_equal_scores_say_nothing() -> None:
    assert dependence(np.zeros(100)) == ""
    assert dependence(np.repeat([0.0, 1.0], 10)) == ""
