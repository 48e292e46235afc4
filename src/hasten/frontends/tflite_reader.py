"""From the bytes of a TensorFlow Lite file to checked values.

The flatbuffer reader for Python verifies nothing, so every count, index, offset, shape and scale is checked here,
against the file's own size, before it is used. Behind this module nobody touches the flatbuffer again.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.frontends.tflite_file import Array, File, Operator, Quantization, Tensor, number_type
from hasten.frontends.tflite_schema import names_of, schema, text

MAGIC, MAGIC_AT = b"TFL3", 4
VERSION = 3
MOST = 5_000_000  # tensors or operators
LARGEST = 1 << 40  # bytes of one tensor, fed or computed
AGAIN = "convert it again with a current converter"
_DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "FLOAT64": "float64", "BOOL": "bool",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "INT4": "int4",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip
_DAMAGE = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError, KeyError)


def read(path: Path) -> File:
    """Parse and check a file.

    Raises:
        InputError: it is no TensorFlow Lite file, is damaged, or holds something that has no place in a network.
        EnvironmentFault: LiteRT, which ships the schema, is not installed.
    """
    data = path.read_bytes()
    if data[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
        raise InputError(f"{path} is not a TensorFlow Lite file", cause="it lacks the mark TFL3", help="check the file")
    module = schema()
    try:
        return _Reader(str(path), data, module).file()
    except _DAMAGE as fault:  # the generated reader raises whatever it meets
        cause = f"{type(fault).__name__}: {fault}"[:200]
        raise InputError(f"{path} is damaged", cause=cause, help=AGAIN) from fault


class _Reader:
    def __init__(self, path: str, data: bytes, schema: Any) -> None:
        self.path, self.data, self.schema = path, data, schema
        self.model = schema.Model.GetRootAs(data, 0)
        self.types = names_of(schema.TensorType)
        self.kinds = names_of(schema.BuiltinOperator)

    def refuse(self, what: str, cause: str, advice: str = AGAIN) -> InputError:
        return InputError(f"{self.path}: {what}", cause=cause, help=advice)

    def count(self, what: str, length: int, most: int = MOST) -> int:
        """``length`` if the file has room for so many entries of four bytes."""
        if not 0 <= length <= min(most, len(self.data) // 4):
            raise self.refuse(f"it claims {length} {what}", f"a file of {len(self.data)} bytes has no room for them")
        return length

    def items(self, what: str, length: int, item: Callable[[int], Any]) -> Iterator[Any]:
        for i in range(self.count(what, length)):
            found = item(i)
            if found is None:
                raise self.refuse(f"entry {i} of its {what} is missing", "the file is damaged")
            yield found

    def ints(self, what: str, array: Any) -> tuple[int, ...]:
        """A vector of integers; numpy has checked that it lies inside the file."""
        found = [] if isinstance(array, int) else np.asarray(array).tolist()
        self.count(what, len(found))
        return tuple(int(v) for v in found)

    def file(self) -> File:
        model = self.model
        if model.Version() != VERSION:
            raise self.refuse(f"schema version {model.Version()}", f"only version {VERSION} is known")
        graphs = list(self.items("subgraphs", model.SubgraphsLength(), model.Subgraphs))
        if not graphs:
            raise self.refuse("it holds no subgraph", "there is no network in it")
        buffers = list(self.items("buffers", model.BuffersLength(), model.Buffers))
        main = graphs[0]
        listed = self.items("tensors", main.TensorsLength(), main.Tensors)
        tensors = tuple(self.tensor(i, t, buffers) for i, t in enumerate(listed))
        kinds = [self.kind(c) for c in self.items("operator codes", model.OperatorCodesLength(), model.OperatorCodes)]
        table = self.items("operators", main.OperatorsLength(), main.Operators)
        operators = tuple(self.operator(i, o, kinds, len(tensors)) for i, o in enumerate(table))
        inputs, outputs = (
            self.indices("graph", v, len(tensors)) for v in (main.InputsAsNumpy(), main.OutputsAsNumpy())
        )
        computed = {*inputs, *(i for o in operators for i in o.outputs)}
        tensors = tuple(t if t.index in computed else _empty(t) for t in tensors)
        self.order(tensors, operators, inputs, outputs)
        named = self.names(tensors, inputs, outputs)
        return File(self.path, tensors, operators, *named, text(model.Description()))

    def tensor(self, index: int, table: Any, buffers: Sequence[Any]) -> Tensor:
        name = text(table.Name()) or f"tensor_{index}"
        kind = self.types.get(table.Type(), str(table.Type()))
        shape = self.ints("dimensions", table.ShapeAsNumpy())
        signature = self.ints("dimensions", table.ShapeSignatureAsNumpy())
        signature = signature if len(signature) == len(shape) else shape
        if not 0 <= table.Buffer() < max(1, len(buffers)):
            raise self.refuse(f"tensor {name!r} lies in buffer {table.Buffer()}", f"the file has {len(buffers)}")
        if table.Sparsity() is not None or table.ExternalBuffer():
            raise self.refuse(f"tensor {name!r} is sparse or lies in another file", "only dense tensors are read")
        if any(d < 0 for d in shape) or math.prod(shape) * 8 > LARGEST:
            raise self.refuse(f"tensor {name!r} has the shape {list(shape)[:8]}", "it is negative or beyond all memory")
        content = self.content(name, buffers[table.Buffer()]) if buffers else None
        dtype = _DTYPES.get(kind, "")
        if not dtype:
            if content is not None:
                raise self.refuse(f"constant {name!r} is of type {kind}", "only numbers are read")
            dtype = kind
        data = None if content is None else self.constant(name, content, shape, dtype)
        dims = tuple(None if s < 0 else d for s, d in zip(signature, shape, strict=True)) if data is None else shape
        grid = self.quantization(name, table.Quantization(), shape, dtype)
        return Tensor(index, name, shape, dims, dtype, data, grid, bool(table.IsVariable()))

    def content(self, name: str, buffer: Any) -> NDArray[np.uint8] | None:
        """A constant's bytes: inside the flatbuffer, or behind it in files above 2 GiB."""
        if buffer.Offset() > 1:
            start, size = buffer.Offset(), buffer.Size()
            if start + size > len(self.data):
                raise self.refuse(f"the data of {name!r} lies at {start}", f"the file ends at {len(self.data)}")
            return np.frombuffer(self.data, np.uint8, size, start)
        return None if buffer.DataIsNone() or buffer.DataLength() == 0 else np.asarray(buffer.DataAsNumpy(), np.uint8)

    def constant(self, name: str, content: NDArray[np.uint8], shape: tuple[int, ...], dtype: str) -> Array:
        size = math.prod(shape)
        wanted = (size + 1) // 2 if dtype == "int4" else size * number_type(dtype).itemsize
        if content.size < wanted:
            cause = f"{list(shape)} of {dtype} take {wanted} bytes, the file holds {content.size}"
            raise self.refuse(f"constant {name!r} is cut short", cause)
        content = content[:wanted]
        if dtype == "int4":  # two to a byte, the low half first, in two's complement
            halves = np.stack([content & 15, content >> 4], 1).reshape(-1)[:size].astype(np.int8)
            return np.where(halves > 7, halves - 16, halves).astype(np.int8).reshape(shape)
        return content.view(number_type(dtype)).reshape(shape)

    def quantization(self, name: str, table: Any, shape: tuple[int, ...], dtype: str) -> Quantization | None:
        if table is None or table.ScaleLength() == 0 or dtype.startswith(("float", "bfloat")):
            return None
        self.count("scales", table.ScaleLength())
        scale = np.asarray(table.ScaleAsNumpy(), np.float32)
        zero = np.zeros(scale.size, np.int64)
        if table.ZeroPointLength() > 0:
            zero = np.asarray(table.ZeroPointAsNumpy(), np.int64)
        axis = table.QuantizedDimension()
        if zero.size == 1:
            zero = np.repeat(zero, scale.size)
        fits = scale.size == 1 or (0 <= axis < len(shape) and scale.size == shape[axis])
        if not fits or zero.size != scale.size:
            cause = f"{scale.size} scales, {zero.size} zero points, axis {axis} of {list(shape)}"
            raise self.refuse(f"the quantization of {name!r} does not fit its shape", cause)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise self.refuse(f"a scale of {name!r} is not above zero", f"the smallest is {scale.min()}")
        low, high = (-8, 7) if dtype == "int4" else (int(v) for v in _limits(dtype))
        if zero.min() < low or zero.max() > high:
            raise self.refuse(f"a zero point of {name!r} is no {dtype}", f"they go from {zero.min()} to {zero.max()}")
        return Quantization(scale, zero, axis if scale.size > 1 else 0)

    def kind(self, code: Any) -> str:
        """The operator's name; files of old converters use only the deprecated byte."""
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self.kinds.get(number, f"operator code {number}")
        return f"CUSTOM {text(code.CustomCode())}" if name == "CUSTOM" else name

    def operator(self, index: int, table: Any, kinds: Sequence[str], tensors: int) -> Operator:
        if not 0 <= table.OpcodeIndex() < len(kinds):
            raise self.refuse(f"operator {index} has code {table.OpcodeIndex()}", f"the file lists {len(kinds)}")
        what = f"operator {index} ({kinds[table.OpcodeIndex()]})"
        inputs, outputs = (
            self.indices(what, v, tensors, optional=optional)
            for v, optional in ((table.InputsAsNumpy(), True), (table.OutputsAsNumpy(), False))
        )
        options: Any = SimpleNamespace()
        if table.BuiltinOptions() is not None:
            creator = self.schema.BuiltinOptionsCreator(table.BuiltinOptionsType(), table.BuiltinOptions())
            options = options if creator is None else creator
        return Operator(index, kinds[table.OpcodeIndex()], inputs, outputs, options)

    def indices(self, what: str, array: Any, tensors: int, *, optional: bool = False) -> tuple[int, ...]:
        found = self.ints("indices", array)
        for i in found:
            if not (-1 if optional else 0) <= i < tensors:
                raise self.refuse(f"{what} refers to tensor {i}", f"the file has {tensors}")
        return found

    def order(
        self,
        tensors: Sequence[Tensor],
        operators: Sequence[Operator],
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
    ) -> None:
        """Operators run in the order of the file: each tensor is written once, before it is read."""
        known = {t.index for t in tensors if t.data is not None or t.variable}
        if known & set(inputs) or len(set(inputs)) != len(inputs):
            raise self.refuse("a graph input is a constant or listed twice", "the file is damaged")
        known |= set(inputs)
        for operator in operators:
            what = f"operator {operator.index} ({operator.kind})"
            for i in operator.inputs:
                if i >= 0 and i not in known:
                    raise self.refuse(f"{what} reads tensor {tensors[i].name!r}", "nothing before it writes that")
            if known & set(operator.outputs) or len(set(operator.outputs)) != len(operator.outputs):
                raise self.refuse(f"{what} writes a tensor that exists already", "the file is damaged")
            known |= set(operator.outputs)
        for i in outputs:
            if i not in known:
                raise self.refuse(f"output {tensors[i].name!r} is written by no operator", "the file is damaged")

    def names(
        self, tensors: Sequence[Tensor], inputs: Sequence[int], outputs: Sequence[int]
    ) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]:
        """The names of the first signature of the main subgraph where it covers all; else those of the tensors."""
        model = self.model
        found: list[dict[int, str]] = [{}, {}]
        for signature in self.items("signatures", model.SignatureDefsLength(), model.SignatureDefs):
            if signature.SubgraphIndex() == 0:
                sides = ((signature.InputsLength(), signature.Inputs), (signature.OutputsLength(), signature.Outputs))
                found = [
                    {m.TensorIndex(): text(m.Name()) for m in self.items("names", *s) if text(m.Name())} for s in sides
                ]
                break
        both = zip(found, (inputs, outputs), strict=True)
        listed = _distinct([(known.get(i) or tensors[i].name, i) for known, side in both for i in side])
        return listed[: len(inputs)], listed[len(inputs) :]


def _empty(tensor: Tensor) -> Tensor:
    """A constant without elements has no bytes, and so looks like one that is computed."""
    if 0 not in tensor.shape or tensor.data is not None or tensor.dtype not in _DTYPES.values():
        return tensor
    return replace(tensor, data=np.zeros(tensor.shape, number_type(tensor.dtype)), dims=tensor.shape)


def _distinct(named: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Names made distinct by a number."""
    seen: set[str] = set()
    found = []
    for name, index in named:
        candidate, n = name, 0
        while candidate in seen:
            n += 1
            candidate = f"{name}_{n}"
        seen.add(candidate)
        found.append((candidate, index))
    return tuple(found)


def _limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(np.int64 if dtype == "bool" else dtype)
    return int(info.min), int(info.max)
