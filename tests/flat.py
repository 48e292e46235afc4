"""TensorFlow Lite files of one or a few operators, built with the schema; and what LiteRT makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
pytest.importorskip("ai_edge_litert", reason="needs the extra tflite: pip install 'hasten[tflite]'")

import flatbuffers  # noqa: E402
from ai_edge_litert import schema_py_generated as schema  # noqa: E402

TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "int64": "INT64", "bool": "BOOL", "int8": "INT8",
    "uint8": "UINT8", "int16": "INT16",
}  # fmt: skip


class Flat:
    """A file as it grows. Every method returns the index of a new tensor."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.graph = schema.SubGraphT()
        self.model.version, self.model.subgraphs, self.model.operatorCodes = 3, [self.graph], []
        self.model.buffers = [schema.BufferT()]
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def tensor(
        self,
        shape: Sequence[int | None],
        dtype: str = "float32",
        data: Array | None = None,
        scale: Sequence[float] | float | None = None,
        zero: int = 0,
        axis: int = 0,
        variable: bool = False,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = f"t{len(self.graph.tensors)}"
        tensor.shape = np.array([1 if d is None else d for d in shape], np.int32)
        if None in shape:
            tensor.shapeSignature = np.array([-1 if d is None else d for d in shape], np.int32)
        tensor.type, tensor.isVariable = getattr(schema.TensorType, TYPES[dtype]), variable
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale is not None:
            grid = schema.QuantizationParametersT()
            grid.scale = np.atleast_1d(np.array(scale, np.float32))
            grid.zeroPoint = np.full(grid.scale.size, zero, np.int64)
            grid.quantizedDimension = axis
            tensor.quantization = grid
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def const(self, data: Any, **more: Any) -> int:
        array = np.asarray(data)
        return self.tensor(array.shape, array.dtype.name, array, **more)

    def input(self, shape: Sequence[int | None], dtype: str = "float32", **more: Any) -> int:
        index = self.tensor(shape, dtype, **more)
        self.graph.inputs.append(index)
        return index

    def op(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], table: str = "", **options: Any) -> int:
        """Appends an operator; returns its first output."""
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), 1
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if table:
            values = getattr(schema, f"{table}T")()
            for name, value in options.items():
                assert hasattr(values, name), name
                setattr(values, name, value)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = values
        self.graph.operators.append(operator)
        return outputs[0]

    def version(self, number: int) -> None:
        """The version of the operator added last."""
        self.model.operatorCodes[-1].version = number

    def signature(self, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = "serving_default", 0
        sides = []
        for names in (inputs, outputs):
            maps = []
            for name, index in names.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name, index
                maps.append(entry)
            sides.append(maps)
        made.inputs, made.outputs = sides
        self.model.signatureDefs = [made]

    def bytes(self, *outputs: int) -> bytes:
        self.graph.outputs = list(outputs) or [self.graph.operators[-1].outputs[0]]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def save(self, path: Path, *outputs: int) -> Path:
        path.write_bytes(self.bytes(*outputs))
        return path


def litert(path: Path, feeds: Sequence[Array], *, plain: bool = False) -> list[Array]:
    """LiteRT's answers, by position; ``plain`` without XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    interpreter = Interpreter(str(path), experimental_op_resolver_type=kind)
    for detail, value in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


class Const:
    """Marks an argument that is stored in the file instead of fed."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)


def single(
    path: Path,
    kind: str,
    args: Sequence[Array | Const | None],
    table: str = "",
    *,
    out: Sequence[str] = ("float32",),
    version: int = 1,
    shapes: list[list[int]] | None = None,
    **options: Any,
) -> tuple[Path, list[Array]]:
    """A file with one operator and what to feed it; ``shapes`` of its outputs are asked of LiteRT where it knows."""
    from ai_edge_litert.interpreter import Interpreter

    shapes = [[1]] * len(out) if shapes is None else shapes
    for _ in range(2):
        flat = Flat()
        inputs = [
            -1 if a is None else flat.const(a.array) if isinstance(a, Const) else flat.input(a.shape, a.dtype.name)
            for a in args
        ]
        outputs = [flat.tensor(s, d) for s, d in zip(shapes, out, strict=True)]
        flat.op(kind, inputs, outputs, table, **options)
        flat.version(version)
        flat.save(path, *outputs)
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        feeds = [a for a in args if isinstance(a, np.ndarray)]
        for detail, value in zip(interpreter.get_input_details(), feeds, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        shapes = [list(interpreter.get_tensor(d["index"]).shape) for d in interpreter.get_output_details()]
    return path, feeds
