"""The numeric gate of exact rewrites: what comes out must answer what went in did, on real inputs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hasten.graph import evaluate, walk
from hasten.graph.moments import batches
from hasten.protocols import Feeds

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of an output's largest magnitude: what rewrites may change
CONVERSION_TOLERANCE = 1e-5  # the same for a change of operator set, which should change nothing


@dataclass(frozen=True)
class Check:
    """The network as it was: what a candidate must still answer."""

    face: tuple[list[str], list[str]]
    feeds: tuple[Feeds, ...]
    answers: tuple[dict[str, walk.Array], ...]

    @staticmethod
    def of(graph: ir.Model, feeds: Sequence[Feeds]) -> Check:
        """Run ``graph`` on ``feeds``, and on all of them in one batch where it takes that."""
        joined = [batch for count, batch in batches(graph, feeds) if count > 1]
        every = (*feeds, *joined)
        try:
            return Check(_face(graph), every, tuple(evaluate.run(graph, every)) if every else ())
        except Exception as error:  # the runtime has no common exception class; a batch of one is then all there is
            if not joined:
                raise
            log.info("the network does not take a batch: %s", error)
        return Check(_face(graph), tuple(feeds), tuple(evaluate.run(graph, feeds)))

    def problem(self, candidate: ir.Model, tolerance: float = TOLERANCE) -> str:
        """Why ``candidate`` may not stand for the network; empty when it may."""
        if self.face != _face(candidate):
            return "the inputs or outputs changed"
        try:
            name, difference = evaluate.worst_difference(self.answers, evaluate.run(candidate, self.feeds))
        except Exception as error:  # any runtime error means the same thing here: the rewrite is wrong
            return f"the result does not run: {error}"
        return "" if difference <= tolerance else f"output {name!r} moved by {difference:.2g} of its scale"


def same_outputs(
    before: ir.Model, after: ir.Model, feeds: Sequence[Feeds], tolerance: float = TOLERANCE
) -> tuple[bool, str, float]:
    """(same, output, difference): run both graphs and compare.

    ``difference`` is the largest |a - b| over the outputs, each relative to its own largest magnitude.
    """
    name, difference = evaluate.worst_difference(evaluate.run(before, feeds), evaluate.run(after, feeds))
    return difference <= tolerance, name, difference


def _face(graph: ir.Model) -> tuple[list[str], list[str]]:
    """Inputs as declared; names and types of outputs, whose shapes a rewrite may know better than their file."""
    weights = graph.graph.initializers
    inputs = [str(v) for v in graph.graph.inputs if v.name not in weights]
    return inputs, [f"{v.name} {v.type}" for v in graph.graph.outputs]
