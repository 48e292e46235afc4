"""Narrow formats that a search had no time to try: without them nobody knows that nothing is faster."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from hasten import registry
from hasten.machine import cores
from hasten.search import forms, space
from hasten.search.run import Run
from hasten.trial import Candidate

NOT_TRIED = "not tried: "  # how the reason of a candidate begins that the search never came to
LEAST_SECONDS = 80.0  # that are advised


def untried(run: Run) -> list[str]:
    """Of a search whose time was up, ``["int8 on openvino"]``: what an engine offers and no candidate of it tried.

    An engine that does not run the network in float32 offers nothing.
    """
    if not run.ran_out:
        return []
    tried = {what for t in run.trials.values() if not t.reason.startswith(NOT_TRIED) for what in kinds(t.candidate)}
    return [f"{narrow} on {engine}" for engine, narrow in offered(run) if (engine, narrow) not in tried]


def offered(run: Run) -> list[tuple[str, str]]:
    """Engines that run this network, each with the narrow formats that it has."""
    if run.splits.lossless_only:
        return []
    able = {name: engine for name, engine in run.engines.items() if not _refused(run, name)}
    found = space.narrow_floats(able, {}, cores(), None)
    found += [c for name, engine in able.items() if "int8" in engine.formats() for c in _int8(name, engine)]
    return list(dict.fromkeys(what for candidate in forms.fitting(found, run) for what in kinds(candidate)))


def _refused(run: Run, engine: str) -> bool:
    """True where every float32 setting of the engine was tried, and none ran."""
    fates = {t.status for t in run.trials.values() if t.candidate.engine == engine and t.candidate.lossless}
    return bool(fates) and fates <= {"unsupported", "crashed", "timeout"}


def _int8(name: str, engine: Any) -> list[Candidate]:
    return space.static(name, engine, space.first_variants(engine.scheme, {}), {}, ())


def kinds(candidate: Candidate) -> list[tuple[str, str]]:
    """The narrow formats of a candidate, each with its engine: integers by a pass, floats by a setting."""
    engine = candidate.engine
    quantized = any(step.name.startswith("quantize") for step in candidate.steps)
    floats = () if candidate.lossless else space.narrowings(registry.find("engines", engine))
    narrow = [space.narrowed(s) for s in floats if s.items() <= candidate.settings.items()]
    return [(engine, format_) for format_ in [*["int8"] * quantized, *narrow]]


def more_time(seconds: float) -> str:
    """What to write for twice the time.

    >>> more_time(5), more_time(80), more_time(600)
    ('--time 80s', '--time 160s', '--time 20m')
    """
    wanted = max(LEAST_SECONDS, 2 * seconds)
    return f"--time {ceil(wanted / 10) * 10}s" if wanted < 300 else f"--time {ceil(wanted / 60)}m"


def listed(missed: Sequence[str]) -> str:
    """By format, with the engines of each.

    >>> listed(["bf16 on openvino", "int8 on openvino", "int8 on litert"])
    'bf16 (openvino) and int8 (openvino, litert)'
    """
    engines: dict[str, list[str]] = {}
    for narrow, _, engine in (text.partition(" on ") for text in missed):
        engines.setdefault(narrow, []).append(engine)
    told = [f"{narrow} ({', '.join(several)})" for narrow, several in engines.items()]
    return " and ".join(filter(None, [", ".join(told[:-1]), *told[-1:]]))
