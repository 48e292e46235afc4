"""A graph as torch functions, so that its weights can be trained: from an ``ir.Model`` and back, without user code.

Constants that are no floats, and vectors that spell out sizes, are plain numbers; an operator that has no rule is an
answer (``NotApplicable``), not a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.passes.autograd_rules import RULES
from hasten.protocols import Array, NotApplicable


def parameters(torch: Any, graph: ir.Model) -> dict[str, Any]:
    """Trainable tensors by constant: weights and biases of the linear nodes."""
    found = {}
    for node in graph.graph:
        if walk.weight(node) is None:
            continue
        for value in node.inputs[1:]:
            array = walk.constant(value)
            if value is None or value.name not in graph.graph.initializers or array is None:
                continue
            if array.dtype == np.float32 and value.name:
                found[value.name] = torch.tensor(array.copy(), requires_grad=True)
    return found


def run(torch: Any, graph: ir.Model, trained: Mapping[str, Any], feeds: Mapping[str, Array]) -> list[Any]:
    """The graph's outputs, with ``trained`` in place of constants of those names.

    Raises:
        NotApplicable: an operator has no rule here.
    """
    known: dict[ir.Value, Any] = {
        v: torch.from_numpy(np.ascontiguousarray(feeds[v.name]))
        for v in graph.graph.inputs
        if v.name and v.name in feeds
    }

    def value(of: ir.Value | None) -> Any:
        if of is None:
            return None
        if of not in known:
            array = walk.constant(of)
            if array is None:
                raise NotApplicable(f"the value {of.name!r} cannot be computed in torch")
            known[of] = trained.get(of.name or "", torch.from_numpy(np.array(array)))
        return known[of]

    for node in graph.graph:
        if node.op_type == "Constant":
            continue
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            raise NotApplicable(f"{node.op_type} cannot be trained through (node {walk.label(node)!r})")
        found = rule(torch, node, [value(v) for v in node.inputs])
        outputs = found if isinstance(found, tuple | list) else (found,)
        known.update(zip(node.outputs, outputs, strict=False))
    return [known[v] for v in graph.graph.outputs]
