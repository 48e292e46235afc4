"""Sessions of ONNX Runtime that read large weights where they lie in memory.

Calibration, harm and the checks of passes open a session for each variant of a network: whatever it weighs would be
written and read anew each time, and held twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

SHARED = 1 << 12  # bytes: smaller weights, and what shapes are computed from, stay in the file
PLAIN = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.INT64}
)


def opened(graph: ir.Model, options: Any) -> Any:
    """``onnxruntime.InferenceSession`` of a graph, with ``options`` of its own; it shares the graph's large weights.

    Raises whatever ONNX Runtime raises for a graph that it cannot run.
    """
    import onnxruntime as ort

    source, weights = _apart(graph)
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), values)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    session.shared = values  # they must live as long as it does
    return session


def in_arrays(graph: ir.Model) -> None:
    """Hold the weights as arrays, in place: one that lies in a message is copied each time that it is looked at."""
    for value in graph.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.TensorProtoTensor) and tensor.dtype in PLAIN:
            value.const_value = ir.Tensor(tensor.numpy(), name=tensor.name)


def _apart(graph: ir.Model) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """The graph in ONNX's format without its large weights, and those by name."""
    held, weights = {}, dict[str, NDArray[Any]]()
    try:
        for name, value in graph.graph.initializers.items():
            tensor = value.const_value
            # the runtime drops what nobody reads before it looks for it; a node that was taken out reads nothing
            if (
                any(use.node.graph is not None for use in value.uses())
                and tensor is not None
                and tensor.nbytes >= SHARED
                and tensor.dtype in PLAIN
            ):
                held[name], weights[name] = tensor, np.ascontiguousarray(tensor.numpy())
                value.const_value = ir.ExternalTensor(
                    "in memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
                )
        return ir.to_proto(graph).SerializeToString(), weights
    finally:
        for name, tensor in held.items():
            graph.graph.initializers[name].const_value = tensor
