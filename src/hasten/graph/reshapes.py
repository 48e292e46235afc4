"""What a Reshape ties: stretches of axes with the same number of elements, from the left and from the right.

x[b, s, 384] -> Reshape [0, 0, 12, 32]      position d of the last axis goes with head d // 32; the 32 stay
x[n, c, 7, 7] -> Flatten                    position f goes with channel f // 49
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.couplings import Couplings, opaque
from hasten.graph.positions import STAYS, Axis, size


def reshape(node: ir.Node, c: Couplings) -> None:
    x = c.positions.axes(node.inputs[0]) if node.inputs[0] is not None else None
    wanted = _wanted(node, x)
    if x is None or wanted is None:
        opaque(node, c)
        return
    if len(node.inputs) > 1:
        c.positions.stay_whole(node.inputs[1])
    c.positions.declare(node.outputs[0], _sizes_after(x, wanted))
    y = c.positions.axes(node.outputs[0])
    assert y is not None
    left, right = _ends(x, y, wanted)
    for i in range(left):
        c.positions.tie(x[i], y[i])
    _match(c, x[left : len(x) - right], y[left : len(y) - right])
    for i in range(1, right + 1):
        c.positions.tie(x[-i], y[-i])


def _wanted(node: ir.Node, x: list[Axis] | None) -> list[int] | None:
    """The sizes that a Reshape or Flatten asks for: 0 copies, -1 is worked out."""
    if node.op_type == "Reshape":
        array = walk.constant(node.inputs[1])
        if array is None or walk.attribute(node, "allowzero", 0):
            return None
        return [int(v) for v in array.reshape(-1)]
    if x is None:
        return None
    axis = walk.attribute(node, "axis", 1)
    axis = axis + len(x) if axis < 0 else axis
    front = x[0] if axis == 1 else np.zeros(prod(len(a) for a in x[:axis] if a is not None), np.int64)
    return [0 if axis == 1 else (-1 if any(a is None for a in x[:axis]) or front is None else len(front)), -1]


def _sizes_after(x: list[Axis], wanted: list[int]) -> list[int | None]:
    """Sizes behind a Reshape; -1 is worked out where the axes of unknown size are copied."""
    sizes: list[int | None] = [w if w > 0 else None for w in wanted]
    left = list(range(len(x)))
    for i, w in enumerate(wanted):
        if w == 0:
            sizes[i] = size(x[i])
            left.remove(i)
    total = _elements([x[i] for i in left])
    if -1 in wanted and total >= 0:
        sizes[wanted.index(-1)] = total // max(prod(w for w in wanted if w > 0), 1)
    return sizes


def _ends(x: list[Axis], y: list[Axis], wanted: list[int]) -> tuple[int, int]:
    """How many axes at the left and at the right simply pass."""
    left = 0
    while left < min(len(x), len(y)) and (wanted[left] == 0 or _equal(x[left], y[left])):
        left += 1
    right = 0
    while right < min(len(x), len(y)) - left and _equal(x[-1 - right], y[-1 - right]):
        right += 1
    return left, right


def _equal(a: Axis, b: Axis) -> bool:
    return size(a) is not None and size(a) == size(b)


def _match(c: Couplings, x: list[Axis], y: list[Axis]) -> None:
    """From the right, cut both into stretches with the same number of elements; what cannot be matched stays."""
    i, j = len(x), len(y)
    while i and j:
        a, b = [x[i - 1]], [y[j - 1]]
        i, j = i - 1, j - 1
        while _elements(a) != _elements(b):
            short = a if _elements(a) < _elements(b) else b
            if _elements(a) < 0 or _elements(b) < 0 or (i if short is a else j) == 0:
                c.positions.stay(*x[: i + len(a)], *y[: j + len(b)])
                return
            if short is a:
                i -= 1
                a.insert(0, x[i])
            else:
                j -= 1
                b.insert(0, y[j])
        _stretch(c, a, b)
    c.positions.stay(*x[:i], *y[:j])


def _elements(axes: list[Axis]) -> int:
    """How many elements these axes span; -1 where that is unknown."""
    return -1 if any(a is None for a in axes) else prod(len(a) for a in axes if a is not None)


def _stretch(c: Couplings, a: list[Axis], b: list[Axis]) -> None:
    ones = [axis for axis in (*a, *b) if axis is not None and len(axis) == 1]
    many = [[axis for axis in side if axis is not None and len(axis) > 1] for side in (a, b)]
    c.positions.stay(*ones, *(axis for side in (a, b) for axis in side if axis is None))
    if len(many[0]) == 1 == len(many[1]):
        c.positions.tie(many[0][0], many[1][0])
    elif len(many[0]) == 1 or len(many[1]) == 1:
        one, several = sorted(many, key=len)
        c.merges.append((one[0], list(several)))
    else:
        c.positions.stay(*many[0], *many[1])


def settle(c: Couplings) -> None:
    """Decide for each merged axis which of its parts may shrink: the first that nothing has ruled out yet.

    Of [heads, 32] that is the heads, of [channels, 7, 7] the channels, of [7, 7, channels] too: space stays anyway.
    """
    for one, several in c.merges:
        lowest = c.positions.solve()
        live = next((i for i, axis in enumerate(several) if axis is not None and (lowest[axis] != STAYS).any()), None)
        c.positions.stay(*(axis for i, axis in enumerate(several) if i != live))
        if live is None:
            c.positions.stay(one)
            continue
        sizes = [len(axis) for axis in several if axis is not None]
        index = np.arange(prod(sizes)).reshape(sizes)
        chosen = several[live]
        assert chosen is not None
        c.positions.tie(one, chosen[np.unravel_index(index.reshape(-1), sizes)[live]])
