"""How to round, by whose network answers most like the float one with everything in int8; and what to do before.

An exact rewrite may ruin eight bits: the float form of a network takes the standardisation of inputs into the first
weights. Where the form for int8 differs, or columns of an input are unlike, each is judged beside the float form.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from hasten.measure.divergence import DECIDES
from hasten.search.field import Run, first_line, material, study
from hasten.search.findings import Rounded, either
from hasten.search.space import FOR_INT8, spoken
from hasten.trial import Scalar, Step
from hasten.worker import CallFailed, WorkerDied

EQUALIZE = Step(name="equalize", options={"clip": "skip"})  # a Clip that is split runs in float
SMOOTH = Step(name="smooth", options={"insert": False})  # a Mul more would cost time
PREPARATIONS = ((EQUALIZE, SMOOTH), (EQUALIZE,), (SMOOTH,))
SCALED = Step(name="scale_inputs")
FORMS = ((FOR_INT8,), (FOR_INT8, SCALED), (SCALED,))
WORTH = 0.8  # of the harm: a preparation that leaves more than this is not worth a step
FORM_WORTH = 0.5  # chosen: a form that leaves more than this is not worth an operator in float at the input
ENOUGH = 0.1  # of the harm: one that leaves less need not be compared with others
LOOKING_SECONDS = 8.0  # after this no other preparation is begun


@dataclass(frozen=True)
class Rounding:
    """Options of ``quantize``, the steps ``before`` it that keep what the network computes, and what it does to the
    answers with everything in int8; ``attends`` says that products of two computed tensors can be narrowed as well."""

    options: dict[str, Scalar]
    before: tuple[Step, ...] = ()
    harm: float = inf
    attends: bool = False


def judged(run: Run) -> dict[str, Any]:
    """Which outputs a harm is read from, and whether they are scores of classes."""
    names = [run.evaluator.outputs[k] for k in run.evaluator.keep]
    return {"outputs": names, "classes": run.evaluator.metric.name in DECIDES}


def choose_rounding(run: Run, scheme: str) -> Rounding:
    """The form of the network, the calibration method, and whether biases are corrected."""
    try:
        found = _compared(run, scheme)
    except (WorkerDied, CallFailed) as fault:
        run.say("note", f"calibration methods could not be compared ({first_line(fault)}); using mse")
        return plain_rounding(run)
    told = ", ".join(f"{name} {harm:.1e}" for name, harm in sorted(found["harm"].items(), key=lambda kv: kv[1]))
    run.say("note", f"calibration: {found['options']['ranges']}, bias {found['options']['bias']} ({told})")
    plain = Rounding(found["options"], (), min(found["harm"].values()), found.get("attends", False))
    return _least_harmful(run, scheme, plain, FORMS, FORM_WORTH)


def plain_rounding(run: Run) -> Rounding:
    """The calibration method that is used where none were compared; its harm is unknown."""
    return Rounding({"ranges": "mse", "bias": "kept", **_fixed(run)})


def recovered(run: Run, scheme: str, plain: Rounding) -> Rounding:
    """``plain``, or the preparation behind which int8 does clearly less harm."""
    tried = [(*plain.before, *steps) for steps in PREPARATIONS]
    return _least_harmful(run, scheme, plain, tried, WORTH)


def _least_harmful(
    run: Run, scheme: str, plain: Rounding, before_each: Sequence[tuple[Step, ...]], worth: float
) -> Rounding:
    """``plain``, or the steps behind which int8 leaves no more of its harm than ``worth``.

    Preparations are tried with the options of ``plain``. Forms are tried with every calibration method: where all of
    them ruin the float form, the best of them says nothing.
    """
    harms, end = {"as it is": plain.harm}, time.monotonic() + LOOKING_SECONDS
    tried = {named(before): before for before in before_each}
    for name, before in tried.items():
        if run.over() or time.monotonic() > end or min(harms.values()) < ENOUGH * plain.harm:
            break
        try:
            methods = None if before_each is FORMS else [str(plain.options["ranges"])]
            found = _compared(run, scheme, before, methods)
        except (WorkerDied, CallFailed) as fault:
            run.say("note", f"{name} failed: {first_line(fault)}")
            continue
        if "not_applicable" not in found:
            harms[name] = min(found["harm"].values())
        elif before_each is not FORMS:
            run.say("note", f"{name}: {found['not_applicable']}")
    best = min(harms, key=lambda name: harms[name])
    told = ", ".join(f"{name} {harm:.1e}" for name, harm in harms.items())
    if best not in tried or harms[best] > worth * plain.harm:
        if len(harms) > 1 or before_each is not FORMS:
            run.say("note", f"no preparation makes int8 clearly less harmful ({told})")
        return plain
    run.say("note", f"int8 is prepared by {best} ({told})")
    try:
        found = _compared(run, scheme, tried[best])
    except (WorkerDied, CallFailed) as fault:
        run.say("note", f"{best} failed: {first_line(fault)}")
        return plain
    return Rounding(found["options"], tried[best], min(found["harm"].values()), found.get("attends", False))


def named(before: Sequence[Step]) -> str:
    """Steps in words: ``"equalize + smooth"``."""
    return " + ".join(map(spoken, before))


def _compared(run: Run, scheme: str, before: Sequence[Step] = (), methods: Sequence[str] | None = None) -> Rounded:
    more = {} if methods is None else {"methods": list(methods)}
    function, given = "hasten.search.harm:choose_rounding", {**material(run, before), **judged(run), **more}
    return study(run, function, Rounded, either("options", "harm"), **given, scheme=scheme, fixed=_fixed(run))


def _fixed(run: Run) -> dict[str, Scalar]:
    """Options of ``quantize`` that the user decided; nothing where that is the default."""
    return {"per_channel": False} if run.per_tensor else {}
