"""What each command writes with ``--json``, as types, and their JSON schema."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import msgspec

from hasten.errors import UsageError, did_you_mean
from hasten.trial import Machine, Mixed, Result


class Engine(TypedDict):
    """A runtime on this machine; ``missing`` is None where it works, else why not."""

    name: str
    version: str | None
    formats: list[str]
    missing: str | None


class Doctor(TypedDict):
    """``hasten doctor``."""

    schema_version: int
    machine: Machine
    cores: int
    engines: list[Engine]


class _Timed(TypedDict):
    name: str


class Timed(_Timed, total=False):
    """A network that ``bench`` timed against the first; ``reason`` alone where it died."""

    engine: str
    median_ms: float
    speedup: float
    low: float
    high: float
    pairs: int
    reason: str


class Bench(TypedDict):
    """``hasten bench``."""

    schema_version: int
    models: list[Timed]


class _Inspect(TypedDict):
    schema_version: int
    format: str


class Inspect(_Inspect, total=False):
    """``hasten inspect``; ``regions`` where samples were given."""

    served_by: str
    opset: int | None
    domains: dict[str, int]
    ir_version: int
    producer: str
    inputs: list[Any]
    outputs: list[Any]
    nodes: int
    parameters: int
    weight_bytes: int
    weight_types: dict[str, int]
    macs: int | None
    ops: dict[str, int]
    quantized: list[str]
    control_flow: list[str]
    custom_ops: list[str]
    runtime_ops: list[str]
    changed: list[str]
    dynamic: list[str]
    ideas: list[str]
    regions: Mixed


class Apply(TypedDict):
    """``hasten apply``."""

    schema_version: int
    out: str
    bytes: int
    history: list[str]
    steps: list[str]
    difference: float
    certified: bool


class Check(TypedDict):
    """One check of ``verify``; ``ok`` is None where it could not be made."""

    name: str
    ok: bool | None
    text: str
    help: str  # what to give, where it could not be made


class Verify(TypedDict):
    """``hasten verify``."""

    schema_version: int
    answer: Literal["verified", "failed", "not checked"]
    ok: bool | None
    checks: list[Check]


class Prove(TypedDict):
    """``hasten prove``; ``bound`` is of the drop, a fraction of one, None without any added sample."""

    schema_version: int
    answer: Literal["proven", "not proven"]
    certificate: Literal["guaranteed", "statistical", "none"]
    sentence: str
    samples: int
    added: int
    labels: int
    changed: int
    to_label: int
    bound: float | None
    labels_needed: int | None
    samples_needed: int | None


class Failure(TypedDict):
    """An error, and the exit code that comes with it."""

    message: str
    cause: str
    help: str
    exit_code: int


class Failed(TypedDict):
    """Any command that fails."""

    schema_version: int
    error: Failure


OUTPUTS: dict[str, Any] = {
    "optimize": Result,
    "bench": Bench,
    "inspect": Inspect,
    "doctor": Doctor,
    "apply": Apply,
    "verify": Verify,
    "prove": Prove,
    "error": Failed,
}


def schema(command: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what ``command`` writes with ``--json``; "error" is what all write on failure.

    Raises:
        UsageError: no command is called so.
    """
    if command not in OUTPUTS:
        raise UsageError(f"no output is called {command!r}", help=did_you_mean(command, OUTPUTS))
    found = msgspec.json.schema(OUTPUTS[command])
    if command == "optimize":
        own = found["$defs"]["Result"]
        worked_out = {
            "speedup": {"type": "number"},
            "certified": {"type": "boolean"},
            "certificate": {"enum": ["guaranteed", "none", "statistical"]},
        }
        own["properties"] |= worked_out
        own["required"] = [*own["required"], *worked_out]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"hasten {command} --json"}
    return {**head, **_with_nulls(found)}


def _with_nulls(value: Any) -> Any:
    """JSON has no NaN and no infinity: where a number is none, null is written."""
    if isinstance(value, list):
        return [_with_nulls(v) for v in value]
    if not isinstance(value, dict):
        return value
    inner = {k: _with_nulls(v) for k, v in value.items()}
    return {**inner, "type": ["number", "null"]} if inner.get("type") == "number" else inner
