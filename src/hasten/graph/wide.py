"""Networks in float16, bfloat16 or float64 as networks in float32, whose inputs and outputs keep their types.

x f16 -> MatMul(W f16) -> y f16    =>    x f16 -> Cast(f32) -> MatMul(W f32) -> Cast(f16) -> y f16

Each weight in float16 or bfloat16 is the same number in float32. A weight in float64 is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from hasten.graph import edit
from hasten.graph.walk import Array

WIDE = ir.DataType.FLOAT
EXACT = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
NAMES = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16", ir.DataType.DOUBLE: "float64"}
TYPED = frozenset({"to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision"})
LARGEST, SMALLEST = np.finfo(np.float32).max, np.finfo(np.float32).tiny


def other_types(graph: ir.Model) -> tuple[ir.DataType, ...]:
    """The float types of weights that ``widened`` would change; float64 only where it is the network's main type."""
    sizes: dict[ir.DataType, int] = {}
    for tensor in _weights(graph):
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
    exact: tuple[ir.DataType, ...] = tuple(t for t in EXACT if t in sizes)
    double = sizes.get(ir.DataType.DOUBLE, 0) > sum(n for t, n in sizes.items() if t in (WIDE, *EXACT))
    return (*exact, ir.DataType.DOUBLE) if double else exact


def widened(graph: ir.Model) -> ir.Model | None:
    """A copy that computes in float32; None where it does already, or holds sequences of another float."""
    types = other_types(graph)
    if not types or any(_listed(value, types) for value in _values(graph)):
        return None
    copy = graph.clone()
    for value in list(_values(copy)):
        if value.const_value is not None and value.const_value.dtype in types:
            value.const_value = _tensor(value.const_value)
    for node in _nodes(copy):
        _retype(node, types)
    _with_ends(copy, types)
    return copy


def _with_ends(copy: ir.Model, types: tuple[ir.DataType, ...]) -> None:
    """Every value inside is float32; the inputs and outputs keep their types behind a Cast."""
    ends = [(v, v.dtype) for v in (*copy.graph.inputs, *copy.graph.outputs) if v.dtype in types]
    for value in _values(copy):
        if isinstance(value.type, ir.TensorType) and value.dtype in types:
            value.type = ir.TensorType(WIDE)
    taken = edit.names(copy)
    weights = set(copy.graph.initializers)
    for value, kind in ends:
        if value.is_graph_input() and value.name not in weights and kind is not None:
            _enter(copy.graph, value, kind, taken)
    for at, value in enumerate(list(copy.graph.outputs)):
        own = next((k for v, k in ends if v is value), None)
        if own is not None and not value.is_graph_input():
            copy.graph.outputs[at] = _leave(copy.graph, value, own, taken)


def told(graph: ir.Model) -> str:
    """What ``widened`` does to a network, in a sentence; empty where it does nothing."""
    types = other_types(graph)
    if not types or any(_listed(value, types) for value in _values(graph)):
        return ""
    names = " and ".join(NAMES[t] for t in types)
    how = "each weight is rounded" if ir.DataType.DOUBLE in types else "each weight is the same number there"
    return f"the network is in {names}: candidates compute in float32 ({how}), and inputs and outputs keep their types"


def _nodes(graph: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(graph.graph)
    for function in graph.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def _values(graph: ir.Model) -> Iterator[ir.Value]:
    """Every value once, those of bodies and functions included."""
    seen = dict.fromkeys(v for one in graph.graphs() for v in (*one.inputs, *one.initializers.values()))
    for function in graph.functions.values():
        seen.update(dict.fromkeys(function.inputs))
    for node in _nodes(graph):
        seen.update(dict.fromkeys(node.outputs))
    yield from seen


def _weights(graph: ir.Model) -> Iterator[ir.TensorProtocol]:
    yield from (v.const_value for v in _values(graph) if v.const_value is not None and v.producer() is None)
    for node in _nodes(graph):
        yield from (a.value for a in node.attributes.values() if a.type == ir.AttributeType.TENSOR and not a.is_ref())


def _listed(value: ir.Value, types: tuple[ir.DataType, ...]) -> bool:
    """True for a sequence or an optional value of one of these types."""
    return value.type is not None and not isinstance(value.type, ir.TensorType) and value.type.dtype in types


def _tensor(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The same numbers as float32. Finite ones outside its range become its largest or smallest: masks, guards."""
    array: Array = tensor.numpy().astype(np.float64 if tensor.dtype == ir.DataType.DOUBLE else np.float32)
    if tensor.dtype == ir.DataType.DOUBLE:
        size = np.abs(array)
        array = np.where(np.isfinite(array), np.clip(array, -LARGEST, LARGEST), array)
        array = np.where((size > 0) & (size < SMALLEST), np.copysign(SMALLEST, array), array).astype(np.float32)
    return ir.tensor(array, name=tensor.name)


def _retype(node: ir.Node, types: tuple[ir.DataType, ...]) -> None:
    """Attributes that hold numbers of these types, or name one of them."""
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in types:
            node.attributes[name] = ir.AttrTensor(name, _tensor(attribute.value))
        elif name in TYPED and attribute.type == ir.AttributeType.INT and attribute.value in [t.value for t in types]:
            node.attributes[name] = ir.AttrInt64(name, WIDE.value)


def _enter(graph: ir.Graph, value: ir.Value, kind: ir.DataType, taken: set[str]) -> None:
    """The input keeps its type; its readers read a float32 copy."""
    wide = ir.Value(name=edit.fresh(taken, f"{value.name}/float32"), shape=value.shape, type=ir.TensorType(WIDE))
    value.replace_all_uses_with(wide)
    value.type = ir.TensorType(kind)
    node = ir.node("Cast", [value], {"to": WIDE.value}, outputs=[wide], name=wide.name)
    graph.insert_before(graph[0], node) if len(graph) else graph.append(node)


def _leave(graph: ir.Graph, value: ir.Value, kind: ir.DataType, taken: set[str]) -> ir.Value:
    """A value of the output's own name and type, made from the float32 one."""
    name, value.name = value.name, edit.fresh(taken, f"{value.name}/float32")
    narrow = ir.Value(name=name, shape=value.shape, type=ir.TensorType(kind))
    graph.append(ir.node("Cast", [value], {"to": kind.value}, outputs=[narrow], name=f"{name}/narrow"))
    return narrow
