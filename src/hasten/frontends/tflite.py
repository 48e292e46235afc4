"""TensorFlow Lite files: float, half-float weights, and already in int8, which comes in as Q/DQ.

Inputs and outputs keep the names of the file's signature and its order of axes; inside, the convolutions run channels
first, as ONNX has them, and the transposes between them cancel. No TensorFlow: the schema comes with LiteRT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from hasten.errors import InputError
from hasten.frontends.tflite_call import translate
from hasten.frontends.tflite_file import File
from hasten.frontends.tflite_fold import fold
from hasten.frontends.tflite_ops import OPERATORS
from hasten.frontends.tflite_reader import AGAIN, MAGIC, MAGIC_AT, read
from hasten.graph import edit, layout
from hasten.model import Model, Origin, TensorSpec
from hasten.protocols import Door

__all__ = ["accepts", "load"]


def accepts(path: Path) -> bool:
    """True when the content carries the mark of TensorFlow Lite, whatever the file is called."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC


def load(path: Path, options: Door = Door()) -> Model:  # noqa: B008 - a frozen value
    """Check a file and translate it to ONNX.

    Raises:
        InputError: it is damaged, or uses an operator that is not translated; the message names it and its index.
        EnvironmentFault: LiteRT is not installed.
    """
    file = fold(read(path))
    graph, values = translate(file, OPERATORS)
    _check_shapes(graph, values, file)
    layout.settle(graph, layout.to_first)
    inputs, outputs = (tuple(_spec(v) for v in values) for values in (graph.graph.inputs, graph.graph.outputs))
    return Model(graph, inputs, outputs, Origin("tflite", str(path), "litert"))


def _spec(value: ir.Value) -> TensorSpec:
    assert value.shape is not None
    assert value.type is not None
    shape = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return TensorSpec(value.name or "", shape, value.type.dtype.numpy().name)


def _check_shapes(graph: ir.Model, values: Mapping[int, ir.Value], file: File) -> None:
    """What ONNX infers must be what the file says, or something was translated by a wrong size."""
    outputs = [(v, v.shape) for v in graph.graph.outputs]
    for value, _ in outputs:
        value.shape = None
    edit.infer(graph, outputs=True)
    for index, value in values.items():
        tensor = file.tensors[index]
        if value.shape is None:
            continue
        known = [d if isinstance(d, int) else None for d in value.shape]
        if len(known) != len(tensor.dims) or any(
            None not in p and p[0] != p[1] for p in zip(known, tensor.dims, strict=False)
        ):
            raise InputError(
                f"tensor {tensor.name!r} of {file.path} has the shape {list(tensor.dims)[:8]}",
                cause=f"its operator computes {known[:8]}",
                help=AGAIN,
            )
    for value, shape in outputs:
        value.shape = shape
