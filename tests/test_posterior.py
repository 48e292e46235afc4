"""The posterior chance of being inside, against drawn posteriors."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.measure.bounds import Bounds
from hasten.measure.posterior import chance_inside, of_counts


@pytest.mark.parametrize("counts", [(0, 0, 150), (2, 1, 150), (5, 0, 150), (12, 8, 2000), (0, 0, 20)])
@pytest.mark.parametrize("limit", [0.0, 0.01, 0.05])
def test_counts_are_a_dirichlet(counts: tuple[int, int, int], limit: float) -> None:
    losses, gains, n = counts
    drawn = np.random.default_rng(0).dirichlet([losses + 1, gains + 1, n - losses - gains + 1], 200_000)
    assert of_counts(*counts, limit) == pytest.approx(np.mean(drawn[:, 0] - drawn[:, 1] <= limit), abs=0.005)


def test_an_interval_is_taken_for_a_normals() -> None:
    bounds = Bounds(drop=0.002, lower=0.002 - 0.0164485, upper=0.002 + 0.0164485, p_value=0.3, method="")
    assert chance_inside(bounds, 0.012) == pytest.approx(0.8413, abs=1e-3)
    assert chance_inside(Bounds(drop=0.0, lower=-np.inf, upper=np.inf, p_value=1.0, method=""), 0.01) == 0.5
    assert chance_inside(Bounds(drop=np.inf, lower=np.inf, upper=np.inf, p_value=1.0, method=""), 0.01) == 0.0
