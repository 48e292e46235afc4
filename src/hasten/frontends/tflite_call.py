"""What the function of a TensorFlow Lite operator reads from, and what it writes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.errors import InputError
from hasten.frontends.tflite_file import CODES, Array, File, Operator, Tensor, number_type, numbers
from hasten.frontends.tflite_graph import EXPORT, Builder, onnx_type

Translate = Callable[["Call"], "ir.Value | Sequence[ir.Value]"]
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
DAMAGED = "the file is damaged: convert it again"


@dataclass(frozen=True)
class Call:
    """One operator on its way to ONNX."""

    builder: Builder
    operator: Operator

    def refuse(self, cause: str, advice: str = EXPORT) -> InputError:
        """The error for an operator that cannot be translated; ``cause`` says why."""
        what = f"operator {self.operator.index} ({self.operator.kind}) of {self.builder.file.path}"
        return InputError(f"{what} cannot be translated", cause=cause, help=advice)

    @property
    def integer(self) -> bool:
        """True when the operator computes on codes: then constants stay codes too."""
        tensors = self.builder.file.tensors
        found = (tensors[i] for i in (*self.operator.inputs, *self.operator.outputs) if i >= 0)
        return any(t.quantized and t.data is None for t in found)

    def given(self, k: int) -> bool:
        """Is there an input ``k``?"""
        return k < len(self.operator.inputs) and self.operator.inputs[k] >= 0

    def tensor(self, k: int) -> Tensor:
        """Input ``k`` as the file describes it."""
        if not self.given(k):
            raise self.refuse(f"it has no input {k}", DAMAGED)
        return self.builder.file.tensors[self.operator.inputs[k]]

    def out(self, k: int = 0) -> Tensor:
        """Output ``k`` as the file describes it."""
        if k >= len(self.operator.outputs):
            raise self.refuse(f"it has no output {k}", DAMAGED)
        return self.builder.file.tensors[self.operator.outputs[k]]

    def rank(self, k: int = 0) -> int:
        """Axes of input ``k``."""
        return len(self.tensor(k).shape)

    def real(self, k: int, perm: Sequence[int] | None = None) -> ir.Value:
        """Input ``k`` as numbers, its axes in the order ``perm``; that of a constant is settled here."""
        return self._numbers(k, perm, as_weights=False)

    def weights(self, k: int, perm: Sequence[int] | None = None) -> ir.Value:
        """The same for what activations are multiplied with: int8 codes stay signed."""
        return self._numbers(k, perm, as_weights=True)

    def _numbers(self, k: int, perm: Sequence[int] | None, as_weights: bool) -> ir.Value:
        tensor = self.tensor(k)
        if tensor.data is None:
            value = self.builder.real(tensor.index)
            return value if perm is None else self.emit("Transpose", value, perm=list(perm))
        order = list(range(len(tensor.shape))) if perm is None else list(perm)
        if sorted(order) != list(range(len(tensor.shape))):
            raise self.refuse(f"input {k} has the shape {list(tensor.shape)}", DAMAGED)
        key = (tensor.index, tuple(order), self.integer, as_weights)
        if key not in self.builder.stored:
            self.builder.stored[key] = self._stored(tensor, order, as_weights)
        return self.builder.stored[key]

    def _stored(self, tensor: Tensor, order: list[int], as_weights: bool) -> ir.Value:
        grid, array = tensor.quantization, np.asarray(tensor.data).transpose(order)
        axis = order.index(grid.axis) if grid is not None and grid.per_axis else 0
        if grid is None or not self.integer or tensor.dtype not in (*CODES, "int32"):
            return self.builder.fixed(numbers(array, grid, axis), tensor.name)
        if tensor.dtype == "int8" and not as_weights:
            array = (array.astype(np.int16) + 128).astype(np.uint8)
        codes = self.builder.fixed(array, f"{tensor.name}/{array.dtype.name}")
        inputs = [codes, *self.builder.grid(tensor, array.dtype.name)]
        along = {"axis": axis} if grid.per_axis else {}
        return self.builder.emit("DequantizeLinear", inputs, tensor.name, **along)[0]

    def code(self, k: int) -> ir.Value:
        """Input ``k`` as the file types it: indices, conditions, anything that is moved and not computed with."""
        tensor = self.tensor(k)
        return self.builder.codes[tensor.index] if tensor.data is None else self.fixed(tensor.data)

    def index(self, k: int) -> ir.Value:
        """Input ``k``, axes or sizes, as int64, which is what ONNX wants."""
        tensor = self.tensor(k)
        if tensor.data is not None:
            return self.fixed(tensor.data.astype(np.int64))
        return self.emit("Cast", self.code(k), to=ir.DataType.INT64.value)

    def shaped(self, k: int, shape: Sequence[int], *, index: bool = False) -> ir.Value:
        """Input ``k``, of one element, as a scalar (``[]``) or a vector (``[1]``)."""
        if self.tensor(k).data is not None:
            array = self.known(k)
            return self.fixed((array.astype(np.int64) if index else array).reshape(shape))
        value = self.index(k) if index else self.real(k)
        return self.emit("Reshape", value, self.fixed(np.array(shape, np.int64)))

    def known(self, k: int) -> Array:
        """Input ``k``, which must be a constant, as numbers."""
        tensor = self.tensor(k)
        if tensor.data is None:
            raise self.refuse(f"its input {k} ({tensor.name!r}) is computed; only a constant can be translated")
        return numbers(tensor.data, tensor.quantization)

    def ints(self, k: int) -> list[int]:
        """Input ``k``, a constant, as integers."""
        self.known(k)
        return [int(v) for v in np.asarray(self.tensor(k).data).reshape(-1)]

    def axis(self, k: int, rank: int) -> int:
        """Input ``k``, a constant, as one axis counted from the front."""
        found = self.ints(k)
        if len(found) != 1:
            raise self.refuse(f"its input {k} holds {len(found)} axes instead of one", DAMAGED)
        return self.within(found[0], rank)

    def within(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            raise self.refuse(f"axis {axis} of a tensor of {rank} axes", DAMAGED)
        return axis % rank if rank else 0

    def option(self, name: str, default: Any) -> Any:
        """A field of the operator's options."""
        return getattr(self.operator.options, name, default)

    def positive(self, name: str, default: int = 1) -> int:
        """A field that must be above 0: a stride, a block, a size."""
        value = int(self.option(name, default))
        if not 0 < value < 1 << 31:
            raise self.refuse(f"its {name} is {value}", DAMAGED)
        return value

    def fixed(self, array: Any) -> ir.Value:
        """A constant of this operator's own."""
        return self.builder.fixed(np.asarray(array), f"{self.out().name}/constant")

    def emit(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node with one output."""
        return self.builder.emit(op_type, inputs, self.out().name, **attributes)[0]

    def emit_many(self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> list[ir.Value]:
        """A node with several outputs."""
        return list(self.builder.emit(op_type, inputs, self.out().name, outputs, **attributes))

    def as_declared(self, value: ir.Value, k: int = 0) -> ir.Value:
        """int64 results in the type that the file gives them."""
        kind = onnx_type(self.out(k).dtype)
        return value if kind == ir.DataType.INT64 else self.emit("Cast", value, to=kind.value)

    def clip(self, value: ir.Value, low: float | None, high: float | None) -> ir.Value:
        """Clamp, in the numbers' own type."""
        kind = "float32" if self.out().quantized else self.out().dtype
        if low == 0 and high is None:
            return self.emit("Relu", value)
        ends = [None if end is None else self.fixed(np.asarray(end, number_type(kind))) for end in (low, high)]
        return self.emit("Clip", value, *ends)

    def activated(self, value: ir.Value) -> ir.Value:
        """``value`` behind the activation that is fused into the operator."""
        number = self.option("fusedActivationFunction", 0)
        kind = ACTIVATIONS[number] if 0 <= number < len(ACTIVATIONS) else str(number)
        if kind == "NONE":
            return value
        if kind not in ("RELU", "RELU6", "RELU_N1_TO_1"):
            raise self.refuse(f"its fused activation is {kind}, which LiteRT itself leaves out")
        return self.clip(value, -1 if kind == "RELU_N1_TO_1" else 0, {"RELU6": 6, "RELU_N1_TO_1": 1}.get(kind))


def translate(file: File, table: Mapping[str, Translate]) -> tuple[ir.Model, dict[int, ir.Value]]:
    """The network as an ONNX graph, channels last as the file has it; and the value of each tensor by its index.

    Raises:
        InputError: an operator is not in ``table``, or is one that its function cannot translate.
    """
    missing = [f"{o.kind} (operator {o.index})" for o in file.operators if o.kind not in table]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise InputError(
            f"{file.path} uses operators that are not translated: {', '.join(missing[:8])}{more}",
            cause="docs/tflite.md lists those that are",
            help=EXPORT,
        )
    builder = Builder(file)
    for operator in file.operators:
        call, before = Call(builder, operator), len(builder.nodes)
        try:
            results = table[operator.kind](call)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as fault:
            raise call.refuse(f"{type(fault).__name__}: {fault}"[:200], DAMAGED) from fault
        results = [results] if isinstance(results, ir.Value) else list(results)
        made = {v for node in builder.nodes[before:] for v in node.outputs}
        for index, value in zip(operator.outputs, results, strict=False):
            builder.bind(index, value, value in made)
    return builder.model(), builder.codes
