"""Exact clean-up: what comes out computes what went in, up to float rounding, and a check holds every step to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import onnx_ir as ir
from onnx_ir.passes import common

from hasten.graph import evaluate, walk
from hasten.model import Model
from hasten.passes.activations import rewrite
from hasten.passes.constants import fold_constants
from hasten.passes.fold import fold
from hasten.passes.lookup import pick_rows, tabulate
from hasten.protocols import Context, Feeds, NotApplicable

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of an output's largest magnitude: what rewrites may change
CONVERSION_TOLERANCE = 1e-5  # the same for a change of operator set, which should change nothing
OLDEST, MODERN = 13, 17  # per-channel DequantizeLinear exists from 13 on; older networks are brought to 17


@dataclass(frozen=True)
class Clean:
    """Tidy the graph before anything else looks at it.

    Operator sets older than 13 become 17; Constant nodes become initialisers; Identity, Dropout, unused and repeated
    nodes go; what depends on no input is computed; BatchNormalization, Mul, Add and Pad fold into convolutions; spelt
    out hard activations become one node. Each stage is run against the network as it was on ``samples`` real inputs
    and left out when an output moves. Input and output names, types and dimensions stay.

    Raises:
        NotApplicable: there is nothing to tidy.
    """

    samples: int = 2

    def __call__(self, model: Model, context: Context) -> Model:
        feeds = list(islice(context.feeds(), self.samples))
        before = evaluate.run(model.graph, feeds) if feeds else []
        graph, changed, dropped = model.graph, list[str](), list[str]()
        for name, stage, tolerance in STAGES:
            candidate = stage(graph)
            if candidate is None:
                continue
            problem = _problem(model.graph, candidate, feeds, before, tolerance)
            (dropped if problem else changed).append(name)
            if problem:
                log.warning("left out the clean-up %r: %s", name, problem)
            else:
                graph = candidate
        if not changed:
            raise NotApplicable("nothing to tidy" + (f"; left out {', '.join(dropped)}" if dropped else ""))
        note = repr(self) + (f" without {', '.join(dropped)}" if dropped else "")
        return model.with_graph(graph, note)


def same_outputs(
    before: ir.Model, after: ir.Model, feeds: Sequence[Feeds], tolerance: float = TOLERANCE
) -> tuple[bool, str, float]:
    """(same, output, difference): run both graphs and compare.

    ``difference`` is the largest |a - b| over the outputs, each relative to its own largest magnitude.
    """
    name, difference = evaluate.worst_difference(evaluate.run(before, feeds), evaluate.run(after, feeds))
    return difference <= tolerance, name, difference


def _problem(
    original: ir.Model,
    candidate: ir.Model,
    feeds: Sequence[Feeds],
    before: list[dict[str, walk.Array]],
    tolerance: float,
) -> str:
    """Why ``candidate`` may not stand for ``original``; empty when it may."""
    if _face(original) != _face(candidate):
        return "the inputs or outputs changed"
    try:
        name, difference = evaluate.worst_difference(before, evaluate.run(candidate, feeds))
    except Exception as error:  # any runtime error means the same thing here: the rewrite is wrong
        return f"the result does not run: {error}"
    return "" if difference <= tolerance else f"output {name!r} moved by {difference:.2g} of its scale"


def _face(graph: ir.Model) -> tuple[list[str], list[str]]:
    weights = graph.graph.initializers
    return [str(v) for v in graph.graph.inputs if v.name not in weights], [str(v) for v in graph.graph.outputs]


def _modernise(graph: ir.Model) -> ir.Model | None:
    """Operator set 17, or 13 where the converter cannot reach 17; None when it is new enough or cannot be done."""
    if walk.opset(graph) >= OLDEST:
        return None
    from onnx import version_converter

    for target in (MODERN, OLDEST):
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


STAGES: tuple[tuple[str, Callable[[ir.Model], ir.Model | None], float], ...] = (
    ("operator set", _modernise, CONVERSION_TOLERANCE),
    ("tidy", _tidy, TOLERANCE),
    ("constants", _stage(fold_constants), TOLERANCE),
    ("one-hot products", _stage(pick_rows), TOLERANCE),
    ("tables", _stage(tabulate), TOLERANCE),
    ("activations", _stage(rewrite), TOLERANCE),
    ("convolutions", _stage(fold), TOLERANCE),
)
