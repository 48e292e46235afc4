"""An ONNX graph as a TensorFlow Lite file: floats, int8 from Q/DQ, and int8 weights under float activations.

Inputs and outputs keep their names, their order of axes and their types; inside, convolutions run channels last.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from hasten.errors import InputError
from hasten.export import tflite_decompose, tflite_lower
from hasten.export.tflite_file import FlatFile
from hasten.export.tflite_ops import OPERATORS
from hasten.export.tflite_writer import Writer
from hasten.graph import edit, layout, movable, walk

__all__ = ["encode", "write"]

OLDEST, OPSET = 13, 21


def write(model: ir.Model, path: Path) -> int:
    """Write ``model`` to ``path``; returns its bytes.

    Raises:
        InputError: LiteRT has no operator for something in it; the message names the node.
        EnvironmentFault: LiteRT, which ships the schema, is not installed.
    """
    data = encode(model)
    path.write_bytes(data)
    return len(data)


def encode(model: ir.Model) -> bytes:
    """The bytes of ``write``."""
    graph = model.clone()
    if walk.opset(graph) < OLDEST:
        raise InputError(
            f"operator set {walk.opset(graph)} cannot be written for LiteRT",
            cause=f"its operators mean something else than from {OLDEST} on",
            help="clean the network first, which brings it up to date",
        )
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    _modernise(graph)
    _infer(graph)
    tflite_decompose.decompose(graph)
    tflite_lower.products(graph)
    tflite_lower.turn(graph)
    layout.settle(graph, layout.to_last)
    common.TopologicalSortPass()(graph)
    return Writer(graph.graph, FlatFile("hasten"), OPERATORS).run()


def _modernise(graph: ir.Model) -> None:
    """From operator set 18 on the axes of a reduction are an input, and a Split says into how many parts."""
    if walk.opset(graph) < 18:
        taken = edit.names(graph)
        for node in graph.graph:
            if node.op_type in movable.REDUCTIONS and "axes" in node.attributes:
                axes = np.array(node.attributes.pop("axes").as_ints(), np.int64)
                node.resize_inputs(2)
                node.replace_input_with(1, edit.add_constant(graph.graph, edit.fresh(taken, f"{node.name}/axes"), axes))
            elif node.op_type == "Split" and len(node.inputs) < 2:
                node.attributes.add(ir.AttrInt64("num_outputs", len(node.outputs)))
    graph.graph.opset_imports[""] = max(OPSET, walk.opset(graph))


def _infer(graph: ir.Model) -> None:
    """Infer every shape anew; -1 stands for a free size in the inputs of old files."""
    for value in graph.graph.inputs:
        if value.shape is not None:
            sizes = enumerate(value.shape)
            value.shape = ir.Shape([d if not isinstance(d, int) or d > 0 else f"{value.name}_{i}" for i, d in sizes])
    edit.infer(graph, outputs=True)


def operators() -> Iterable[str]:
    """The ONNX operators that can be written."""
    own = {name for domain, name in OPERATORS if domain == "" or name in tflite_lower.BOUND}
    return sorted(own | set(tflite_decompose.TABLE))
