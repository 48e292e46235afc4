"""``compare`` against naive loops, on types and shapes of every kind, and what its verdicts say."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hasten import compare
from hasten.compare import Difference

TYPES = ["float16", "float32", "float64", "complex64", "int8", "int64", "uint8", "bool", "bfloat16"]


def dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)


def naive(old: Any, new: Any) -> dict[str, float]:
    """The same by a loop over Python numbers."""
    nans = infinities = differing = 0
    absolute = scale = squared = 0.0
    fractional = "float" in old.dtype.name or "complex" in old.dtype.name
    for a, b in zip(old.reshape(-1).tolist(), new.reshape(-1).tolist(), strict=True):
        if not fractional:
            differing += a != b
            continue
        a, b = complex(a), complex(b)
        if not (math.isnan(a.real) or math.isnan(a.imag) or math.isinf(a.real) or math.isinf(a.imag)):
            scale = max(scale, abs(a))
        no_a, no_b = (math.isnan(z.real) or math.isnan(z.imag) for z in (a, b))
        if no_a or no_b:
            nans += no_a != no_b
            differing += no_a != no_b
        elif any(math.isinf(part) for z in (a, b) for part in (z.real, z.imag)):
            infinities += a != b
            differing += a != b
        else:
            absolute = max(absolute, abs(a - b))
            squared += abs(a - b) ** 2
            differing += a != b
    return {
        "nans": nans, "infinities": infinities, "differing": differing, "absolute": absolute, "scale": scale,
        "squared": squared, "elements": old.size, "miscounted": 0 if fractional else differing,
    }  # fmt: skip


def filled(name: str) -> st.SearchStrategy[Any]:
    """Arrays of a type, with few values so that many agree, and with the edges of the type."""
    edges: list[Any] = [0, 1, 2]
    if "float" in name or "complex" in name:
        edges = [0.0, -0.0, 1.0, 1.5, -3.25, math.nan, math.inf, -math.inf]
    if "complex" in name:
        edges += [1 + 2j, complex(math.nan, 1), complex(1, math.inf)]
    shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return shapes.flatmap(
        lambda shape: st.tuples(
            *[st.lists(st.sampled_from(edges), min_size=math.prod(shape), max_size=math.prod(shape))] * 2
        ).map(
            lambda pair: [
                np.array(side, np.complex128 if "complex" in name else np.float64).reshape(shape) for side in pair
            ]
        )
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # casts of NaN in the test's own arrays
@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_it_finds_what_a_loop_finds(name: str, data: st.DataObject) -> None:
    old, new = (side.astype(dtype(name)) for side in data.draw(filled(name)))
    found, wanted = compare.compare(old, new), naive(old, new)
    for field, value in wanted.items():
        assert getattr(found, field) == pytest.approx(value), field
    assert (found.differing == 0) == (compare.compare(new, old).differing == 0)
    assert compare.compare(old, old).differing == 0


@settings(max_examples=40, deadline=None)
@given(pair=filled("float32"), cut=st.integers(0, 4))
def test_parts_add_up_to_the_whole(pair: list[Any], cut: int) -> None:
    old, new = (np.atleast_1d(side).astype(np.float32) for side in pair)
    parts = compare.across([old[:cut], old[cut:]], [new[:cut], new[cut:]])
    whole = compare.compare(old, new)
    for field in ("elements", "nans", "infinities", "differing", "absolute", "scale"):
        assert getattr(parts, field) == getattr(whole, field)
    assert parts.squared == pytest.approx(whole.squared)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (np.zeros((1, 3)), np.zeros((1, 4)), "its shape is [1, 4] in place of [1, 3]"),
        (np.zeros((0, 3)), np.zeros((0, 4)), "its shape is [0, 4] in place of [0, 3]"),
        (np.zeros(3), np.zeros(3, np.int64), "its type is int64 in place of float64"),
        (np.zeros(3, bool), np.zeros(3, np.uint8), "its type is uint8 in place of bool"),
        (np.zeros(3, np.int64), np.zeros(3, np.int32), "its type is int32 in place of int64"),
        (np.zeros(3, np.float32), np.zeros(3, np.float64), "its type is float64 in place of float32"),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), "1 of its 2 values differ"),
        (np.array(["1"], object), np.array([1.0]), "its type is float64 in place of object"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "NaN on one side only in 1 of 2 numbers"),
        (np.array([1.0, 2.0]), np.array([1.0, np.nan]), "NaN on one side only in 1 of 2 numbers"),
        (np.array([np.inf]), np.array([-np.inf]), "infinite on one side only in 1 of 1 numbers"),
        (np.array([1.0]), np.array([np.inf]), "infinite on one side only in 1 of 1 numbers"),
        (np.array([3, 4]), np.array([3, 5]), "1 of its 2 values differ"),
        (np.array([1.0, 2.0]), np.array([1.0, 2.001]), "it differs by 4.5e-04 of its size, float32 rounding"),
    ],
)  # fmt: skip
def test_what_differs_is_said(old: Any, new: Any, said: str) -> None:
    assert compare.problem(compare.compare(old, new), compare.FLOAT32).startswith(said)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0])),
        (np.array([np.inf, -np.inf]), np.array([np.inf, -np.inf])),
        (np.array([1.0, 2.0], np.float32), np.array([1.0, 2.0 + 1e-6], np.float32)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.float32(2), np.float32(2)),
        (np.array(["a"], object), np.array(["a"])),
    ],
)
def test_the_same_is_the_same(old: Any, new: Any) -> None:
    assert compare.problem(compare.compare(old, new), compare.FLOAT32) == ""


def test_the_scale_is_that_of_all_samples() -> None:
    """A confident no of a binary classifier is as exact as its confident yes."""
    old, new = [np.array([1e-9]), np.array([0.9])], [np.array([1.1e-7]), np.array([0.9])]
    assert compare.compare(old[0], new[0]).relative > 0.1
    assert compare.problem(compare.across(old, new), compare.FLOAT32) == ""


def test_every_output_is_compared_and_the_worst_is_named() -> None:
    old = [[np.ones(3), np.array([1, 2]), np.ones(2)]] * 2
    new = [[np.ones(3), np.array([1, 2]), np.ones(2)], [np.ones(3), np.array([1, 9]), np.array([np.nan, 1])]]
    found = compare.outputs(old, new, ["a", "b", "c"])
    assert compare.first_problem(found, compare.FLOAT32) == "output 'c': NaN on one side only in 1 of 4 numbers"
    assert compare.problem(found["b"], compare.FLOAT32) == "1 of its 4 values differ"
    assert compare.problem(found["a"], compare.FLOAT32) == ""


def test_outputs_that_are_missing_or_too_many_are_differences() -> None:
    two, one = [np.ones(1), np.ones(1)], [np.ones(1)]
    assert (
        compare.first_problem(compare.outputs([two], [one], ["a", "b"]), compare.FLOAT32) == "output 'b': it is missing"
    )
    assert "there are 2 outputs in place of 1" in compare.first_problem(
        compare.outputs([one], [two], ["a"]), compare.FLOAT32
    )
    assert compare.across([np.ones(1)], []).unlike == "it is missing"


def test_ties_of_an_argmax_are_no_mistake_of_a_conversion() -> None:
    old = np.arange(1000)
    new = old.astype(np.int32)
    new[:9] += 1
    assert compare.problem(compare.compare(old, new), compare.CONVERTED) == ""
    new[:20] += 1
    assert compare.problem(compare.compare(old, new), compare.CONVERTED) == "20 of its 1,000 values differ"


def test_a_difference_that_is_nothing_is_the_neutral_one() -> None:
    found = compare.compare(np.array([1.0, np.nan]), np.array([2.0, np.nan]))
    assert compare.NOTHING + found == found == found + compare.NOTHING
    assert Difference().relative == Difference().share == Difference().mean_relative == 0


@pytest.mark.parametrize(("bits", "passes"), [(23, True), (17, True), (10, False), (7, False)])
def test_float32_passes_and_narrower_floats_do_not(bits: int, passes: bool) -> None:
    """Answers rounded to so many bits behind the point."""
    rng = np.random.default_rng(0)
    old = rng.standard_normal((64, 10))
    mantissa, exponent = np.frexp(old)
    new = np.ldexp(np.round(mantissa * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)
    assert (compare.problem(compare.compare(old, new), compare.FLOAT32) == "") == passes
