"""Exact rewrites of arithmetic on shapes, where the sizes are known or the same as others.

Shape(x[2, 8])                                          =>  [2, 8]
Gather(Shape(x[b, 8]), 1), Size, Equal, Where ...       =>  the number, where it is one
Reshape(x[b, s, 384], Concat(Shape(x)[0:2], [12, 32]))  =>  Reshape(x, [0, 0, 12, 32])
Expand(x[b, s], Shape(y[b, s]))                         =>  x
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.graph.sizes import INTEGERS, READERS, sizes
from hasten.passes.rewrite import named


def known_size(node: ir.Node, taken: set[str]) -> bool:
    """A node that yields sizes, all of them numbers: a constant of the same type and rank."""
    output = node.outputs[0]
    if node.domain != "" or node.op_type not in READERS or output.is_graph_output() or not output.uses():
        return False
    kind = ir.DataType.INT64 if node.op_type in ("Shape", "Size") else output.dtype
    rank = 1 if node.op_type == "Shape" else 0 if node.op_type == "Size" else walk.rank(output)
    found = sizes(output) if kind in INTEGERS and rank in (0, 1) else None
    if found is None or not all(isinstance(v, int) for v in found) or (rank == 0 and len(found) != 1) or kind is None:
        return False
    array = np.array(found if rank else found[0], kind.numpy())
    name = edit.fresh(taken, f"{output.name}/known")
    output.replace_all_uses_with(edit.add_constant(walk.main_graph(node), name, array))
    return True


def reshape_as_said(node: ir.Node, taken: set[str]) -> bool:
    """A computed shape whose entries are numbers, sizes of the same axis (0), and one more at most (-1)."""
    if node.op_type != "Reshape" or node.domain != "" or walk.constant(node.inputs[1]) is not None:
        return False
    wanted, own = sizes(node.inputs[1]), walk.dims(node.inputs[0])
    if wanted is None or own is None:
        return False
    told: list[int] = []
    for i, size in enumerate(wanted):
        if isinstance(size, int):
            if size == 0 and walk.attribute(node, "allowzero", 0):
                return False
            told.append(size)
        else:
            told.append(0 if size is not None and i < len(own) and own[i] == size else -1)
    free = told.count(-1) - wanted.count(-1)  # what is worked out in place of a size that was known
    if told.count(-1) > 1 or (free and 0 in told):  # beside an axis of size 0 nothing can be worked out
        return False
    shape = edit.add_constant(
        walk.main_graph(node), edit.fresh(taken, f"{node.outputs[0].name}/shape"), np.array(told, np.int64)
    )
    return edit.swap(node, "Reshape", [node.inputs[0], shape], taken)


def expand_to_the_same(node: ir.Node, taken: set[str]) -> bool:
    """The shape wanted is the shape had; where a size is 1 or missing in the wish, nothing is stretched either."""
    if node.op_type != "Expand" or node.domain != "":
        return False
    wanted, own = sizes(node.inputs[1]), walk.dims(node.inputs[0])
    if wanted is None or own is None or len(wanted) > len(own):
        return False
    tail = own[len(own) - len(wanted) :]
    return all(w == 1 or (w is not None and w == o) for w, o in zip(wanted, tail, strict=True)) and edit.bypass(
        node, node.inputs[0]
    )


REWRITES = named(known_size, reshape_as_said, expand_to_the_same)
