"""A node that is being replaced by others before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk


@dataclass
class Site:
    """A node that is being replaced."""

    node: ir.Node
    taken: set[str]

    def x(self, k: int = 0) -> ir.Value | None:
        """Input ``k``, None where it is left out."""
        return self.node.inputs[k] if k < len(self.node.inputs) else None

    def attr(self, name: str, default: Any) -> Any:
        """An attribute of the node."""
        return walk.attribute(self.node, name, default)

    def fixed(self, array: Any) -> ir.Value:
        """A new constant."""
        assert isinstance(self.node.graph, ir.Graph)
        return edit.add_constant(self.node.graph, edit.fresh(self.taken, f"{self.base}/constant"), np.asarray(array))

    def ints(self, *values: int) -> ir.Value:
        """A new constant of integers."""
        return self.fixed(np.array(values, np.int64))

    @property
    def base(self) -> str:
        """What new names start with."""
        return self.node.outputs[0].name or self.node.op_type

    def add(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A new node before this one."""
        name = edit.fresh(self.taken, f"{self.base}/{op_type.lower()}")
        return edit.add_node(self.node, op_type, inputs, name, attributes)

    def rank(self) -> int:
        """Axes of the first input; 0 where unknown."""
        return walk.rank(self.x()) or 0


def is_stored(value: ir.Value | None) -> bool:
    """A constant, or one that is only dequantized."""
    if walk.constant(value) is not None:
        return True
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "DequantizeLinear" and walk.constant(node.inputs[0]) is not None
