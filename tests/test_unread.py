"""Outputs that the metric does not read: what counts as spoilt, against textbook figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hasten.measure.unread import LIMIT, spoilt

RNG = np.random.default_rng(0)
VECTOR = RNG.standard_normal((64, 1, 3)) * [1.0, 20.0, 0.01]
LABELS = RNG.choice(3, size=(64, 1), p=[0.9, 0.05, 0.05])


def told(old: Any, new: Any) -> str:
    return spoilt(list(old), list(new))


def with_column(k: int, value: Any) -> Any:
    new = VECTOR.copy()
    new[..., k] = value
    return new


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (np.zeros_like(VECTOR), "moved by"),
        (np.full_like(VECTOR, np.nan), "answers NaN or infinity"),
        (with_column(0, 0.0), "in column 0"),
        (with_column(1, VECTOR[..., 1].mean()), "in column 1"),
        (with_column(0, VECTOR[::-1, :, 0]), "in column 0"),
        (VECTOR[..., :2], "has another shape or type on 64 of 64 samples"),
        (VECTOR.astype(np.int64), "has another shape or type on 64 of 64 samples"),
    ],
)
def test_what_is_spoilt_is_said(new: Any, said: str) -> None:
    assert said in told(VECTOR, new)


def test_the_figure_is_squared_error_over_variance() -> None:
    new = VECTOR + RNG.standard_normal(VECTOR.shape) * [0.0, 0.0, 0.02]
    wanted = float(np.mean((new - VECTOR)[..., 2] ** 2) / VECTOR[..., 2].var())
    assert wanted > LIMIT
    quiet = float(np.mean((new - VECTOR)[..., 2] ** 2)) / (0.01**2 * VECTOR.var())
    assert f"moved by {min(wanted, quiet):.2f} of its variance in column 2" in told(VECTOR, new) or quiet <= LIMIT


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_noise_of_eight_bits_is_none(noise: float) -> None:
    assert told(VECTOR, VECTOR + RNG.standard_normal(VECTOR.shape) * noise * VECTOR.std(0)) == ""


def test_steady_and_empty_outputs_are_measured_against_their_size() -> None:
    steady = np.full((64, 1, 2), [3.0, 0.0])
    assert told(steady, steady * 1.01) == ""
    assert "moved by" in told(steady, steady * 1.2)
    assert "moved by" in told(steady, np.zeros_like(steady))
    assert told(np.zeros((4, 1, 0)), np.zeros((4, 1, 0))) == ""
    assert told(np.full((4, 1, 2), np.nan), np.full((4, 1, 2), np.nan)) == ""


def test_whole_numbers_and_text_are_measured_against_a_constant() -> None:
    assert "times as often as a constant" in told(LABELS, np.zeros_like(LABELS))
    few = LABELS.copy()
    few[np.argmax(LABELS != 0)] = 0
    assert told(LABELS, few) == ""
    text = LABELS.astype(str).astype(object)
    assert told(text, text) == ""
    assert told(text, np.full_like(text, "0"))


def test_boxes_that_come_and_go_on_a_few_samples_are_no_fault() -> None:
    old = [np.ones((1, n % 4, 4)) * n for n in range(40)]
    new = [*(a[:, :-1] if n < 5 else a for n, a in enumerate(old))]
    assert spoilt(old, new) == ""
