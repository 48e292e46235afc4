"""One node of the graph on its way to TensorFlow Lite operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from hasten.errors import InputError
from hasten.export.tflite_file import Grid
from hasten.graph import walk
from hasten.graph.walk import Array

if TYPE_CHECKING:
    from hasten.export.tflite_writer import Writer

NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
FUSED: dict[tuple[float | None, float | None], int] = {(0.0, None): RELU, (0.0, 6.0): RELU6, (-1.0, 1.0): RELU_N1_TO_1}


@dataclass(frozen=True)
class Rule:
    """How an operator is written.

    ``fuses``: Relu, Clip(0, 6) and Clip(-1, 1) behind it become part of it. ``int8`` says which grid its output has
    when it runs on codes: ``""`` never does, ``"any"``, ``"same"`` as its input, or the scale and zero point of a Grid.
    ``weights`` are the inputs that may be int8 by channel.
    """

    write: Callable[[Step], None]
    fuses: bool = False
    int8: str | Grid = ""
    weights: tuple[int, ...] = ()


@dataclass
class Step:
    """One node on its way to operators."""

    writer: Writer
    node: ir.Node
    rule: Rule
    outs: list[ir.Value] = field(default_factory=list)
    activation: int = NONE
    int8: bool = False
    moves: bool = False  # the input is codes already, and so is the output

    def refuse(self, cause: str) -> InputError:
        """The error for a node that LiteRT cannot run."""
        return self.writer.refuse(self.node, cause)

    def given(self, k: int) -> bool:
        """Is there an input ``k``?"""
        return k < len(self.node.inputs) and self.node.inputs[k] is not None

    def value(self, k: int) -> ir.Value:
        """Input ``k``."""
        value = self.node.inputs[k] if k < len(self.node.inputs) else None
        if value is None:
            raise self.refuse(f"it has no input {k}")
        return value

    def dims(self, k: int = 0) -> list[int | None]:
        """Sizes of input ``k``."""
        return self.writer.dims(self.value(k))

    def size(self, k: int, axis: int) -> int:
        """One size of input ``k``, which must be fixed."""
        found = self.dims(k)[axis]
        if found is None:
            raise self.refuse(f"the size of axis {axis} of {self.value(k).name!r} is free")
        return found

    def attr(self, name: str, default: Any) -> Any:
        """An attribute of the node."""
        return walk.attribute(self.node, name, default)

    def axis(self, default: int) -> int:
        """The attribute ``axis``, counted from the front of the first input."""
        return int(self.attr("axis", default)) % max(1, len(self.dims()))

    def known(self, k: int) -> Array:
        """Input ``k``, which must be a constant."""
        array = walk.constant(self.value(k))
        if array is None:
            raise self.refuse(f"its input {k} ({self.value(k).name!r}) is computed; LiteRT takes a constant")
        return array

    def ints(self, k: int) -> list[int]:
        """Input ``k``, a constant, as integers."""
        return [int(v) for v in self.known(k).reshape(-1)]

    # ------------------------------------------------------------ tensors

    def input(self, k: int) -> int:
        """The tensor of input ``k``: codes where the node runs on them."""
        value = self.value(k)
        if self.moves and k == 0:
            return self.writer.coded[value][0]
        if not self.int8 or not walk.is_float(value):
            return self.writer.real(value)
        stored = self.writer.stored(value)
        return (
            self.writer.file.constant(value.name or "", *stored) if stored is not None else self.writer.codes(value)[0]
        )

    def grid(self, k: int = 0) -> Grid:
        """The grid of input ``k``, when the node runs on codes."""
        if self.moves:
            return self.writer.coded[self.value(k)][1]
        stored = self.writer.stored(self.value(k))
        return stored[1] if stored is not None else self.writer.codes(self.value(k))[1]

    def constant(self, array: Any, grid: Grid | None = None) -> int:
        """A stored tensor."""
        return self.writer.file.constant(f"{self.outs[0].name}/constant", np.asarray(array), grid)

    def int32(self, array: Any) -> int:
        """Axes, sizes and the like, as LiteRT wants them."""
        return self.constant(np.asarray(array, np.int32))

    def index(self, k: int) -> int:
        """Input ``k``, axes or sizes, as int32."""
        return self.as_index(self.value(k))

    def as_index(self, value: ir.Value | None) -> int:
        """A value, axes or sizes, as int32."""
        assert value is not None
        array = walk.constant(value)
        if array is not None:
            return self.int32(np.clip(array, -(1 << 31), (1 << 31) - 1))
        place = self.writer.real(value)
        if value.dtype == ir.DataType.INT32:
            return place
        made = self.writer.file.tensor(f"{value.name}/int32", self.writer.dims(value), "int32")
        self.writer.file.operator("CAST", [place], [made], "", {}, False)
        return made

    def inner(self, shape: Sequence[int | None], dtype: str = "", grid: Grid | None = None) -> int:
        """A tensor between two operators of this node."""
        kind = dtype or ("int8" if self.int8 else "float32")
        return self.writer.file.tensor(f"{self.outs[0].name}/inner", shape, kind, grid if kind == "int8" else None)

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], table: str = "", **options: Any
    ) -> int:
        """An operator between given tensors; returns the first output."""
        self.writer.file.operator(kind, inputs, outputs, table, options, self.int8)
        return outputs[0]

    def plain(self, kind: str, inputs: Sequence[int], shape: Sequence[int], table: str, **options: Any) -> int:
        """An operator on sizes, int32; returns its output."""
        made = self.inner(shape, "int32")
        self.writer.file.operator(kind, inputs, [made], table, options, False)
        return made

    def alias(self) -> None:
        """The output is the input."""
        self.writer.places[self.outs[0]] = self.writer.real(self.value(0))

    def wanted(self) -> Grid:
        """The grid that the readers of the output ask for, when the node runs on codes."""
        grid = self.writer.grid(walk.consumers(self.outs[0])[0][0])
        assert grid is not None
        return grid

    def emit(self, kind: str, inputs: Sequence[int], table: str = "", *, fused: bool = True, **options: Any) -> None:
        """The operator that makes the node's outputs, on codes in the grid that it must have there."""
        outputs, later = [], []
        for value in self.outs:
            if not self.int8:
                outputs.append(self.writer.typed(value))
                continue
            made, fits = self._coded(value, self.grid() if self.rule.int8 == "same" else self.rule.int8)
            outputs.append(made)
            later += [] if fits else [(made, value)]
        if self.rule.fuses and fused:
            options["fusedActivationFunction"] = self.activation
        self.operator(kind, inputs, outputs, table, **options)
        for made, value in later:
            self.operator("QUANTIZE", [made], [self._coded(value, "any")[0]])

    def _coded(self, value: ir.Value, required: str | Grid) -> tuple[int, bool]:
        """A tensor of codes for an output; and whether its grid is the one that its readers want."""
        if self.moves:
            made = self.writer.file.tensor(value.name or "", self.writer.dims(value), "int8", self.grid())
            self.writer.coded[value] = made, self.grid()
            return made, True
        readers = [n for n, _ in walk.consumers(value)]
        wanted = self.writer.grid(readers[0]) if readers else Grid((1.0,), (0,))
        assert wanted is not None
        grid = required if isinstance(required, Grid) and not required.near(wanted) else wanted
        made = self.writer.file.tensor(value.name or "", self.writer.dims(value), "int8", grid)
        if grid is wanted:
            for reader in readers:
                self.writer.coded[reader.outputs[0]] = made, wanted
        return made, grid is wanted


def bounds(node: ir.Node | None) -> tuple[float | None, float | None]:
    """Lower and upper end of Relu or Clip with constant ends; (None, None) for anything else."""
    if node is None or node.domain != "":
        return None, None
    if node.op_type == "Relu":
        return 0.0, None
    if node.op_type != "Clip":
        return None, None
    ends = [node.inputs[k] if k < len(node.inputs) else None for k in (1, 2)]
    low, high = (walk.scalar(v) for v in ends)
    if any(v is not None and n is None for v, n in zip(ends, (low, high), strict=True)):
        return None, None
    limit = float(np.finfo(np.float32).max)
    return (None if low is None or low <= -limit else low), (None if high is None or high >= limit else high)
