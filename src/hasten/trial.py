"""What a search records: candidates, their measurements, and the verdict. Values only; JSON both ways.

``msgspec`` turns these frozen dataclasses into JSON and back, checking every field's type.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from hasten import typed_json

T = TypeVar("T")

Scalar = str | int | float | bool
Status = Literal["ok", "rejected", "slower", "unsupported", "crashed", "timeout", "skipped"]
Verdict = Literal["met", "nothing_faster", "undecided"]
Split = Literal["calibrate", "search", "confirm"]
Certificate = Literal["guaranteed", "statistical", "none"]
SCHEMA_VERSION = 1
MAX_LOOKS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass by its registered name, with its options: ``Step(name="quantize", options={"ranges": "mse"})``."""

    name: str
    options: dict[str, Scalar | list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{k}={'|'.join(v) if isinstance(v, list) else v}" for k, v in self.options.items() if v != [])
        return self.name + (f"({told})" if told else "")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to serve the network: graph passes in order, then an engine with its settings."""

    steps: tuple[Step, ...]
    engine: str
    settings: dict[str, Scalar] = field(default_factory=dict)
    lossless: bool = False
    label: str = ""

    @property
    def key(self) -> str:
        """Twelve hex digits that name this recipe, whatever its label."""
        named = {"steps": self.steps, "engine": self.engine, "settings": self.settings}
        return sha256(_compact(named)).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Speed against the baseline, from interleaved pairs.

    ``restarts`` is how many times all processes were started; ``log_ratios`` come in that order. From three restarts on
    ``speedup``, ``low`` and ``high`` are Student's t over them, else the median with its exact sign-test interval.
    ``waking`` is the same, (speed-up, low, high), of the first calls after a rest, where that was measured.
    """

    speedup: float
    low: float
    high: float
    pairs: int
    restarts: int = 1
    median_ms: float
    baseline_ms: float
    log_ratios: tuple[float, ...] = ()
    flags: tuple[str, ...] = ()
    load_seconds: float | None = None
    waking: tuple[float, float, float] | None = None

    @property
    def final(self) -> bool:
        """True for the final timing, which alone looks at the calls after a rest."""
        return self.waking is not None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A candidate against the baseline on the same samples. ``drop`` > 0 is worse, as a fraction of one.

    ``upper`` is the one-sided statistical bound at the budget's confidence: it holds when unseen samples resemble
    these. ``guaranteed_upper`` needs nothing but independent samples. ``certificate`` is the strongest grade in
    which the drop lies inside the budget; ``met`` says that it is as strong as required. ``hidden_share`` is the
    largest share of samples that could all be lost without one of them among these. ``chance`` is the posterior
    probability of being inside, from a flat prior. ``level`` is the one-sided level of ``lower`` and ``upper``:
    that of the look and the candidate, not the budget's. ``flips`` counts samples whose outcome changed either way (0/1
    metrics only).
    """

    split: Split
    metric: str
    n: int
    baseline: float
    value: float
    drop: float
    lower: float
    upper: float
    p_value: float
    method: str
    met: bool
    flips: int | None = None
    certificate: Certificate = "none"
    guaranteed_upper: float = inf
    guaranteed_method: str = ""
    hidden_share: float = 1.0
    chance: float = 0.0
    also: tuple[str, ...] = ()  # what became of further scores, a sentence each
    level: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate's fate. ``reason`` is a sentence for people: why it was not chosen, whatever its status."""

    candidate: Candidate
    status: Status
    reason: str = ""
    stage: str = ""
    search: Quality | None = None
    confirm: Quality | None = None
    timing: Timing | None = None
    quick_ms: float | None = None  # a first look at its latency, before any race
    quick_range: tuple[float, float] | None = None  # the interval of that look, in milliseconds
    harm: float | None = None  # divergence of its answers from the float network's, on search samples
    unkept: str = ""  # the output that it is not shown to keep, and by how much
    executed: str = ""  # what really ran: "int8: 52 of 53 convolutions"
    artefact: str = ""  # path relative to the run folder
    bytes: int | None = None
    peak_bytes: int | None = None  # resident memory of the serving process above an empty one
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Group:
    """One region of a mixed-precision plan: milliseconds and harm (divergence of the answers) by format."""

    name: str  # its first linear operator
    kind: str
    linear: int  # how many linear operators it holds
    ms: dict[str, float]
    harm: dict[str, float]
    chosen: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A mixed-precision plan for one engine, and how well the model that made it foretold what was then measured.

    ``foretold_ms`` against ``measured_ms`` and ``summed_harm`` against ``joint_harm`` hold one entry a plan measured.
    """

    engine: str
    wide: str  # the format of what is not narrowed
    candidate: str  # the key of the candidate that realises it
    groups: tuple[Group, ...]
    samples: int
    seconds: float
    foretold_ms: tuple[float, ...] = ()
    measured_ms: tuple[float, ...] = ()
    summed_harm: tuple[float, ...] = ()
    joint_harm: tuple[float, ...] = ()
    teller: str = ""  # the engine whose kernels told the regions' shares of the time, where it is another


@dataclass(frozen=True, kw_only=True)
class Provable:
    """What this much data can prove, said before the search."""

    n_calibrate: int
    n_search: int
    n_confirm: int
    smallest_drop: float | None  # provable at 80 % power when 2 % of the answers flip
    budget_provable: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the numbers hold."""

    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_bytes: int
    system: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """A candidate that ``out/estimated/`` holds: clearly faster than what is certified, and its estimate is inside.

    ``chance`` is the posterior probability of being inside the budget. About ``needed_samples`` more samples would
    settle that, each with or without a label as ``needed`` says; None where the number is unknown.
    """

    trial: Trial
    chance: float
    needed_samples: int | None
    needed: Literal["labelled", "unlabelled"]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that the report renders and ``verify`` checks."""

    model: str
    model_sha256: str
    data_sha256: str
    metric: str
    metric_kind: str
    budget: str
    confidence: float
    verdict: Verdict
    sentence: str  # the verdict in words
    as_given: Trial
    tuned: Trial  # the best lossless setting; equals ``as_given`` when nothing lossless pays
    winner: Trial
    trials: tuple[Trial, ...]
    provable: Provable
    machine: Machine
    noise: Timing  # baseline against itself
    seed: int
    seconds: float
    peak_bytes: int
    needed_samples: int | None = None  # for ``undecided``: about how many more confirm samples
    plans: tuple[Mixed, ...] = ()
    unplanned: tuple[str, ...] = ()  # where no formats were mixed, and why
    warnings: tuple[str, ...] = ()
    looks: Annotated[int, msgspec.Meta(ge=1, le=MAX_LOOKS)] = (
        1  # which look at this confirm split this was; each is tested at a smaller level
    )
    stopped: bool = False  # the search was cut short by an interrupt; the same command goes on
    made_up: bool = False  # no data was given: the answers were compared on made-up inputs
    out_of_time: bool = False  # the search's time was up before everything was tried
    untried: tuple[str, ...] = ()  # of these, the narrow formats of which nothing was tried: "int8 on openvino"
    format: str = "onnx"  # as it was given
    started: str = ""  # when the run began: ISO 8601 with the offset from UTC
    conversion: float | None = None  # the largest difference that its conversion made, as a share of the output's scale
    required: Literal["guaranteed", "statistical"] = "statistical"  # the weakest certificate that counts as met
    outputs: tuple[str, ...] = ()  # what each output is, a line each
    estimated: Estimated | None = None  # what is faster still, or faster at all, without a certificate
    schema_version: int = SCHEMA_VERSION

    @property
    def speedup(self) -> float:
        """The winner's speed-up over the network as given (1.0 when the network itself won)."""
        return self.winner.timing.speedup if self.winner.timing else 1.0

    @property
    def certified(self) -> bool:
        """True when the winner passed its test inside the budget on samples that the search never saw."""
        return self.verdict == "met" and self.provable.n_confirm > 0

    @property
    def certificate(self) -> Certificate:
        """The grade of the winner's certificate."""
        seen = self.winner.confirm
        return seen.certificate if self.certified and seen is not None and seen.met else "none"


def summary(result: Result) -> dict[str, Any]:
    """A result as JSON values, with the three that are worked out from it."""
    own = {"speedup": result.speedup, "certified": result.certified, "certificate": result.certificate}
    return {**plain(result), **own}


def encode(value: object) -> bytes:
    """Indented strict JSON: keys in field order, NaN and infinities as null.

    What is not printable is escaped, so that no terminal obeys it. Half a surrogate pair, which JSON in UTF-8 cannot
    hold, becomes the text of its escape.

    >>> encode("\\u202e\\x9b"), encode("\\udc80")
    (b'"\\\\u202e\\\\u009b"\\n', b'"\\\\\\\\udc80"\\n')
    """
    text = _compact(value, order=None).decode()
    return msgspec.json.format(_HIDDEN.sub(_escaped, text).encode(), indent=2) + b"\n"


def _compact(value: object, order: Literal["deterministic"] | None = "deterministic") -> bytes:
    try:
        return msgspec.json.encode(value, order=order)
    except UnicodeEncodeError:
        return msgspec.json.encode(_without_halves(msgspec.to_builtins(value)), order=order)


_HIDDEN = re.compile(r"[^\x20-\x7e]")  # most of what it finds is printable


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_without_halves(k): _without_halves(v) for k, v in value.items()}
    return [_without_halves(v) for v in value] if isinstance(value, list | tuple) else value


def decode(data: bytes, kind: type[T]) -> T:
    """The value that ``encode`` wrote. Raises ``msgspec.DecodeError`` naming the field that does not fit."""
    return typed_json.decode(data, kind)


def plain(value: object) -> Any:
    """``value`` as dicts, lists, strings and numbers, for a template or a message."""
    return msgspec.to_builtins(value)
