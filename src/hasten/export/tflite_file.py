"""A TensorFlow Lite file as it is written: tensors, buffers and operators, in the schema's own types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.frontends.tflite_schema import schema
from hasten.quant import grid as quant

Array = NDArray[Any]
LARGEST = 2**31 - 1  # bytes of a flatbuffer
SIGNATURE = "serving_default"
TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "float64": "FLOAT64", "bool": "BOOL", "int8": "INT8", "int16": "INT16",
    "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
}  # fmt: skip
# the versions of operators that take int8; runtimes older than that refuse them by name instead of failing inside
VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "TRANSPOSE_CONV": 3}
UNCHANGED = (
    "RESHAPE",
    "SQUEEZE",
    "EXPAND_DIMS",
    "ELU",
    "HARD_SWISH",
    "GELU",
    "PRELU",
    "QUANTIZE",
    "ARG_MAX",
    "ARG_MIN",
)
LEAST = {"BROADCAST_TO": 2}


@dataclass(frozen=True)
class Grid:
    """Scales and int8 zero points, one or one a slice along ``axis``."""

    scale: tuple[float, ...]
    zero: tuple[int, ...]
    axis: int = 0

    def near(self, other: Grid) -> bool:
        """The same codes mean the same numbers, up to float32's rounding of the scale."""
        same = self.zero == other.zero and len(self.scale) == len(other.scale)
        return same and bool(np.allclose(self.scale, other.scale, rtol=1e-6, atol=0))


def numbers(codes: Array, grid: Grid) -> Array:
    """Codes as float32."""
    if len(grid.scale) == 1:
        return quant.dequantize(codes, grid.scale[0], grid.zero[0])
    return quant.dequantize(codes, grid.scale, grid.zero, grid.axis)


class _Buffer:
    """A stored tensor's bytes, aligned to 16 as the schema asks, which the generated class does not see to."""

    def __init__(self, schema: Any, content: bytes) -> None:
        self.schema, self.data = schema, content

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated classes call it so
        builder.StartVector(1, len(self.data), 16)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        content = builder.EndVector()
        self.schema.BufferStart(builder)
        self.schema.BufferAddData(builder, content)
        return self.schema.BufferEnd(builder)


class FlatFile:
    """One subgraph with one signature. Tensors are known by their index."""

    def __init__(self, producer: str) -> None:
        self.schema = schema()
        self.model, self.graph = self.schema.ModelT(), self.schema.SubGraphT()
        self.model.version, self.model.description, self.model.subgraphs = 3, producer, [self.graph]
        self.model.buffers, self.model.operatorCodes = [self.schema.BufferT()], []
        self.graph.name = "main"
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.stored: dict[tuple[Any, ...], int] = {}
        self.codes: dict[tuple[str, int], int] = {}

    def tensor(self, name: str, shape: Sequence[int | None], dtype: str, grid: Grid | None = None) -> int:
        """A tensor that is fed or computed; None is a free size."""
        tensor = self.schema.TensorT()
        tensor.name, tensor.hasRank, tensor.buffer = name, True, 0
        tensor.shape = np.array([1 if d is None else d for d in shape], np.int32)
        if None in shape:
            tensor.shapeSignature = np.array([-1 if d is None else d for d in shape], np.int32)
        tensor.type = getattr(self.schema.TensorType, TYPES[dtype])
        if grid is not None:
            found = self.schema.QuantizationParametersT()
            found.scale, found.zeroPoint = np.array(grid.scale, np.float32), np.array(grid.zero, np.int64)
            found.quantizedDimension = grid.axis
            tensor.quantization = found
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, array: Array, grid: Grid | None = None) -> int:
        """A stored tensor; equal ones are stored once."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        if array.dtype == ml_dtypes.bfloat16:
            array = array.astype(np.float32)
        content = array.tobytes()
        key = (array.dtype.name, array.shape, grid, sha256(content).digest())
        if key not in self.stored:
            index = self.tensor(name, array.shape, array.dtype.name, grid)
            self.graph.tensors[index].buffer = len(self.model.buffers) if content else 0
            self.model.buffers += [_Buffer(self.schema, content)] if content else []
            self.stored[key] = index
        return self.stored[key]

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        table: str,
        options: Mapping[str, Any],
        int8: bool,
    ) -> None:
        """Append an operator; -1 is an input left out."""
        version = max(LEAST.get(kind, 1), (1 if kind in UNCHANGED else VERSIONS.get(kind, 2)) if int8 else 1)
        if (kind, version) not in self.codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.version = getattr(self.schema.BuiltinOperator, kind), version
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            self.codes[kind, version] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        operator = self.schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes[kind, version], list(inputs), list(outputs)
        if table:
            values = getattr(self.schema, f"{table}T")()
            for name, value in options.items():
                assert hasattr(values, name), f"{table} has no {name}"
                setattr(values, name, value)
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, table)
            operator.builtinOptions = values
        self.graph.operators.append(operator)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file's bytes.

        Raises:
            InputError: the weights do not fit into one flatbuffer.
        """
        import flatbuffers

        size = sum(len(b.data) for b in self.model.buffers if b.data is not None)
        if size > LARGEST - (1 << 20):
            raise InputError(
                f"the weights take {size} bytes",
                cause="a TensorFlow Lite file ends at 2 GiB",
                help="quantize them, or use another engine",
            )
        self.graph.inputs, self.graph.outputs = list(inputs.values()), list(outputs.values())
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = SIGNATURE, 0
        made.inputs, made.outputs = self._maps(inputs), self._maps(outputs)
        self.model.signatureDefs = [made]
        builder = flatbuffers.Builder(size + (1 << 16))
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _maps(self, named: Mapping[str, int]) -> list[Any]:
        found = []
        for name, index in named.items():
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            found.append(entry)
        return found
