"""Exact clean-up: what comes out computes what went in, up to float rounding, and a check holds every step to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import onnx_ir as ir
from onnx_ir.passes import common

from hasten.graph import evaluate, walk
from hasten.graph.moments import batches
from hasten.model import Model
from hasten.passes import activations, control, fold, idioms, layout, merge, noops, scales, shapes
from hasten.passes.constants import fold_constants
from hasten.passes.lookup import pick_rows, tabulate
from hasten.passes.rewrite import Rewrite, Settled, Site, apply, settle
from hasten.protocols import Context, Feeds, NotApplicable

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of an output's largest magnitude: what rewrites may change
CONVERSION_TOLERANCE = 1e-5  # the same for a change of operator set, which should change nothing
OLDEST, MODERN = 13, 17  # per-channel DequantizeLinear exists from 13 on; older networks are brought to 17
ROUNDS = 6  # what one stage leaves behind may be work for another


@dataclass(frozen=True)
class Clean:
    """Tidy the graph before anything else looks at it.

    Operator sets older than 13 become 17; Constant nodes become initialisers; Identity, Dropout, unused and repeated
    nodes go; what depends on no input is computed; branches and loops whose course is known are written out; nodes
    that do nothing go, transposes cancel, reshapes join; scales, shifts and normalisations go into linear layers;
    spelt out activations and normalisations become one node. Each stage is run against the network as it was on
    ``samples`` real inputs (and those joined in one batch). When an output moves, the application that moved it is
    found by bisection, told, and left out. Input and output names, types and dimensions stay.

    Raises:
        NotApplicable: there is nothing to tidy.
    """

    samples: int = 2

    def __call__(self, model: Model, context: Context) -> Model:
        check = Check.of(model.graph, list(islice(context.feeds(), self.samples)))
        graph, changed, refused = model.graph, False, dict[str, None]()
        for _ in range(ROUNDS):
            before = graph
            for stage in STAGES:
                found = stage.run(graph, check)
                graph = graph if found.graph is None else found.graph
                refused.update(dict.fromkeys(str(site) for site, _ in found.refused))
            changed |= graph is not before
            if graph is before:
                break
        if not changed:
            raise NotApplicable("nothing to tidy" + (f"; left out {', '.join(refused)}" if refused else ""))
        return model.with_graph(graph, repr(self) + (f" without {', '.join(refused)}" if refused else ""))


@dataclass(frozen=True)
class Check:
    """The network as it was: what a candidate must still answer."""

    face: tuple[list[str], list[str]]
    feeds: tuple[Feeds, ...]
    answers: tuple[dict[str, walk.Array], ...]

    @staticmethod
    def of(graph: ir.Model, feeds: Sequence[Feeds]) -> Check:
        """Run ``graph`` on ``feeds``, and on all of them in one batch where it takes that."""
        answers = evaluate.run(graph, feeds) if feeds else []
        joined = [batch for count, batch in batches(graph, feeds) if count > 1]
        try:
            together = evaluate.run(graph, joined)
        except Exception as error:  # the runtime has no common exception class; a batch of one is then all there is
            log.info("the network does not take a batch: %s", error)
            joined, together = [], []
        return Check(_face(graph), (*feeds, *joined), (*answers, *together))

    def problem(self, candidate: ir.Model, tolerance: float) -> str:
        """Why ``candidate`` may not stand for the network; empty when it may."""
        if self.face != _face(candidate):
            return "the inputs or outputs changed"
        try:
            name, difference = evaluate.worst_difference(self.answers, evaluate.run(candidate, self.feeds))
        except Exception as error:  # any runtime error means the same thing here: the rewrite is wrong
            return f"the result does not run: {error}"
        return "" if difference <= tolerance else f"output {name!r} moved by {difference:.2g} of its scale"


@dataclass(frozen=True)
class Whole:
    """A stage that is taken or left as one: ``edit`` returns an edited copy, or None."""

    name: str
    edit: Callable[[ir.Model], ir.Model | None]
    tolerance: float = TOLERANCE

    def run(self, graph: ir.Model, check: Check) -> Settled:
        """The edited graph, or None with what was wrong with it."""
        candidate = self.edit(graph)
        problem = check.problem(candidate, self.tolerance) if candidate is not None else ""
        if problem:
            log.warning("left out the clean-up %r: %s", self.name, problem)
            return Settled(None, (), ((Site(self.name, ""), problem),))
        return Settled(candidate)


@dataclass(frozen=True)
class Rules:
    """A stage of rewrites, each of which can be left out by itself."""

    rewrites: tuple[Rewrite, ...]
    tolerance: float = TOLERANCE

    def run(self, graph: ir.Model, check: Check) -> Settled:
        """The rewritten graph, or None when nothing fits."""
        return settle(graph, self.rewrites, lambda candidate: check.problem(candidate, self.tolerance))


def same_outputs(
    before: ir.Model, after: ir.Model, feeds: Sequence[Feeds], tolerance: float = TOLERANCE
) -> tuple[bool, str, float]:
    """(same, output, difference): run both graphs and compare.

    ``difference`` is the largest |a - b| over the outputs, each relative to its own largest magnitude.
    """
    name, difference = evaluate.worst_difference(evaluate.run(before, feeds), evaluate.run(after, feeds))
    return difference <= tolerance, name, difference


def _face(graph: ir.Model) -> tuple[list[str], list[str]]:
    weights = graph.graph.initializers
    return [str(v) for v in graph.graph.inputs if v.name not in weights], [str(v) for v in graph.graph.outputs]


def _modernise(graph: ir.Model) -> ir.Model | None:
    """Operator set 17, or 13 where the converter cannot reach 17; None when it is new enough or cannot be done."""
    return None if walk.opset(graph) >= OLDEST else _converted(graph, MODERN, OLDEST)


def _for_gelu(graph: ir.Model) -> ir.Model | None:
    """Operator set 20, where a GELU that is spelt out could then be one node."""
    if walk.opset(graph) >= idioms.GELU_SINCE or not any(n.op_type in ("Erf", "Tanh") for n in graph.graph):
        return None
    probe = graph.clone()
    probe.graph.opset_imports[""] = idioms.GELU_SINCE
    if not apply(probe, idioms.GELUS):
        return None
    return _converted(graph, idioms.GELU_SINCE)


def _converted(graph: ir.Model, *targets: int) -> ir.Model | None:
    from onnx import version_converter

    for target in targets:
        try:
            converted = ir.from_proto(version_converter.convert_version(ir.to_proto(graph), target))
        except Exception as error:  # the converter raises whatever its C++ side raises
            log.info("operator set %d is out of reach: %s", target, error)
            continue
        for old, new in zip(graph.graph.outputs, converted.graph.outputs, strict=True):
            new.shape, new.type = old.shape, old.type
        for old, new in zip(graph.graph.inputs, converted.graph.inputs, strict=True):
            new.shape, new.type = old.shape, old.type
        return converted
    return None


def _tidy(graph: ir.Model) -> ir.Model | None:
    copy = graph.clone()
    changed = _remove_dropout(copy)
    for step in (
        common.RemoveInitializersFromInputsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    ):
        trial = copy.clone()
        try:
            modified = step(trial).modified
        except Exception as error:  # some cannot cope with If bodies that hand outer values on; the others still help
            log.info("%s does not fit this network: %s", type(step).__name__, error)
            continue
        if modified:
            copy, changed = trial, changed + 1
    return copy if changed else None


def _remove_dropout(graph: ir.Model) -> int:
    """Dropout passes its input through unless training_mode says otherwise."""
    done = 0
    for node in list(graph.graph):
        training = len(node.inputs) > 2 and node.inputs[2] is not None
        if node.op_type != "Dropout" or training or node.outputs[0].is_graph_output() or node.inputs[0] is None:
            continue
        if any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
            continue
        walk.replace(node.outputs[0], node.inputs[0])
        graph.graph.remove(node, safe=True)
        done += 1
    return done


def _stage(edit: Callable[[ir.Model], int]) -> Callable[[ir.Model], ir.Model | None]:
    def stage(graph: ir.Model) -> ir.Model | None:
        copy = graph.clone()
        walk.infer(copy)
        if not edit(copy):
            return None
        walk.prune(copy)
        return copy

    return stage


STAGES: tuple[Whole | Rules, ...] = (
    Whole("operator set", _modernise, CONVERSION_TOLERANCE),
    Whole("tidy", _tidy),
    Whole("constants", _stage(fold_constants)),
    Whole("one-hot products", _stage(pick_rows)),
    Whole("tables", _stage(tabulate)),
    Rules((*control.REWRITES, *shapes.REWRITES)),
    Rules((*noops.REWRITES, *layout.REWRITES)),
    Whole("newer operator set", _for_gelu, CONVERSION_TOLERANCE),
    Rules((*idioms.REWRITES, *activations.REWRITES)),
    Rules((*fold.REWRITES, *scales.REWRITES, *merge.CONSECUTIVE, *merge.STEPWISE)),
)
