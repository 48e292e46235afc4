"""Fix the sizes of axes that were left open. On request: the result takes these sizes only."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.model import Model, TensorSpec
from hasten.passes.check import same_outputs
from hasten.passes.clean import Clean
from hasten.protocols import Context, Feeds, NotApplicable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Specialise:
    """Write sizes into inputs and outputs, and fold all that is computed from them.

    x["batch", 3, "height", "width"] -> Shape -> ... -> Reshape      =>      x[1, 3, 480, 480] -> Reshape

    ``sizes`` are texts such as ``"height=480"``, by the names of axes; with none of them every open axis gets the size
    that it has in the samples (the batch is then 1). Everything else of the interface stays.

    Raises:
        UsageError: no input has an axis of that name, or the size is not a number above zero.
        NotApplicable: nothing is open, or the samples differ in size.
    """

    sizes: tuple[str, ...] = ()
    samples: int = 2

    def __call__(self, model: Model, context: Context) -> Model:
        feeds = list(islice(context.feeds(), self.samples))
        known = _read(self.sizes, model.inputs) if self.sizes else _seen(model.inputs, feeds)
        graph = model.clone_graph()
        for value, axes in ((v, known.get(v.name or "", {})) for v in graph.graph.inputs):
            if value.shape is not None:
                value.shape = ir.Shape([axes.get(i, d) for i, d in enumerate(value.shape)])
        names = {str(s.shape[i]): n for s in model.inputs for i, n in known.get(s.name, {}).items() if s.shape[i]}
        _rename(graph, names)
        _forget(graph.graph.outputs, [v for v in graph.graph.inputs if v.name not in graph.graph.initializers])
        edit.infer(graph, outputs=True)
        fixed = replace(model, graph=graph)
        fitting = [one for one in feeds if _fits(one, known)]
        try:
            graph = Clean(self.samples)(fixed, replace(context, feeds=lambda: iter(fitting))).graph
        except NotApplicable as nothing:
            log.info("%s", nothing)
        edit.infer(graph, outputs=True)  # what the clean-up has folded tells more
        same, output, difference = same_outputs(model.graph, graph, fitting)
        if not same:
            raise NotApplicable(f"with fixed sizes the output {output!r} moves by {difference:.2g} of its scale")
        made = model.with_graph(graph, repr(self))
        return replace(
            made, inputs=_told(model.inputs, graph.graph.inputs), outputs=_told(model.outputs, graph.graph.outputs)
        )


def _read(sizes: Sequence[str], inputs: Sequence[TensorSpec]) -> dict[str, dict[int, int]]:
    """Size by input and axis."""
    names = {d for spec in inputs for d in spec.shape if isinstance(d, str)}
    wanted: dict[str, int] = {}
    for text in sizes:
        name, _, size = text.partition("=")
        if name not in names:
            raise UsageError(f"no input has an axis {name!r}", help=did_you_mean(name, names))
        if not size.isdecimal() or int(size) == 0:
            raise UsageError(f"{text!r} gives no size to the axis {name!r}", help=f"write {name}=16, for example")
        wanted[name] = int(size)
    return {s.name: {i: wanted[d] for i, d in enumerate(s.shape) if isinstance(d, str) and d in wanted} for s in inputs}


def _seen(inputs: Sequence[TensorSpec], feeds: Sequence[Feeds]) -> dict[str, dict[int, int]]:
    """Size by input and open axis, as in all samples."""
    found: dict[str, dict[int, int]] = {}
    for spec in inputs:
        shapes = {one[spec.name].shape for one in feeds}
        if len(shapes) > 1:
            raise NotApplicable(f"samples of {spec.name!r} differ in size: {' and '.join(map(str, sorted(shapes)))}")
        shape = shapes.pop() if shapes else ()
        found[spec.name] = {i: size for i, (d, size) in enumerate(zip(spec.shape, shape)) if not isinstance(d, int)}  # noqa: B905
    if not any(found.values()):
        raise NotApplicable("every axis of every input has its size already" if feeds else "no samples tell the sizes")
    return found


def _rename(graph: ir.Model, names: Mapping[str, int]) -> None:
    """Put the numbers in the place of names, wherever a shape is known."""
    inner = [v for node in graph.graph for v in node.outputs]
    for value in (*graph.graph.inputs, *inner, *graph.graph.outputs):
        found = walk.dims(value)
        if found is not None and value.shape is not None and walk.constant(value) is None:
            value.shape = ir.Shape(
                [names.get(d, v) if isinstance(d, str) else v for d, v in zip(found, value.shape, strict=True)]
            )


def _forget(outputs: Sequence[ir.Value], inputs: Sequence[ir.Value]) -> None:
    """Drop names of sizes that no input has, for shape inference to find the numbers."""
    held = {d for v in inputs for d in walk.dims(v) or () if isinstance(d, str)}
    for value in outputs:
        found = walk.dims(value)
        if found is not None:
            value.shape = ir.Shape([d if isinstance(d, int) or d in held else None for d in found])


def _fits(feeds: Feeds, known: Mapping[str, Mapping[int, int]]) -> bool:
    return all(feeds[name].shape[i] == size for name, axes in known.items() for i, size in axes.items())


def _told(specs: Sequence[TensorSpec], values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """The specs with the shapes that the graph says now; what it cannot tell keeps its name."""
    shapes = {v.name: walk.dims(v) for v in values}
    made = []
    for spec in specs:
        pairs = zip(shapes[spec.name] or spec.shape, spec.shape, strict=True)
        made.append(replace(spec, shape=tuple(now if isinstance(now, int) else was for now, was in pairs)))
    return tuple(made)
