"""The ONNX graph that grows out of a TensorFlow Lite file, tensor by tensor.

Each tensor of the file has two faces: ``code`` is it as the file types it, ``real`` the numbers that it stands for.
For floats they are one value; for int8 a DequantizeLinear lies between them:

    int8 ADD    =>    code -> DQ -> Add <- DQ <- code,  Add -> Q -> code

Computed int8 codes are held as uint8, 128 higher: the same numbers, and what runtimes on x86 have kernels for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.errors import InputError
from hasten.frontends.tflite_file import Array, File, Tensor, number_type
from hasten.graph import edit

OPSET, IR_VERSION = 21, 10
SMALL = 256  # bytes
EXPORT = "export it to ONNX from the framework that it was trained in"


@dataclass
class Builder:
    """The ONNX graph as it grows."""

    file: File
    nodes: list[ir.Node] = field(default_factory=list)
    constants: dict[Any, ir.Value] = field(default_factory=dict)
    codes: dict[int, ir.Value] = field(default_factory=dict)
    reals: dict[int, ir.Value] = field(default_factory=dict)
    stored: dict[Any, ir.Value] = field(default_factory=dict)  # constants of the file as operators read them
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.taken.update(name for name, _ in (*self.file.inputs, *self.file.outputs))
        for name, index in self.file.inputs:
            tensor = self.file.tensors[index]
            self.codes[index] = self.typed(tensor, ir.Value(name=name))

    def typed(self, tensor: Tensor, value: ir.Value) -> ir.Value:
        """``value`` with the tensor's shape and type; what is free on axis 0 is the batch."""
        names = ["batch" if i == 0 else f"{value.name}_{i}" for i in range(len(tensor.dims))]
        value.shape = ir.Shape([n if d is None else d for n, d in zip(names, tensor.dims, strict=True)])
        value.type = ir.TensorType(onnx_type(tensor.dtype))
        return value

    def fixed(self, array: Array, name: str = "constant") -> ir.Value:
        """A stored constant; equal ones are stored once."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes() if array.nbytes <= SMALL else object())
        if key not in self.constants:
            tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=edit.fresh(self.taken, name))
            self.constants[key] = ir.Value(
                name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
        return self.constants[key]

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value | None], name: str, outputs: int = 1, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """A node behind all others; attributes that are None are left out."""
        values = tuple(ir.Value(name=edit.fresh(self.taken, f"{name}/{op_type.lower()}")) for _ in range(outputs))
        given = {k: v for k, v in attributes.items() if v is not None}
        node = ir.node(op_type, inputs, given, outputs=values, name=values[0].name)
        self.nodes.append(node)
        return values

    def real(self, index: int) -> ir.Value:
        """A computed tensor as numbers."""
        if index not in self.reals:
            tensor, code = self.file.tensors[index], self.codes[index]
            if tensor.quantized:
                if code.producer() is None and tensor.dtype == "int8":
                    code = self.rounded(self.dequantized(tensor, code, "int8"), tensor, "uint8")
                code = self.dequantized(tensor, code, _held(tensor))
            elif tensor.dtype in ("float16", "bfloat16"):
                code = self.emit("Cast", [code], tensor.name, to=ir.DataType.FLOAT.value)[0]
            self.reals[index] = code
        return self.reals[index]

    def rounded(self, value: ir.Value, tensor: Tensor, kind: str) -> ir.Value:
        """Numbers to the codes of a tensor."""
        return self.emit("QuantizeLinear", [value, *self.grid(tensor, kind)], tensor.name, **_axis(tensor))[0]

    def dequantized(self, tensor: Tensor, code: ir.Value, kind: str) -> ir.Value:
        """Codes of a tensor to numbers."""
        return self.emit("DequantizeLinear", [code, *self.grid(tensor, kind)], tensor.name, **_axis(tensor))[0]

    def grid(self, tensor: Tensor, kind: str) -> list[ir.Value]:
        """Scale and zero point of a quantized tensor for codes of type ``kind``."""
        grid = tensor.quantization
        assert grid is not None
        zero = (grid.zero + (128 if (tensor.dtype, kind) == ("int8", "uint8") else 0)).astype(kind)
        pair = (grid.scale, zero) if grid.per_axis else (grid.scale[0], zero[0])
        return [self.fixed(a, f"{tensor.name}/{n}") for a, n in zip(pair, ("scale", "zero"), strict=True)]

    def bind(self, index: int, value: ir.Value, fresh: bool) -> None:
        """``value`` are the numbers of tensor ``index``; a ``fresh`` one takes its name."""
        tensor = self.file.tensors[index]
        if tensor.quantized:
            self.codes[index] = self.rounded(value, tensor, _held(tensor))
            self.codes[index].name = edit.fresh(self.taken, tensor.name)
            return
        if tensor.dtype in ("float16", "bfloat16"):
            value, fresh = self.emit("Cast", [value], tensor.name, to=onnx_type(tensor.dtype).value)[0], True
        if fresh:
            value.name = edit.fresh(self.taken, tensor.name)
        self.codes[index] = value
        if tensor.dtype not in ("float16", "bfloat16"):
            self.reals[index] = value

    def model(self) -> ir.Model:
        """The graph, its outputs under their public names."""
        outputs: list[ir.Value] = []
        for name, index in self.file.outputs:
            tensor = self.file.tensors[index]
            source = self.fixed(tensor.data) if tensor.data is not None else self.codes[index]
            if source.producer() is not None and tensor.quantized and tensor.dtype == "int8":
                source = self.rounded(self.real(index), tensor, "int8")
            if source.producer() is None or source in outputs:  # an input or a constant handed through
                source = self.emit("Identity", [source], name)[0]
            outputs.append(self.typed(tensor, source))
            source.name = name
        graph = ir.Graph(
            [self.codes[index] for _, index in self.file.inputs],
            outputs,
            nodes=self.nodes,
            initializers=list(self.constants.values()),
            opset_imports={"": OPSET},
            name="tflite",
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name=self.file.producer or "tflite")


def _held(tensor: Tensor) -> str:
    """The type in which computed codes are held."""
    return "uint8" if tensor.dtype == "int8" else tensor.dtype


def _axis(tensor: Tensor) -> dict[str, int]:
    grid = tensor.quantization
    return {"axis": grid.axis} if grid is not None and grid.per_axis else {}


def onnx_type(dtype: str) -> ir.DataType:
    try:
        return ir.DataType.from_numpy(number_type(dtype))
    except TypeError as fault:
        raise InputError(
            f"a tensor of type {dtype} takes part in the computation",
            cause="only numbers can be translated",
            help=EXPORT,
        ) from fault
