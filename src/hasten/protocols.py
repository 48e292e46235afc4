"""Every way to extend hasten: an engine, a pass, a metric. Nothing here has behaviour; nobody needs to inherit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hasten.model import Model
from hasten.trial import Scalar

if TYPE_CHECKING:
    from hasten.quant.histogram import TensorStats

Array = NDArray[Any]
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
    before the first ``quantize`` step, for passes behind that one; nodes and tensors keep their names.
    """

    feeds: Callable[[], Iterator[Feeds]]
    stats: Stats
    instruction_sets: tuple[str, ...] = ()
    reference: Model | None = None


@runtime_checkable
class Pass(Protocol):
    """A frozen dataclass whose fields are its options; calling it transforms a network.

    Raises ``NotApplicable`` with a reason when it has nothing to do here; that is an answer, not a fault.
    """

    def __call__(self, model: Model, context: Context) -> Model: ...


class NotApplicable(Exception):
    """A pass has nothing to do on this network; the text says why and at which node."""


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
    """A runtime. A module with these names is an engine; ``registry.ENGINES`` lists it."""

    name: str
    scheme: str  # whose placement of rounding its fusions want: one of ``passes.quantize.SCHEMES``
    spins: bool  # its thread pool keeps cores busy after a call

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

    def export(self, onnx: Path, directory: Path) -> Path:
        """Write the engine's own format from an ONNX file; returns the file to load."""
        ...

    def load(self, path: Path, settings: Mapping[str, Scalar]) -> Runner: ...

    def profile(
        self, path: Path, settings: Mapping[str, Scalar], feeds: Sequence[Feeds], seconds: float
    ) -> Sequence[Layer]:
        """Time of each kernel of the warm network, over rounds of ``feeds`` for about ``seconds``, two at least.

        Empty when the engine cannot tell.
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
