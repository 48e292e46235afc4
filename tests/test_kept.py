"""What each output is, and what a changed network keeps of it: each column, each decision, boxes, lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hasten.measure.kept import LIMIT, Part, Tally, worst
from hasten.measure.outputs import Output, describe

RNG = np.random.default_rng(0)
N, DRAWS = 400, 50
Arrays = list[Any]


def split(table: Any) -> Arrays:
    """A sample each, with a batch axis of one."""
    return list(np.asarray(table)[:, None])


CONTROL = RNG.standard_normal((N, 2)) * [0.2, 3.0] + [0.0, 15.0]
SCORES = RNG.standard_normal((N, 3)) + np.array([2.0, 0.0, 0.0])
FRAUD = np.where(np.arange(N) % 25 == 0, 0.9, 0.05)[:, None] + RNG.normal(0, 0.01, (N, 1))
GRID = np.stack(np.meshgrid(np.arange(4) * 32.0, np.arange(4) * 32.0), -1).reshape(16, 2)
BOXES = np.concatenate(
    [GRID + RNG.normal(0, 1, (N, 16, 2)), RNG.normal(24, 1, (N, 16, 2)), RNG.random((N, 16, 2)) > 0.9], 2
)
MASK = (np.hypot(*np.meshgrid(np.arange(16) - 8, np.arange(16) - 8)) < RNG.uniform(2, 6, (N, 1, 1))) * 0.98 + 0.01
CLASS_MAP = np.digitize(RNG.standard_normal((N, 6, 6)), [0.5, 1.5])
KELVIN = 300 + RNG.normal(0, 1, (N, 1))
LABELS = {"scores": SCORES.argmax(1), "fraud": (FRAUD > 0.5).astype(int), "mask": (MASK > 0.5).astype(int)}
OUTPUTS = {
    "control": CONTROL, "scores": SCORES, "fraud": FRAUD, "boxes": BOXES, "mask": MASK, "classes": CLASS_MAP,
    "kelvin": KELVIN,
}  # fmt: skip


def described(name: str, table: Any = None) -> Output:
    labels = LABELS.get(name)
    return describe(
        {name: split(OUTPUTS[name] if table is None else table)[:64]}, labels=None if labels is None else labels[:64]
    )[0]


def compared(name: str, new: Any) -> list[Part]:
    tally = Tally(described(name))
    for one, other in zip(split(OUTPUTS[name]), split(new), strict=True):
        tally.add(one, other)
    return tally.parts(0.05)


def noisy(table: Any) -> Any:
    """As int8 changes numbers: a fiftieth of what varies with the sample."""
    table = np.asarray(table)
    return table if table.dtype.kind == "i" else table + RNG.standard_normal(table.shape) * 0.02 * table.std(0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("control", "quantity"), ("scores", "logits"), ("fraud", "flags"), ("boxes", "boxes"), ("mask", "mask"),
     ("classes", "indices"), ("kelvin", "quantity")],
)  # fmt: skip
def test_the_kind_is_seen_and_noise_is_kept(name: str, kind: str) -> None:
    assert described(name).kind == kind
    assert worst(compared(name, OUTPUTS[name])) is None
    assert worst(compared(name, noisy(OUTPUTS[name]))) is None


def put(name: str, *columns: int, value: float | None = None) -> Any:
    """A copy with columns at a constant: their mean, or ``value``."""
    new = np.array(OUTPUTS[name])
    for k in columns:
        new[..., k] = new[..., k].mean() if value is None else value
    return new


SPOILT: dict[str, Callable[[], tuple[str, Any]]] = {
    "steering constant": lambda: ("control", put("control", 0)),
    "speed constant": lambda: ("control", put("control", 1)),
    "columns swapped": lambda: ("control", CONTROL[:, ::-1]),
    "samples reversed": lambda: ("control", CONTROL[::-1]),
    "all zero": lambda: ("control", CONTROL * 0),
    "a new NaN": lambda: ("control", np.where(np.arange(N)[:, None] == 3, np.nan, CONTROL)),
    "another shape": lambda: ("control", CONTROL[:, :1]),
    "a rare class dropped": lambda: ("scores", SCORES - [0, 0, 9]),
    "classes swapped": lambda: ("scores", SCORES[:, [0, 2, 1]]),
    "always the commonest": lambda: ("scores", SCORES + np.array([9, 0, 0])),
    "saturated scores": lambda: ("scores", 100 * SCORES),
    "no fraud found": lambda: ("fraud", FRAUD * 0),
    "everything is fraud": lambda: ("fraud", FRAUD * 0 + 0.9),
    "a detector's scores dead": lambda: ("boxes", put("boxes", 4, 5, value=0)),
    "boxes shifted": lambda: ("boxes", BOXES + np.array([10, 0, 0, 0, 0, 0])),
    "boxes of the mean size": lambda: ("boxes", put("boxes", 0)),
    "an empty mask": lambda: ("mask", MASK * 0),
    "an eroded mask": lambda: ("mask", MASK * np.roll(MASK, 1, 1) * np.roll(MASK, -1, 2) * np.roll(MASK, 2, 2)),
    "one class everywhere": lambda: ("classes", CLASS_MAP * 0),
    "a class of the map dropped": lambda: ("classes", np.minimum(CLASS_MAP, 1)),
    "a small spread beside a large mean": lambda: ("kelvin", np.full_like(KELVIN, 300.0)),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_spoilt_is_seen(how: str) -> None:
    name, new = SPOILT[how]()
    found = worst(compared(name, new))
    assert found is not None
    assert found.spoilt, found


def test_the_share_is_the_squared_error_over_the_variance() -> None:
    new = CONTROL + RNG.standard_normal(CONTROL.shape) * [0.05, 0.0]
    shares = {p.name: p.share for p in compared("control", new)}
    wanted = np.mean(np.square(new - CONTROL), 0) / np.mean(np.square(CONTROL - CONTROL[:64].mean(0)), 0)
    np.testing.assert_allclose([shares["[0]"], shares["[1]"]], wanted)


@pytest.mark.parametrize("rate", [0.02, 0.4])
def test_bounds_are_wrong_one_time_in_twenty_at_most(rate: float) -> None:
    """Candidates that lose exactly the limit in one column pass in at most 5 %, of the draws: 0.05 + 2 sd."""
    passed = 0
    for _ in range(DRAWS):
        old = RNG.standard_normal((60, 1)) * np.where(RNG.random((60, 1)) < rate, 1.0, 0.2)
        size = (LIMIT * (rate + (1 - rate) * 0.04)) ** 0.5
        tally = Tally(describe({"y": split(RNG.standard_normal((64, 1)) * 0.2)}, kinds={"y": "quantity"})[0])
        for one, error in zip(split(old), RNG.standard_normal((60, 1)) * size, strict=True):
            tally.add(one, one + error)
        passed += worst(tally.parts(0.05)) is None
    assert passed / DRAWS <= 0.05 + 2 * (0.05 * 0.95 / DRAWS) ** 0.5


def test_few_decisions_of_a_class_refuse_only_a_certain_loss() -> None:
    few = np.where(np.arange(N)[:, None] < 3, 0.9, 0.1)
    output = describe({"y": split(few)}, kinds={"y": "flags"})[0]
    for lost, spoilt in ((0, False), (1, False), (3, True)):
        tally = Tally(output)
        for k, one in enumerate(split(few)):
            tally.add(one, one * 0.5 if k < lost else one)
        decisions = [p for p in tally.parts(0.05) if "decisions" in p.name or "class" in p.name]
        assert any(p.spoilt for p in decisions) == spoilt
        assert all(p.kept for p in decisions) == (not spoilt)


def test_a_list_is_compared_without_its_order() -> None:
    old = [np.sort(RNG.random((1, RNG.integers(8, 20), 1)) * 10, 1)[:, ::-1] for _ in range(60)]
    output = describe({"found": old})[0]
    assert output.kind == "list"
    changes: list[tuple[Callable[[Any], Any], bool]] = [
        (lambda a: a[:, ::-1], False), (lambda a: a[:, :1], True), (lambda a: a * 0, True)
    ]  # fmt: skip
    for change, spoilt in changes:
        tally = Tally(output)
        for one in old:
            tally.add(one, change(one))
        assert (worst(tally.parts(0.05)) is not None) == spoilt


def test_constant_and_empty_outputs() -> None:
    for table, change, spoilt in ((3.0, 1.01, False), (3.0, 1.3, True), (0.0, 1.0, False)):
        output = describe({"y": split(np.full((64, 2), table))})[0]
        tally = Tally(output)
        for one in split(np.full((64, 2), table)):
            tally.add(one, one * change)
        assert (worst(tally.parts(0.05)) is not None) == spoilt
    assert "constant" in str(describe({"y": split(np.full((64, 1), 3.0))})[0])
    nothing = describe({"y": split(np.zeros((8, 0)))})[0]
    tally = Tally(nothing)
    tally.add(np.zeros((1, 0)), np.zeros((1, 0)))
    assert worst(tally.parts(0.05)) is None


def test_each_output_has_a_line() -> None:
    assert str(described("control")).startswith("control: quantity of 2 columns, [0] spread 0.")
    assert "3 classes" in str(described("scores"))
