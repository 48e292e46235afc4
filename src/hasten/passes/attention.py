"""Products of two computed tensors, as in attention: which of them OpenVINO may multiply in eight bits.

    linear -> reshape -> transpose -\\
                                     MatMul -> softmax -> MatMul -> linear
    linear -> reshape -> transpose -/                    /
    linear -> reshape -> transpose ---------------------/
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from hasten.graph import walk
from hasten.passes import patterns

ALONG = patterns.SHAPING | {"Add", "Div", "Mul", "Softmax"}  # what stands between a linear operator and such a product
MOST_STEPS = 8


def products(model: ir.Model, anchors: Collection[ir.Node]) -> list[ir.Node]:
    """MatMuls of two computed float tensors whose nearest linear operators are all among ``anchors``, one at least."""
    found = []
    for node in model.graph:
        if is_product(node):
            sources = [before for _, value in patterns.computed(node) if (before := _linear_before(value)) is not None]
            if sources and all(before in anchors for before in sources):
                found.append(node)
    return found


def is_product(node: ir.Node | None) -> bool:
    """True for a MatMul of two computed float tensors."""
    return node is not None and node.op_type == "MatMul" and node.domain == "" and len(patterns.computed(node)) == 2


def _linear_before(value: ir.Value) -> ir.Node | None:
    """The linear operator that a tensor comes from in a straight line; None where there is none."""
    for node in patterns.straight(value, MOST_STEPS):
        if walk.weight(node):
            return node
        if node.op_type not in ALONG or node.domain != "":
            return None
    return None
