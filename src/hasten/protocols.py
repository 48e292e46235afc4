"""Every way to extend hasten: a front door, an engine, a pass, a metric. No behaviour here, nothing to inherit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hasten.model import Model
from hasten.trial import Scalar

if TYPE_CHECKING:
    from hasten.engines.edges import Edge
    from hasten.quant.histogram import TensorStats

Array = NDArray[Any]
Allowed = range | tuple[Scalar, ...] | type[str] | Callable[[Scalar], None]  # values of a setting; the last one raises
Feeds = Mapping[str, Array]  # what a runner eats: one array an input, batch axis included


class Stats(Protocol):
    """Runs the float network over the calibrate split once and returns the statistics of inner tensors by name.

    Tensors also named in ``channels`` carry them per channel too. The result is kept, so that the second quantizer of
    a search pays nothing.
    """

    def __call__(
        self, model: Model, names: Sequence[str], channels: Collection[str] = ()
    ) -> Mapping[str, TensorStats]: ...


@dataclass(frozen=True)
class Context:
    """What a pass may ask for beside the graph.

    ``feeds`` iterates afresh over the calibrate split, one sample (batch of one) at a time.
    ``stats`` tells what the float network's inner tensors hold. ``reference`` is the float network as it was right
    before the first ``quantize`` step, for passes behind that one; nodes and tensors keep their names. ``original`` is
    the network before the first step that took something out. ``kept`` holds
    what a pass worked out and will need for the next candidate, by the pass's name and the network's history.
    """

    feeds: Callable[[], Iterator[Feeds]]
    stats: Stats
    instruction_sets: tuple[str, ...] = ()
    reference: Model | None = None
    original: Model | None = None
    kept: MutableMapping[object, Any] = field(default_factory=dict)


@runtime_checkable
class Pass(Protocol):
    """A frozen dataclass whose fields are its options; calling it transforms a network.

    Raises ``NotApplicable`` with a reason when it has nothing to do here; that is an answer, not a fault.
    """

    def __call__(self, model: Model, context: Context) -> Model: ...


class NotApplicable(Exception):
    """A pass has nothing to do on this network; the text says why and at which node."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """What a front door may need beside the file.

    ``folder`` is where it may write: what it leaves there is kept for the run. ``trust`` allows code inside the file
    to run. ``module`` is ``package.module:factory``, the user's own code that makes the network. ``example`` is an
    ``.npz`` with two samples by input name, for networks that only say what they take when they are run.
    """

    folder: Path = Path()
    trust: bool = False
    module: str | None = None
    signature: str | None = None
    example: Path | None = None


class Frontend(Protocol):
    """A file format. A module with these names is a front door; ``registry.FRONTENDS`` lists it."""

    def accepts(self, path: Path) -> bool:
        """True when the content (never the name) is of this format. Cheap; runs in the parent; parses nothing."""
        ...

    def load(self, path: Path, options: Door) -> Model:
        """The file as one graph, with an ``Origin`` that says what it was. Runs in a worker.

        Raises:
            InputError: it is damaged, unsafe, or lacks something; the message names the option that helps.
            EnvironmentFault: a package is missing; the help is its pip line.
        """
        ...


class Runner(Protocol):
    """A loaded network. ``run`` returns every output, in the graph's order."""

    def run(self, feeds: Feeds) -> list[Array]: ...

    def executed(self) -> str:
        """What really ran, read back from the engine: ``"int8: 52 of 53 convolutions"``."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Layer:
    """One kernel that an engine ran, with its time.

    ``names`` are the nodes and tensors of the network that it stands for, as the engine tells (fusion joins several),
    ``reads`` those of the kernels before it. ``boundary`` marks what only converts between formats or layouts.
    """

    names: tuple[str, ...]
    reads: tuple[str, ...]
    kind: str
    ms: float
    boundary: bool = False


class Engine(Protocol):
    """A runtime. A module with these names is an engine; ``registry.ENGINES`` lists it.

    A network may be at hand in several forms: ``onnx``, the graph, which passes rewrite; and the form in which its
    owner left it, such as ``torch`` or ``keras``, which nobody rewrites. ``takes`` says which forms an engine serves.
    """

    name: str
    scheme: str  # whose placement of rounding its fusions want: one of ``passes.quantize.SCHEMES``
    spins: bool  # its thread pool keeps cores busy after a call
    takes: tuple[str, ...]  # forms that it serves, best first; without the name it is ("onnx",)
    baked: tuple[str, ...]  # settings that go into the file: keywords of ``export``; without the name there are none
    fixes_sizes: bool  # the setting ``sizes`` compiles for sizes of inputs; without the name there is no such setting
    edges: Sequence[Edge]  # where it answers otherwise than ONNX; without the name it declares nothing
    writes: str  # the format of the file that it serves, for ``--format``; without the name it is the engine's
    SETTINGS: Mapping[str, Allowed]  # what a recipe may set without --trust; without the name nothing
    CODE: tuple[str, ...]  # of these, the settings that let code of the file run: they always need --trust
    NATIVE: str  # the setting with which the served file holds a compiled library, which needs --trust to be loaded

    def missing(self) -> str | None:
        """None when the engine can be used here, else why not, with the pip line that brings it."""
        ...

    def version(self) -> str: ...

    def formats(self) -> frozenset[str]:
        """Arithmetic that runs natively on this machine: of ``f32``, ``bf16``, ``f16``, ``int8``."""
        ...

    def settings(self, cores: int) -> Sequence[dict[str, Scalar]]:
        """Settings worth trying that do not change the arithmetic; the first is the stock default."""
        ...

    def lossy_settings(self, cores: int) -> Sequence[dict[str, Scalar]]:
        """Settings that narrow the arithmetic of an unchanged network, such as bf16."""
        ...

    def export(self, source: Path, directory: Path) -> Path:
        """Write the engine's own format from a file of a form that it takes; returns the file to load."""
        ...

    def load(self, path: Path, settings: Mapping[str, Scalar]) -> Runner: ...

    def profile(
        self, path: Path, settings: Mapping[str, Scalar], feeds: Sequence[Feeds], seconds: float
    ) -> Sequence[Layer]:
        """Time of each kernel of the warm network, over rounds of ``feeds`` for about ``seconds``, two at least.

        An engine that cannot tell goes without the function.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of progress. The search emits them; the command line draws them; a test collects them."""

    kind: str  # "stage" | "trial" | "best" | "note" | "warning"
    stage: str  # "1/3 lossless"
    text: str
    done: int = 0
    total: int = 0
    best: float | None = None  # best speed-up so far that looks inside the budget
    seconds_left: float | None = None


Listener = Callable[[Event], None]


class Metric(Protocol):
    """How good the answers are.

    ``rows`` reduces a batch to one row a sample, so that no outputs need to be kept; ``value`` turns rows into
    the score, for all samples or for a bootstrap resample of them. ``kind`` picks the test: ``binary`` rows are
    0/1 (Tango), ``score`` rows are means (paired t, Bernstein), ``corpus`` values are bootstrapped.
    Metrics without labels get ``reference(outputs of the float network)`` in their place.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def needs_labels(self) -> bool: ...

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> NDArray[np.float64]: ...

    def value(self, rows: NDArray[np.float64]) -> float: ...

    def reference(self, outputs: Mapping[str, Array]) -> Array: ...
