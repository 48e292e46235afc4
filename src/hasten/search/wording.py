"""Numbers in the sentences of a search."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from math import isfinite

from hasten import registry
from hasten.trial import Step


def moved(drop: float) -> str:
    """A drop in points, or a gain where the candidate scores better.

    >>> moved(0.0012), moved(-0.0333), moved(-0.00001)
    ('drop 0.12 points', 'gain 3.33 points', 'drop 0.00 points')
    """
    gained = round(-drop * 100, 2) > 0
    return f"{'gain' if gained else 'drop'} {abs(drop) * 100:.2f} points"


def moved_within(drop: float, lower: float, upper: float) -> str:
    """``moved`` with its interval, which counts in the same direction.

    >>> moved_within(-0.0333, -0.07, 0.005), moved_within(0.001, float("-inf"), 0.005)
    ('gain 3.33 points [-0.50, 7.00]', 'drop 0.10 points')
    """
    if not isfinite(lower + upper):
        return moved(drop)
    low, high = (-upper, -lower) if moved(drop).startswith("gain") else (lower, upper)
    return f"{moved(drop)} [{low * 100:.2f}, {high * 100:.2f}]"


def at_most(drop: float, upper: float) -> str:
    """``moved`` with the bound of the drop.

    >>> at_most(0.0012, 0.0061), at_most(-0.0333, 0.005), at_most(-0.0333, -0.01)
    ('drop 0.12 points, at most 0.61', 'gain 3.33 points, drop at most 0.50', 'gain 3.33 points, at least 1.00')
    """
    gained = moved(drop).startswith("gain")
    bound = f"at least {-upper * 100:.2f}" if gained and upper < 0 else f"at most {upper * 100:.2f}"
    return f"{moved(drop)}, {'drop ' if gained and upper >= 0 else ''}{bound}"


PASSES = {
    "clean": "clean-up that changes no arithmetic",
    "quantize": "static int8",
    "quantize_dynamic": "dynamic int8",
    "quantize_weights": "narrow weights",
}


def step_in_words(step: Step) -> str:
    """A step of a recipe with the options that differ from the pass's defaults.

    >>> step_in_words(Step(name="clean")), step_in_words(Step(name="quantize", options={"ranges": "mse"}))
    ('clean-up that changes no arithmetic', 'static int8: ranges mse')
    """
    kind = registry.find("passes", step.name)
    usual = {f.name: f.default for f in fields(kind)} if is_dataclass(kind) else {}
    said = [
        f"{name.replace('_', ' ')} {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in step.options.items()
        if value not in (usual.get(name), [], (), None, False) and name != "scheme"
    ]
    title = PASSES.get(step.name, step.name.replace("_", " "))
    return f"{title}: {', '.join(said)}" if said else title
