"""A network may be at hand in several forms; which engine serves which, and which of them passes can rewrite.

onnx                            the graph: passes rewrite it, most engines serve it
torch, keras, tensorflow, ...   as the owner left it: only engines that take that form, and no passes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten import registry
from hasten.errors import UsageError, did_you_mean
from hasten.safety.stage import DIGESTS, staged_digests
from hasten.trial import Candidate, Scalar

if TYPE_CHECKING:
    from hasten.search.field import Run

GRAPH = "onnx"


def takes(engine: str) -> tuple[str, ...]:
    """The forms that an engine serves, best first."""
    return tuple(getattr(registry.find("engines", engine), "takes", (GRAPH,)))


def writes(engine: str) -> str:
    """The format of the file that an engine serves, as ``--format`` names it."""
    return str(getattr(registry.find("engines", engine), "writes", engine))


def form_of(engine: str, steps: Sequence[object], forms: Iterable[str]) -> str | None:
    """The form of which ``engine`` is given a file: the graph after passes, else the first that it takes."""
    at_hand = set(forms)
    wanted = (GRAPH,) if steps else takes(engine)
    return next((f for f in wanted if f in at_hand and f in takes(engine)), None)


def baked(candidate: Candidate) -> dict[str, Scalar]:
    """The candidate's settings that go into the file."""
    names = getattr(registry.find("engines", candidate.engine), "baked", ())
    return {k: v for k, v in candidate.settings.items() if k in names}


def fitting(candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
    """The candidates that this network can become, each once, without the one that is the network as given.

    Where an engine takes no graph there is nothing to tidy, and where it serves the owner's file it is told what
    its owner tells it.
    """
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        if GRAPH not in takes(candidate.engine) and all(step.name == "clean" for step in candidate.steps):
            candidate = replace(candidate, steps=())
        form = form_of(candidate.engine, candidate.steps, run.forms)
        if form is not None and form == run.origin.format and form != GRAPH:
            candidate = replace(candidate, settings={**run.origin.settings, **candidate.settings})
        if form is not None and candidate.key != run.given:
            found.setdefault(candidate.key, candidate)
    return list(found.values())


def serving(
    engines: Mapping[str, Any], absent: Sequence[str], forms: Iterable[str], asked: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """Of the engines that work here, those that serve one of ``forms``; of the absent, those that would.

    Raises:
        UsageError: none of the engines asked for serves this network.
    """
    at_hand = list(forms)
    able = {name: engine for name, engine in engines.items() if form_of(name, (), at_hand) is not None}
    if not able:
        told = "; ".join(f"{name} takes {', '.join(takes(name))}" for name in engines)
        cause = f"{told}; the network is at hand as {', '.join(at_hand)}"
        raise UsageError("none of these engines can serve the network", cause=cause, help="name others with --engine")
    missed = [text for text in absent if asked or form_of(text.partition(":")[0], (), at_hand) is not None]
    return able, missed


def of_format(engines: Mapping[str, Any], wanted: str | None) -> dict[str, Any]:
    """The engines whose file is of the format ``wanted``; all without one.

    Raises:
        UsageError: none of them writes that.
    """
    if wanted is None:
        return dict(engines)
    found = {name: engine for name, engine in engines.items() if writes(name) == wanted}
    if not found:
        known = sorted({writes(name) for name in engines})
        raise UsageError(f"no engine here writes the format {wanted!r}", help=did_you_mean(wanted, known))
    return found


def artefact_bytes(artefact: Path) -> int:
    """Bytes of a served network: the file with its weights, or all of a folder."""
    if artefact.is_dir():
        return sum(p.stat().st_size for p in artefact.rglob("*") if p.is_file())
    beside = {artefact.with_suffix(".data"), artefact.with_suffix(".bin"), artefact.with_name(artefact.name + ".data")}
    if (artefact.parent / DIGESTS).is_file():  # a copy of the user's own, with all files that it consists of
        beside |= {artefact.parent / name for name in staged_digests(artefact) if name != artefact.name}
    return artefact.stat().st_size + sum(p.stat().st_size for p in beside if p.exists())
