"""What the user asks, and what makes two askings of it the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from hasten.budget import Budget
from hasten.machine import machine
from hasten.model import file_digest
from hasten.protocols import Door, Metric
from hasten.search.fingerprint import fingerprint

WATCHED = ("OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")  # variables that change what a worker computes


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the user asks, with every choice that changes the answer."""

    model: Path
    data: object
    budget: Budget
    metric: str | Callable[..., Any] | None = None
    output: str | None = None
    output_kinds: Mapping[str, str] | None = None  # in place of a guess: what an output is, by name
    ignored: Sequence[str] = ()  # outputs that a narrowed candidate need not keep
    labels: str = "labels"
    judged: bool = True  # by a budget; else the network is only inspected
    groups: str | None = None
    state: Mapping[str, str] | None = None
    preprocess: str | None = None
    columns: Mapping[str, Sequence[str]] | None = None
    also: Sequence[str] = ()  # further scores that must hold
    lower_is_better: bool = False  # of a metric that is the user's function
    batch: int = 1
    threads: int | None = None
    objective: str = "latency"
    per_tensor: bool = False  # one scale a weight in int8, as some processors want it
    engines: Sequence[str] | None = None
    seed: int | None = None
    format: str | None = None
    served_by: str | None = None
    door: Door = field(default_factory=Door)


def identity(
    question: Question, metric: Metric, files: Mapping[str, str], data: str, engines: Mapping[str, Any]
) -> dict[str, str]:
    """Two askings with the same identity have the same answer: the digests of all that goes into it.

    ``files`` are digests of the network's files, ``data`` is that of the samples, ``engines`` are those that can be
    used. Network and data count by their content, wherever they lie; a function as a metric by its fingerprint.
    """
    here = machine()
    told = ("model", "data", "metric", "door")  # by other means
    asked = {f.name: getattr(question, f.name) for f in fields(question) if f.name not in told}
    asked |= {"module": question.door.module, "signature": question.door.signature}
    return {
        "network": digest(sorted(files.values())),
        "data": data,
        "question": digest({**asked, "budget": vars(question.budget), "metric": told_of(metric)}),
        "version": digest([here.versions, {name: engine.version() for name, engine in engines.items()}]),
        "machine": digest([here.cpu, here.cores, here.instruction_sets, {k: os.environ.get(k) for k in WATCHED}]),
    }


def digest(value: object) -> str:
    """sha256 of plain values, whatever the order of their keys."""
    return sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def told_of(metric: Metric) -> list[str]:
    """A metric's name and kind, and what it is made of; a user's own is its function."""
    function = getattr(metric, "function", None)
    if function is not None:
        return [metric.name, metric.kind, fingerprint(function)]
    return [repr(metric)] if type(metric).__module__.startswith("hasten.") else [metric.name, fingerprint(metric)]


def changed_since(model: Path, sha256: str) -> list[str]:
    """A warning where the user's file was written anew while hasten worked on its copy."""
    try:
        same = file_digest(model) == sha256
    except OSError:
        same = False
    return [] if same else [f"{model.name} has changed since the run began: this is about the network as it was then"]
