"""Exact clean-up: what comes out computes what went in, up to float rounding, and a check holds every step to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.model import Model
from hasten.passes import activations, control, fold, idioms, layout, lookup, merge, noops, scales, shapes, tidy
from hasten.passes.check import CONVERSION_TOLERANCE, TOLERANCE, Check
from hasten.passes.constants import fold_constants
from hasten.passes.opsets import converted
from hasten.passes.rewrite import Rewrite, Settled, Site, apply, as_declared, known, settle
from hasten.protocols import Context, NotApplicable

log = logging.getLogger(__name__)

FORMS = ("float", "int8")
OLDEST, MODERN = 13, 17  # per-channel DequantizeLinear exists from 13 on; older networks are brought to 17
ROUNDS = 6  # what one stage leaves behind may be work for another


@dataclass(frozen=True)
class Clean:
    """Tidy the graph before anything else looks at it.

    Operator sets older than 13 become 17; Constant nodes become initialisers; Identity, Dropout, unused and repeated
    nodes go; what depends on no input is computed; branches and loops whose course is known are written out; nodes
    that do nothing go, transposes cancel, reshapes join; scales, shifts and normalisations go into linear layers;
    spelt out activations and normalisations become one node. The result is run against the network as it was on
    ``samples`` real inputs (and those joined in one batch). When an output moves, the stages are gone through one by
    one, the application that moved it is found by bisection, told, and left out. Names, types and dimensions of inputs
    and outputs stay. ``for_="int8"`` leaves the standardisation of inputs, column by column, in front of the layers: in
    their weights it is exact in float, and in eight bits it gives columns of unlike units one scale.

    Raises:
        NotApplicable: there is nothing to tidy.
        UsageError: ``for_`` is neither.
    """

    samples: int = 2
    for_: str = "float"

    def __post_init__(self) -> None:
        if self.for_ not in FORMS:
            raise UsageError(f"clean has no form for {self.for_!r}", help=did_you_mean(self.for_, FORMS))

    def __call__(self, model: Model, context: Context) -> Model:
        return self.told(model, self.settled(model, context))

    def told(self, model: Model, found: Settled) -> Model:
        """``model`` with the graph ``found``. Raises ``NotApplicable`` where there is none."""
        refused = ", ".join(str(site) for site, _ in found.refused)
        if found.graph is None:
            raise NotApplicable("nothing to tidy" + (f"; left out {refused}" if refused else ""))
        return model.with_graph(found.graph, repr(self) + (f" without {refused}" if refused else ""))

    def settled(self, model: Model, context: Context) -> Settled:
        """The tidied graph, None where there is nothing to tidy, with every application and what was left out."""
        check = Check.of(model.graph, list(islice(context.feeds(), self.samples)))
        start, stages = model.clone_graph(), STAGES if self.for_ == "float" else FOR_INT8
        known(start)
        found = run_stages(start, lambda candidate, tolerance: "", stages)  # at once: most often nothing is wrong
        if found.graph is not None and check.problem(found.graph):
            found = run_stages(start, check.problem, stages)
        return found if found.graph is None else replace(found, graph=as_declared(found.graph, model.graph))


Problem = Callable[[ir.Model, float], str]  # what is wrong with a candidate, by the tolerance that it is given


def run_stages(start: ir.Model, problem: Problem, stages: Sequence[Whole | Rules] | None = None) -> Settled:
    """All stages in turn until none finds work; those for float without others."""
    graph, done, refused = start, list[Site](), dict[Site, str]()
    for _ in range(ROUNDS):
        before = graph
        for stage in STAGES if stages is None else stages:
            found = stage.run(graph, problem, refused)
            graph = graph if found.graph is None else found.graph
            done += found.done
            refused.update(found.refused)
        if graph is before:
            break
    return Settled(None if graph is start else graph, tuple(done), tuple(refused.items()))


@dataclass(frozen=True)
class Whole:
    """A stage that is taken or left as one: ``change`` returns a changed copy, or None."""

    name: str
    change: Callable[[ir.Model], ir.Model | None]
    tolerance: float = TOLERANCE

    def run(self, graph: ir.Model, problem: Problem, skip: Collection[Site] = ()) -> Settled:
        """The edited graph, or None with what was wrong with it."""
        site = Site(self.name, "")
        try:
            candidate = None if site in skip else self.change(graph)
        except Exception as error:  # as with rewrites: a stage that fails is a stage left out
            return Settled(None, (), ((site, f"it failed: {error}"),))
        if candidate is None:
            return Settled(None)
        known(candidate)
        reason = problem(candidate, self.tolerance)
        if reason:
            log.warning("left out the clean-up %r: %s", self.name, reason)
            return Settled(None, (), ((site, reason),))
        return Settled(candidate, (site,))


@dataclass(frozen=True)
class Rules:
    """A stage of rewrites, each of which can be left out by itself."""

    rewrites: tuple[Rewrite, ...]
    tolerance: float = TOLERANCE

    def run(self, graph: ir.Model, problem: Problem, skip: Collection[Site] = ()) -> Settled:
        """The rewritten graph, or None when nothing fits."""
        return settle(graph, self.rewrites, lambda candidate: problem(candidate, self.tolerance), skip)

    def for_int8(self) -> Rules:
        """The same without what suits float alone."""
        return Rules(tuple(rewrite.for_int8() for rewrite in self.rewrites), self.tolerance)


def _modernise(graph: ir.Model) -> ir.Model | None:
    """Operator set 17, or 13 where the converter cannot reach 17; None when it is new enough or cannot be done."""
    return None if walk.opset(graph) >= OLDEST else converted(graph, MODERN, OLDEST)


def _for_gelu(graph: ir.Model) -> ir.Model | None:
    """Operator set 20, where a GELU that is spelt out could then be one node."""
    if walk.opset(graph) >= idioms.GELU_SINCE or not any(n.op_type in ("Erf", "Tanh") for n in graph.graph):
        return None
    probe = graph.clone()
    probe.graph.opset_imports[""] = idioms.GELU_SINCE
    if not apply(probe, idioms.GELUS, limit=1):
        return None
    return converted(graph, idioms.GELU_SINCE)


def _stage(change: Callable[[ir.Model], int]) -> Callable[[ir.Model], ir.Model | None]:
    def stage(graph: ir.Model) -> ir.Model | None:
        copy = graph.clone()
        if not change(copy):
            return None
        edit.prune(copy)
        return copy

    return stage


STAGES: tuple[Whole | Rules, ...] = (
    Whole("operator set", _modernise, CONVERSION_TOLERANCE),
    Whole("tidy", tidy.tidy),
    Rules(tidy.REWRITES),
    Whole("constants", _stage(fold_constants)),
    Rules(lookup.REWRITES),
    Whole("tables", _stage(lookup.tabulate)),
    Rules((*control.REWRITES, *shapes.REWRITES)),
    Rules((*noops.REWRITES, *layout.REWRITES)),
    Whole("newer operator set", _for_gelu, CONVERSION_TOLERANCE),
    Rules((*idioms.REWRITES, *activations.REWRITES)),
    Rules((*fold.REWRITES, *scales.REWRITES, *merge.CONSECUTIVE, *merge.STEPWISE)),
)
FLOAT_ONLY = frozenset(r.name for s in STAGES if isinstance(s, Rules) for r in s.rewrites if r.float_only)
FOR_INT8 = tuple(stage.for_int8() if isinstance(stage, Rules) else stage for stage in STAGES)
