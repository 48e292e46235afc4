"""Sentences never call a gain a drop, and name a number of samples for every metric with a bound."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasten.budget import parse_budget
from hasten.measure.quality import needed_samples
from hasten.search.wording import at_most, moved_within
from tests.results import quality


@pytest.mark.parametrize("drop", [-0.0333, -0.0001, 0.0, 0.004])
def test_no_sentence_holds_a_negative_number_of_points(drop: float) -> None:
    for text in (at_most(drop, drop + 0.01), at_most(drop, drop + 0.00005), moved_within(drop, drop - 0.02, drop)):
        assert "-" not in text.split(" [")[0]
        assert text.startswith("gain" if round(drop, 4) < 0 else "drop")


@pytest.mark.parametrize("upper", [0.03, float("inf")])
def test_a_number_of_samples_is_named_for_metrics_that_flip_and_for_means(upper: float) -> None:
    flips = replace(quality(0.002, 0.03), upper=upper)
    means = replace(flips, flips=None, lower=-0.02)
    for seen in (flips, means):
        assert (needed_samples(seen, parse_budget("1%")) or 0) > 0
