"""Equal price everywhere: against trying everything."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.quant.allocate import Allocation, Option, allocate, hull, walk

NUMBERS = st.integers(1, 1000).map(lambda k: k / 100)  # two times are equal or clearly apart, as ``best`` wants them
LAYER = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5)


def options(pairs: list[tuple[float, float]]) -> list[Option]:
    return [Option(i, loss, ms) for i, (loss, ms) in enumerate(pairs)]


def best(layers: dict[str, list[Option]], ms: float) -> float:
    """The least loss within ``ms``, by trying everything."""
    sums = ((sum(o.loss for o in way), sum(o.ms for o in way)) for way in product(*layers.values()))
    return min((loss for loss, spent in sums if spent <= ms + 1e-9), default=np.inf)


@given(st.lists(LAYER, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_every_stop_is_the_least_loss_for_its_time(pairs: list[list[tuple[float, float]]]) -> None:
    layers = {str(i): options(p) for i, p in enumerate(pairs)}
    stops = list(walk(layers))
    for stop in stops:
        assert stop.loss == pytest.approx(best(layers, stop.ms), rel=1e-9, abs=1e-9)
    assert stops[0].loss == pytest.approx(sum(min(o.loss for o in p) for p in layers.values()))
    assert stops[-1].ms == pytest.approx(sum(min(o.ms for o in p) for p in layers.values()))
    assert all(a.ms > b.ms and a.loss <= b.loss for a, b in pairwise(stops))


def test_the_price_is_the_same_everywhere() -> None:
    ranks = np.arange(1, 65)
    layers = {
        str(i): [Option(int(r), float(a / r), 0.1 + b * r) for r in ranks]
        for i, (a, b) in enumerate([(1.0, 0.01), (4.0, 0.01), (1.0, 0.03)])
    }
    found = allocate(layers, 1.3)
    price = {n: layers[n][o.size - 2].loss - o.loss for n, o in found.chosen.items()}
    step = {n: o.ms - layers[n][o.size - 2].ms for n, o in found.chosen.items()}
    prices = [price[n] / step[n] for n in layers]
    assert max(prices) / min(prices) < 1.15  # one channel more or less
    assert found.ms <= 1.3
    assert found.chosen["1"].size > found.chosen["0"].size > found.chosen["2"].size


def test_what_cannot_be_reached_gives_the_fastest() -> None:
    layers = {"a": [Option(2, 0, 3), Option(1, 1, 2)]}
    assert allocate(layers, 0.5) == Allocation({"a": Option(1, 1, 2)}, 1, 2)
    assert allocate(layers, 9).chosen["a"].size == 2


def test_the_hull_leaves_out_what_mixes_beat() -> None:
    steps = [Option(4, 0, 4), Option(3, 3, 3.9), Option(2, 3.2, 2), Option(1, 3.3, 2.5)]
    assert [o.size for o in hull(steps)] == [4, 2]
