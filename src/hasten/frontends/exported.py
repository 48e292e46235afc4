"""Between torch's two worlds: a module becomes an exported program, a program becomes a graph.

nn.Module -> torch.export (batch free) -> program -> torch.onnx.export(dynamo=True) -> onnx_ir graph
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.frontends.onnx import load
from hasten.frontends.promote import of_one_type
from hasten.model import Model
from hasten.protocols import Array

EXPORT_BY_HAND = "export it with torch.export.export and save it with torch.export.save; then give the .pt2 file"
Example = Mapping[str, Array] | Sequence[Array]  # by name of the forward argument, or in order


def export(module: Any, example: Example, free: Mapping[int, set[int]] | None = None) -> Any:
    """``module`` in evaluation mode as a ``torch.export.ExportedProgram`` with a free batch.

    Args:
        example: two samples or more, so that the exporter does not take the batch for a constant.
        free: further axes that vary, by the input's position.

    Raises:
        InputError: the module does not run on the example, or cannot be exported.
    """
    import torch

    if isinstance(example, Mapping) and not set(example) <= set(signature(module.forward).parameters):
        example = list(example.values())  # the data's names are not the author's: by position
    named = isinstance(example, Mapping)
    tensors = [as_tensor(a) for a in (example.values() if isinstance(example, Mapping) else example)]
    args = () if named else tuple(tensors)
    keywords = dict(zip(example, tensors, strict=True)) if isinstance(example, Mapping) else {}
    try:
        with evaluating(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.inference_mode():
                module(*args, **keywords)
            shapes = [_shape(t, (free or {}).get(k, set())) for k, t in enumerate(tensors)]
            gathered = (tuple(shapes),) if _takes_any(module) else tuple(shapes)
            dynamic = dict(zip(keywords, shapes, strict=True)) if named else gathered
            with torch.no_grad():
                return torch.export.export(module, args, keywords, dynamic_shapes=dynamic)
    except Exception as error:  # user's code and torch's tracer raise whatever they like
        told = f"{type(error).__name__}: {_first_lines(error)}"
        shapes_told = ", ".join(str(list(t.shape)) for t in tensors)
        what = f"the module {type(module).__name__} cannot be exported with inputs {shapes_told}"
        raise InputError(what, cause=told, help=EXPORT_BY_HAND) from error


def _takes_any(module: Any) -> bool:
    """True for ``forward(self, *inputs)``, whose inputs are one argument to the tracer."""
    return any(p.kind is Parameter.VAR_POSITIONAL for p in signature(module.forward).parameters.values())


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Every part in evaluation mode, and afterwards in the mode in which it was."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def as_tensor(array: Array) -> Any:
    """A tensor of its own; float64, which data often is and networks are not, becomes float32."""
    import torch

    made = torch.from_numpy(np.array(array))
    return made.float() if made.dtype == torch.float64 else made


def _shape(tensor: Any, free: set[int]) -> dict[int, Any]:
    """The batch is free whatever happens; other axes that vary in the data are as free as the network allows."""
    from torch.export import Dim

    return {axis: Dim.DYNAMIC if axis == 0 else Dim.AUTO for axis in range(tensor.ndim) if axis == 0 or axis in free}


def _first_lines(error: Exception, most: int = 300) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:most]


def input_names(program: Any) -> list[str]:
    """What the program is fed, in order."""
    return [str(name) for name in program.graph_signature.user_inputs]


def output_names(program: Any) -> list[str]:
    """Names for the outputs: the keys of a dict, ``output`` for a lone tensor, ``output_0``, ... in a tuple."""
    from torch.utils import _pytree as pytree

    spec = program.call_spec.out_spec
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    found = []
    for path, _ in pytree.tree_flatten_with_path(tree)[0]:
        parts = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
        named = [p for p in parts if not p.isdigit()]
        found.append("_".join(parts if named else ["output", *parts]))
    return found


def graph(program: Any, folder: Path) -> Model:
    """The program as a graph, written to and read back from ``folder``.

    Raises:
        InputError: an operator has no counterpart in ONNX.
    """
    import torch

    names = output_names(program)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(program, dynamo=True, verbose=False, output_names=names)
    except Exception as error:
        cause = _first_lines(getattr(error, "__cause__", None) or error, 600)
        raise InputError("the network cannot be written as ONNX", cause=cause, help=EXPORT_BY_HAND) from error
    path = folder / "converted.onnx"
    _tidy(made.model.graph, input_names(program))
    of_one_type(made.model.graph)
    made.save(str(path))
    return load(path)


def _tidy(graph: Any, names: Sequence[str]) -> None:
    """Inputs and the batch by their own names, not the tracer's; nothing of the author's paths and lines of source."""
    taken = {v.name for node in graph.all_nodes() for v in node.outputs}
    for value, name in zip(graph.inputs, names, strict=True):
        value.name = value.name if name in taken else name
    free = {str(v.shape[0]) for v in graph.inputs if v.shape and not isinstance(v.shape[0], int)}
    symbol = free.pop() if len(free) == 1 else None
    for node in graph.all_nodes():
        node.metadata_props.clear()
    for value in (*graph.inputs, *(v for node in graph.all_nodes() for v in node.outputs)):
        for axis, dim in enumerate(value.shape or ()):
            if symbol is not None and str(dim) == symbol:
                value.shape[axis] = "batch"


def converted(program: Any, folder: Path, file: Path) -> Model:
    """As ``graph``, with an origin that says that ``file`` holds the program and torch serves it."""
    model = graph(program, folder)
    return replace(model, origin=replace(model.origin, format="torch", path=str(file), engine="torch"))
