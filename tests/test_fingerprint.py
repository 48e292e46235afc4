"""Two Python functions are the same question only where all that they are made of is the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from hasten.search.fingerprint import fingerprint


def scaled(by: Any) -> Callable[[Any], Any]:
    def times(x: Any, plus: float = 0.0) -> Any:
        return x * by + plus

    return times


class Scorer:
    def __init__(self, limit: float) -> None:
        self.limit = limit

    def score(self, x: Any) -> Any:
        return x > self.limit


MAKERS: list[Callable[[Any], Any]] = [scaled, Scorer, lambda a: Scorer(a).score, lambda a: partial(scaled, a)]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, 1.0), (np.ones(3), np.zeros(3)), ({"a": 1}, {"a": 2})])
def test_what_a_function_holds_tells_it_apart(make: Callable[[Any], Any], one: Any, other: Any) -> None:
    assert fingerprint(make(one)) == fingerprint(make(one))
    assert fingerprint(make(one)) != fingerprint(make(other))


def test_two_functions_of_one_file_are_two() -> None:
    assert fingerprint(lambda x: x + 1) != fingerprint(lambda x: x + 2)
