"""Tensors that need a range of their own: those whose rounding moves the output, where another range moves it less."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from hasten.graph import edit
from hasten.model import Model
from hasten.passes.quantize import Quantize
from hasten.passes.switches import Divergence, Place, Range, Switches
from hasten.protocols import Context
from hasten.quant import ranges

if TYPE_CHECKING:
    from hasten.quant.histogram import TensorStats

log = logging.getLogger(__name__)

ALIKE = 0.98  # ranges as close as this are one
SUSPECTS = 24  # places that are looked at: those that rounding costs the largest share of their energy
GAIN = 0.02  # an override must lower the divergence by this share


def own_ranges(
    model: Model,
    context: Context,
    step: Quantize,
    divergence: Divergence,
    *,
    output: str = "",
    samples: int = 8,
    tensors: int = 8,
    seconds: float = 60.0,
) -> Quantize:
    """``step`` with overrides for the tensors that need another range, or ``step`` itself when none does.

    The float network ``model`` and ``step(model, context)`` run on the first ``samples`` calibrate samples (half of
    them to rank). Of the roundings that cost a tensor most of its energy each is left out in turn; the ``tensors``
    without which ``output`` (empty: the first) comes nearest to the float network's then try the ranges of every other
    method, one after another, each on top of what was accepted before. Stops after ``seconds`` with what it has.

    Raises:
        NotApplicable: as ``step`` itself.
    """
    end = time.monotonic() + seconds
    places = _places(model, context, step)
    feeds = list(islice(context.feeds(), samples))
    judge = Switches(model, step(model, context), [c.place for c in places], feeds, divergence, output)
    some = max(1, len(feeds) // 2)
    start, without = judge({}, some), dict[int, float]()
    for k in _suspects(places):
        if time.monotonic() < end - seconds / 2:
            without[k] = judge({k: None}, some)
    now, accepted, names = judge({}), dict[int, Range](), dict[int, str]()
    for k in sorted((k for k, found in without.items() if found < start), key=lambda k: without[k])[:tensors]:
        for method, chosen in places[k].others.items():
            if time.monotonic() > end:
                break
            tried = judge({**accepted, k: chosen})
            if tried < now * (1 - GAIN):
                log.info("%s: %s, divergence %.2e to %.2e", places[k].place.names[0], method, now, tried)
                now, accepted[k], names[k] = tried, chosen, method
    more = [f"{places[k].place.names[0]}={method}" for k, method in names.items()]
    return replace(step, overrides=(*step.overrides, *more)) if more else step


@dataclass(frozen=True)
class _Choice:
    """A place, the ranges that other methods would give it, where they differ, and what its own costs."""

    place: Place
    others: Mapping[str, Range]
    noise: float


def _suspects(choices: Sequence[_Choice]) -> list[int]:
    able = [k for k, choice in enumerate(choices) if choice.others]
    return sorted(able, key=lambda k: -choices[k].noise)[:SUSPECTS]


def _places(model: Model, context: Context, step: Quantize) -> list[_Choice]:
    graph = model.clone_graph()
    edit.infer(graph)
    plan = step.placement(graph)
    gated = {node.inputs[0] for node in plan.hardswish}
    own = step.methods(graph, plan)
    groups = [(tuple(v.name or "" for v in group), group[0] in gated) for group in plan.groups()]
    stats = context.stats(model, sorted(name for names, _ in groups for name in names))
    found = []
    for names, is_gated in groups:
        if all(name in stats for name in names):
            chosen = _range(stats, names, own.get(names[0], step.ranges))
            others: dict[str, Range] = {}
            for method in ranges.METHODS:
                one = _range(stats, names, method)
                if not any(_alike(one, seen) for seen in (chosen, *others.values())):
                    others[method] = one
            noise = max(ranges.noise(stats[name], chosen) for name in names)
            found.append(_Choice(Place(names, chosen, is_gated), others, noise))
    return found


def _range(stats: Mapping[str, TensorStats], names: Sequence[str], method: str) -> Range:
    each = [ranges.choose_range(stats[name], method) for name in names]
    return min(low for low, _ in each), max(high for _, high in each)


def _alike(a: Range, b: Range) -> bool:
    """Do two ranges lie within two per cent of each other?"""
    return all(min(abs(x), abs(y)) >= ALIKE * max(abs(x), abs(y)) for x, y in zip(a, b, strict=True))
