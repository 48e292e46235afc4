"""From ONNX nodes to TensorFlow Lite operators: what the function of each operator reads from and writes to.

A value that DequantizeLinear makes is known by its codes too. A node runs on codes when all that it reads is
dequantized and all that reads its output quantizes it; what lies between is one int8 operator:

    DQ -> Conv(DQ(W), DQ(b)) -> Relu -> Q    =>    CONV_2D int8, with the activation fused
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from hasten.errors import InputError
from hasten.export.tflite_file import FlatFile, Grid, numbers
from hasten.export.tflite_step import FUSED, NONE, Rule, Step, bounds
from hasten.graph import walk
from hasten.graph.walk import Array

ADVICE = "use another engine for this network, or export it without that operator"
STATE = "LiteRT's recurrent operators keep their state from one call to the next, and a file cannot reset it"
WHY_NOT = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), STATE),
    **dict.fromkeys(("If", "Loop", "Scan"), "control flow is not written"),
    "Erf": "LiteRT has the error function only inside GELU",
}


@dataclass
class Writer:
    """The file as it grows, and where each value of the graph lies in it."""

    graph: ir.Graph
    file: FlatFile
    rules: Mapping[tuple[str, str], Rule]
    places: dict[ir.Value, int] = field(default_factory=dict)
    coded: dict[ir.Value, tuple[int, Grid]] = field(default_factory=dict)
    written: set[ir.Node] = field(default_factory=set)

    def refuse(self, node: ir.Node, cause: str) -> InputError:
        """The error for a node that LiteRT cannot run; ``cause`` says why."""
        name = node.name or node.outputs[0].name or ""
        return InputError(f"LiteRT cannot run {node.op_type} {name!r}", cause=cause, help=ADVICE)

    def run(self) -> bytes:
        """Write all nodes, and the file."""
        inputs = {v.name or "": self.typed(v) for v in self.graph.inputs if v.name not in self.graph.initializers}
        for node in self.graph:
            if node in self.written or node.op_type == "DequantizeLinear":
                continue
            if node.op_type == "QuantizeLinear":
                self.quantize(node)
                continue
            rule = self.rules.get((node.domain.removeprefix("ai.onnx"), node.op_type))
            if rule is None:
                raise self.refuse(node, WHY_NOT.get(node.op_type, "there is no operator for it"))
            rule.write(self.step(node, rule))
        outputs: dict[str, int] = {}
        for value in self.graph.outputs:
            place = self.coded_output(value) if value in self.coded else self.real(value)
            outputs[value.name or ""] = place
            if value.producer() is not None and list(outputs.values()).count(place) == 1:
                self.file.graph.tensors[place].name = value.name
        return self.file.finish(inputs, outputs)

    # ------------------------------------------------------------ values

    def dims(self, value: ir.Value) -> list[int | None]:
        """Sizes, None where free."""
        if value.shape is None:
            node = value.producer()
            assert node is not None
            raise self.refuse(node, f"the number of axes of its output {value.name!r} is not known")
        return [d if isinstance(d, int) else None for d in value.shape]

    def typed(self, value: ir.Value, dtype: str = "") -> int:
        """A new tensor for a value, as the graph types it."""
        if value.type is None:
            raise self.refuse(_maker(value), f"the type of its output {value.name!r} is not known")
        kind = dtype or value.type.dtype.numpy().name
        self.places[value] = self.file.tensor(value.name or "", self.dims(value), kind)
        return self.places[value]

    def real(self, value: ir.Value) -> int:
        """The tensor that holds a value as the graph types it."""
        if value in self.places:
            return self.places[value]
        array = walk.constant(value)
        if array is not None:
            return self.file.constant(value.name or "", array)
        node = value.producer()
        if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
            raise self.refuse(_maker(value), f"its output {value.name!r} is not computed before it is read")
        stored = self.stored(value)
        if stored is not None:
            self.places[value] = self.file.constant(value.name or "", numbers(*stored))
        else:
            source, _ = self.codes(value)
            self.file.operator("DEQUANTIZE", [source], [self.typed(value, "float32")], "", {}, True)
        return self.places[value]

    def codes(self, value: ir.Value) -> tuple[int, Grid]:
        """The int8 tensor behind the DequantizeLinear that makes ``value``."""
        node = value.producer()
        assert node is not None
        source = node.inputs[0]
        assert source is not None
        if source not in self.coded:  # a graph input of codes
            grid = self.grid(node)
            index = self.real(source)
            kind = source.dtype.numpy().name if source.dtype is not None else ""
            if grid is None or kind not in ("int8", "uint8"):
                raise self.refuse(node, f"codes of type {kind} are not written")
            shifted = Grid(grid.scale, tuple(z + 128 for z in grid.zero)) if kind == "uint8" else grid
            self._mark(index, shifted)
            if kind == "uint8":
                made = self.file.tensor(f"{source.name}/int8", self.dims(source), "int8", grid)
                self.file.operator("QUANTIZE", [index], [made], "", {}, True)
                index = made
            self.coded[source] = index, grid
        return self.coded[source]

    def _mark(self, index: int, grid: Grid) -> None:
        """Scale and zero point on a tensor that was made without."""
        found = self.file.schema.QuantizationParametersT()
        found.scale, found.zeroPoint = np.array(grid.scale, np.float32), np.array(grid.zero, np.int64)
        self.file.graph.tensors[index].quantization = found

    def coded_output(self, value: ir.Value) -> int:
        """A graph output of codes, in the type that the graph gives it."""
        index, grid = self.coded[value]
        if value.dtype != ir.DataType.UINT8:
            return index
        made = self.file.tensor(
            value.name or "", self.dims(value), "uint8", Grid(grid.scale, tuple(z + 128 for z in grid.zero))
        )
        self.file.operator("QUANTIZE", [index], [made], "", {}, True)
        return made

    def grid(self, node: ir.Node) -> Grid | None:
        """Scale and zero point of a Q or DQ, its codes counted as int8; None when they are not eight bits wide."""
        scale, zero = walk.constant(node.inputs[1]), None
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            zero = walk.constant(node.inputs[2])
            if zero is None:
                return None
        if scale is None:
            return None
        zero = np.zeros(scale.shape, np.uint8) if zero is None else zero
        if zero.dtype not in (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32)):
            return None
        zeros = zero.astype(np.int64).reshape(-1) - (128 if zero.dtype == np.uint8 else 0)
        rank = walk.rank(node.inputs[0]) or 1
        axis = walk.attribute(node, "axis", 1) % rank if scale.size > 1 else 0
        return Grid(tuple(float(s) for s in scale.reshape(-1)), tuple(int(z) for z in zeros), axis)

    def stored(self, value: ir.Value | None) -> tuple[Array, Grid] | None:
        """Codes and grid of a constant behind a DequantizeLinear, uint8 shifted to int8."""
        node = value.producer() if value is not None else None
        codes = walk.constant(node.inputs[0]) if node is not None and node.op_type == "DequantizeLinear" else None
        grid = self.grid(node) if node is not None and codes is not None else None
        if codes is None or grid is None:
            return None
        return ((codes.astype(np.int16) - 128).astype(np.int8) if codes.dtype == np.uint8 else codes), grid

    # ------------------------------------------------------------ integers

    def quantize(self, node: ir.Node) -> None:
        """A QuantizeLinear that no operator took in."""
        source, grid = node.inputs[0], self.grid(node)
        assert source is not None
        if grid is None or len(grid.scale) != 1:
            raise self.refuse(node, "LiteRT rounds activations to eight bits with one scale")
        before = source.producer()
        if before is not None and before.op_type == "DequantizeLinear" and walk.constant(before.inputs[0]) is None:
            index, own = self.codes(source)
            if own.near(grid):
                self.coded[node.outputs[0]] = index, own
                return
        else:
            index = self.real(source)
        made = self.file.tensor(node.outputs[0].name or "", self.dims(node.outputs[0]), "int8", grid)
        self.file.operator("QUANTIZE", [index], [made], "", {}, True)
        self.coded[node.outputs[0]] = made, grid

    def step(self, node: ir.Node, rule: Rule) -> Step:
        """What to write for a node: with which activation, on codes or not."""
        step = Step(self, node, rule)
        if rule.int8 == "same" and node.inputs[0] in self.coded:
            step.int8 = step.moves = True
            step.outs = list(node.outputs)
            return step
        for k, value in enumerate(node.outputs):
            out = self._activated(step, value) if k == 0 and rule.fuses else value
            step.outs.append(out)
        quantizers = [self._quantizers(v) for v in step.outs if v.uses() or v.is_graph_output()]
        if rule.int8 and all(quantizers) and self._reads_codes(node, rule):
            step.int8 = True
            for found in quantizers:
                self.written.update(found)
        return step

    def _activated(self, step: Step, value: ir.Value) -> ir.Value:
        after = walk.only_consumer(value)
        if after is None or after.inputs[0] is not value:
            return value
        kind = FUSED.get(bounds(after), NONE if self._implied(after) else None)
        if kind is None:
            return value
        step.activation = kind
        self.written.add(after)
        return after.outputs[0]

    def _implied(self, clamp: ir.Node) -> bool:
        """Does the rounding behind a Relu or Clip clamp as it does, because its codes reach no further?"""
        low, high = bounds(clamp)
        readers = self._quantizers(clamp.outputs[0]) if (low, high) != (None, None) else []
        grid = self.grid(readers[0]) if readers else None
        if grid is None:
            return False
        ends = [grid.scale[0] * (code - grid.zero[0]) for code in (-128, 127)]
        slack = grid.scale[0] / 100
        return (low is None or ends[0] >= low - slack) and (high is None or ends[1] <= high + slack)

    def _quantizers(self, value: ir.Value) -> list[ir.Node]:
        """The QuantizeLinear nodes that are all that reads a value, when they agree; else none."""
        readers = [n for n, _ in walk.consumers(value)]
        if value.is_graph_output() or any(n.op_type != "QuantizeLinear" for n in readers):
            return []
        grids = [self.grid(n) for n in readers]
        first = grids[0] if grids else None
        agree = first is not None and len(first.scale) == 1 and all(g is not None and g.near(first) for g in grids)
        return readers if agree else []

    def _reads_codes(self, node: ir.Node, rule: Rule) -> bool:
        """Is every float that the node reads dequantized?"""
        floats = [(k, v) for k, v in enumerate(node.inputs) if v is not None and walk.is_float(v)]
        for k, value in floats:
            stored = self.stored(value)
            if k in rule.weights:
                if k == rule.weights[0] and (stored is None or any(stored[1].zero)):
                    return False
            elif stored is not None:
                if len(stored[1].scale) != 1:
                    return False
            else:
                before = value.producer()
                grid = self.grid(before) if before is not None and before.op_type == "DequantizeLinear" else None
                if grid is None or len(grid.scale) != 1:
                    return False
        return bool(floats)


def _maker(value: ir.Value) -> ir.Node:
    node = value.producer()
    return node if node is not None else ir.node("Input", [], outputs=[ir.Value(name=value.name)])
