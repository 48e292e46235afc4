"""Outputs that are lists of maps: the converters of scikit-learn and LightGBM end their networks with a ZipMap.

It turns each row of a tensor into a map from class to number. The tensor holds the same numbers, so it becomes the
output.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.frontends.normal import bodies
from hasten.safety.walk import parse

if TYPE_CHECKING:
    import onnx

TOLD_CLASSES = 5
ZIPMAP, ML = "ZipMap", "ai.onnx.ml"


def without_maps(path: Path) -> list[str]:
    """Cut each ZipMap off the end of the file ``path``, which is written anew; returns a sentence for each."""
    model = parse(path)
    told = cut_maps(model.graph)
    if told:
        building = path.with_name(f"{path.name[:200]}.{os.getpid()}.cut")
        building.write_bytes(model.SerializeToString())
        building.chmod(0o400)
        building.replace(path)
    return told


def cut_maps(graph: onnx.GraphProto) -> list[str]:
    """The tensor that a ZipMap at the end of ``graph`` reads becomes the output, in place; a sentence for each cut."""
    made = {node.output[0]: node for node in graph.node if (node.domain, node.op_type) == (ML, ZIPMAP) and node.output}
    fed = {value.name for value in graph.input}
    told = []
    for i in reversed(range(len(graph.output))):
        node = made.get(graph.output[i].name)
        if node is None or len(node.input) != 1 or node.input[0] in fed:
            continue
        source, classes = node.input[0], _classes(node)
        told.append(_sentence(graph.output[i].name, source, classes))
        if any(other.name == source for other in graph.output):
            del graph.output[i]
        else:
            graph.output[i].CopyFrom(_declared(graph, source, len(classes)))
    read = set(_read(graph)) | {value.name for value in graph.output}
    for i in reversed(range(len(graph.node))):
        if told and graph.node[i].op_type == ZIPMAP and not read.intersection(graph.node[i].output):
            del graph.node[i]
    return told[::-1]


def _classes(node: onnx.NodeProto) -> list[str]:
    found = [a for a in node.attribute if a.name.startswith("classlabels")]
    return [c.decode("utf-8", "replace") for a in found for c in a.strings] + [str(c) for a in found for c in a.ints]


def _sentence(output: str, tensor: str, classes: list[str]) -> str:
    listed = ", ".join(classes[:TOLD_CLASSES]) + (", ..." if len(classes) > TOLD_CLASSES else "")
    what = f"output {output!r:.80} is a list of maps (ZipMap): it is cut off"
    return f"{what}, and its tensor {tensor!r:.80} is the output, with a column for each class: {listed:.200}"


def _declared(graph: onnx.GraphProto, name: str, classes: int) -> onnx.ValueInfoProto:
    """The type of the tensor that a ZipMap reads: float32, a row for each sample and a column for each class."""
    from onnx import TensorProto, helper

    for known in graph.value_info:
        if known.name == name and known.type.tensor_type.HasField("shape") and known.type.tensor_type.elem_type:
            declared: onnx.ValueInfoProto = known
            return declared
    made: onnx.ValueInfoProto = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, classes])
    return made


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that nodes of ``graph`` and of the graphs inside them read or hand out."""
    pending = [graph]
    while pending:
        within = pending.pop()
        if within is not graph:
            yield from (value.name for value in within.output)
        for node in within.node:
            yield from node.input
            pending += bodies(node)
