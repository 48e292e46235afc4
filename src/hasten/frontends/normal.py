"""One spelling for what ONNX allows in several: the default domain by its name, and sparse weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hasten.errors import InputError

if TYPE_CHECKING:
    import onnx

DEFAULT = "ai.onnx"  # another spelling of the default domain, whose usual name is empty
MAX_DENSE = 1 << 30  # bytes of a sparse weight once it is dense
DENSE = "export it with dense weights"


def normalise(model: onnx.ModelProto) -> None:
    """Rewrite ``model`` in place; it computes the same.

    Raises:
        InputError: two versions of the default domain, or a sparse weight that is damaged or too large.
    """
    for holder in (model, *model.functions):
        _one_default(holder)
    for function in model.functions:
        function.domain = _spelt(function.domain)
        _nodes(function.node)
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
        del graph.sparse_initializer[:]
        _nodes(graph.node)
        pending += [body for node in graph.node for body in bodies(node)]
    pending = [body for function in model.functions for node in function.node for body in bodies(node)]
    while pending:
        graph = pending.pop()
        _nodes(graph.node)
        pending += [body for node in graph.node for body in bodies(node)]


def _spelt(domain: str) -> str:
    return "" if domain == DEFAULT else domain


def _one_default(holder: onnx.ModelProto | onnx.FunctionProto) -> None:
    versions = {o.version for o in holder.opset_import if _spelt(o.domain) == ""}
    if len(versions) > 1:
        cause = f"versions {', '.join(map(str, sorted(versions)))}"
        raise InputError("the default operator set is imported twice", cause=cause, help="export it again")
    named = [o for o in holder.opset_import if o.domain == DEFAULT]
    for entry in named:
        entry.domain = ""
    seen: set[str] = set()
    for i in reversed(range(len(holder.opset_import))):
        if holder.opset_import[i].domain == "" and "" in seen:
            del holder.opset_import[i]
        else:
            seen.add(holder.opset_import[i].domain)


def _nodes(nodes: Iterator[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.domain == DEFAULT:
            node.domain = ""
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                dense = _dense(attribute.sparse_tensor)
                attribute.ClearField("sparse_tensor")
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.t.CopyFrom(dense)
            elif attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                what = f"node {node.name or '(unnamed)'!r:.60} ({node.op_type[:40]}) has a sparse attribute"
                raise InputError(what, cause="only sparse weights and constants are read", help=DENSE)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the attributes of ``node``."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """The same weight with its zeros written out."""
    from onnx import numpy_helper

    name, shape = sparse.values.name, tuple(sparse.dims)
    if sparse.values.external_data or sparse.indices.external_data:
        raise InputError(f"sparse weight {name!r:.80} lies in another file", help=DENSE)
    try:
        values = numpy_helper.to_array(sparse.values)
        if math.prod(shape) * values.dtype.itemsize > MAX_DENSE:
            cause = f"as shape {list(shape)} it takes over {MAX_DENSE >> 20:,} MiB"
            raise InputError(f"sparse weight {name!r:.80} is too large", cause=cause, help=DENSE)
        places = numpy_helper.to_array(sparse.indices).astype(np.int64)
        flat = np.ravel_multi_index(tuple(places.T), shape) if places.ndim == 2 else places
        if values.ndim != 1 or flat.shape != values.shape or (flat < 0).any():
            raise ValueError(f"{flat.shape} places for {values.shape} values")
        dense = np.zeros(math.prod(shape), values.dtype)
        dense[flat] = values
        return numpy_helper.from_array(dense.reshape(shape), name)
    except (ValueError, IndexError, TypeError, KeyError) as error:
        cause = str(error).split("\n")[0]
        raise InputError(f"sparse weight {name!r:.80} is damaged", cause=cause, help=DENSE) from error
