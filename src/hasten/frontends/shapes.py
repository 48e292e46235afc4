"""Shapes of a graph's values, inferred from its inputs on a light copy of it: no weights, no clone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from hasten.model import Model

if TYPE_CHECKING:
    import onnx

SMALL = 4096  # bytes of a weight that may be a shape, an axis or a size


def inferred(model: Model) -> dict[str, list[int | None]]:
    """The dimensions of each value by name, with a free batch at 1; None where one stays unknown.

    Raises:
        ValueError: inference fails.
    """
    import onnx

    light = _light(model)
    try:
        told = onnx.shape_inference.infer_shapes(light, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx raises whatever it meets
        raise ValueError(str(error)) from error
    found = {v.name: _dims(v) for v in (*told.graph.input, *told.graph.value_info, *told.graph.output)}
    weights = {name: v.const_value for name, v in model.graph.graph.initializers.items()}
    known: dict[str, list[int | None]] = {n: _sizes(w) for n, w in weights.items() if w is not None}
    return {**{name: dims for name, dims in found.items() if dims is not None}, **known}


def _light(model: Model) -> onnx.ModelProto:
    """Nodes, functions, small weights; large weights are inputs of their shape."""
    import onnx

    graph = model.graph.graph
    light = onnx.ModelProto(ir_version=model.graph.ir_version)
    for domain, version in model.graph.opset_imports.items():
        light.opset_import.add(domain=domain, version=version)
    light.functions.extend(ir.serde.serialize_function(f) for f in model.graph.functions.values())
    light.graph.name = "light"
    light.graph.node.extend(ir.serde.serialize_node(node) for node in graph)
    named = {v.name for v in graph.inputs if v.name in graph.initializers}
    light.graph.input.extend(_fixed(value) for value in graph.inputs if value.name not in named)
    for name, value in graph.initializers.items():
        weight = value.const_value
        if weight is None:
            continue
        if weight.nbytes <= SMALL:
            light.graph.initializer.append(ir.serde.serialize_tensor(weight))
            light.graph.initializer[-1].name = name
        else:
            kept = light.graph.input.add(name=name)
            kept.type.tensor_type.elem_type = weight.dtype.value
            for d in _sizes(weight):
                kept.type.tensor_type.shape.dim.add(dim_value=d)
    light.graph.output.extend(ir.serde.serialize_value(value) for value in graph.outputs)
    for output in light.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    return light


def _sizes(weight: ir.TensorProtocol) -> list[int | None]:
    return [d for d in weight.shape if isinstance(d, int)]


def _fixed(value: ir.Value) -> onnx.ValueInfoProto:
    """An input with its free batch at 1 and its other free dimensions open."""
    told = ir.serde.serialize_value(value)
    for axis, dim in enumerate(told.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value") or dim.dim_value <= 0:
            dim.Clear()
            if axis == 0:
                dim.dim_value = 1
    return told


def _dims(value: onnx.ValueInfoProto) -> list[int | None] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def fixed(shapes: dict[str, list[int | None]], value: ir.Value | None) -> list[int]:
    """The dimensions of a value.

    Raises:
        ValueError: one of them is unknown.
    """
    dims = shapes.get(value.name or "") if value is not None else None
    if dims is None:
        raise ValueError("shape unknown")
    return list(_known(dims))


def _known(dims: list[int | None]) -> Iterator[int]:
    for d in dims:
        if d is None:
            raise ValueError("shape not fixed")
        yield d
