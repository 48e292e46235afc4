"""What a small vector of integers holds when it is made of the sizes of tensors: numbers, names of sizes, or unknown.

Shape(x[batch, seq, 384]) -> Slice [0:2] -> Concat with [12, 32]     holds [batch, seq, 12, 32]

Shape inference follows such vectors only in part; exporters build every Reshape from them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.layouts import slice_bounds

Size = int | str | None
LONGEST, DEEPEST = 16, 40
INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def sizes(value: ir.Value | None, depth: int = 0) -> list[Size] | None:
    """The entries of a scalar or vector, one for a scalar; None when even their number is unknown."""
    known = walk.integers(value)
    if known is not None:
        return list(known) if len(known) <= LONGEST else None
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or depth > DEEPEST or value is None:
        return None
    if value.dtype not in INTEGERS and node.op_type not in ("Shape", "Size"):  # a quotient of floats is another number
        return None
    reader = READERS.get(node.op_type)
    found = reader(node, depth + 1) if reader is not None else None
    return found if found is None or len(found) <= LONGEST else None


def _shape(node: ir.Node, depth: int) -> list[Size] | None:
    found = walk.dims(node.inputs[0])
    if found is None:
        return None
    return list(found[slice(walk.attribute(node, "start", 0), walk.attribute(node, "end", None))])


def _size(node: ir.Node, depth: int) -> list[Size] | None:
    found = walk.dims(node.inputs[0])
    if found is None or not all(isinstance(d, int) for d in found):
        return None
    product = 1
    for d in found:
        product *= int(d or 0)
    return [product]


def _same(node: ir.Node, depth: int) -> list[Size] | None:
    return sizes(node.inputs[0], depth)


def _reshape(node: ir.Node, depth: int) -> list[Size] | None:
    rank = walk.rank(node.outputs[0])
    return sizes(node.inputs[0], depth) if rank is None or rank <= 1 else None


def _gather(node: ir.Node, depth: int) -> list[Size] | None:
    found, index = sizes(node.inputs[0], depth), walk.integers(node.inputs[1])
    if found is None or index is None or walk.attribute(node, "axis", 0) != 0:
        return None
    return [found[i] for i in index] if all(-len(found) <= i < len(found) for i in index) else None


def _slice(node: ir.Node, depth: int) -> list[Size] | None:
    found, bounds = sizes(node.inputs[0], depth), slice_bounds(node)
    return (
        None
        if found is None or bounds is None or list(bounds) not in ([0], [-1])
        else found[slice(*next(iter(bounds.values())))]
    )


def _concat(node: ir.Node, depth: int) -> list[Size] | None:
    parts = [sizes(v, depth) for v in node.inputs]
    joined: list[Size] = []
    for value, part in zip(node.inputs, parts, strict=True):
        if part is None or walk.rank(value) != 1:
            return None
        joined += part
    return joined


def _numbers(combine: Callable[[int, int], int]) -> Callable[[ir.Node, int], list[Size] | None]:
    def reader(node: ir.Node, depth: int) -> list[Size] | None:
        a, b = (sizes(v, depth) for v in node.inputs[:2])
        if a is None or b is None or len({len(a), len(b)} - {1}) > 1:
            return None
        n = max(len(a), len(b))
        pairs = zip(a * (n // len(a)), b * (n // len(b)), strict=True)
        return [combine(x, y) if isinstance(x, int) and isinstance(y, int) else None for x, y in pairs]

    return reader


def _mul(node: ir.Node, depth: int) -> list[Size] | None:
    """A name times one is itself."""
    found = _numbers(lambda x, y: x * y)(node, depth)
    a, b = (sizes(v, depth) for v in node.inputs[:2])
    if found is None or a is None or b is None or len(a) != len(b):
        return found
    return [x if y == 1 else y if x == 1 else z for x, y, z in zip(a, b, found, strict=True)]


def _equal(node: ir.Node, depth: int) -> list[Size] | None:
    """A named size is never negative."""
    a, b = (sizes(v, depth) for v in node.inputs[:2])
    if a is None or b is None or len({len(a), len(b)} - {1}) > 1:
        return None
    n = max(len(a), len(b))

    def same(x: Size, y: Size) -> int | None:
        if isinstance(x, int) and isinstance(y, int):
            return int(x == y)
        if x is not None and x == y:
            return 1
        return (
            0 if any(isinstance(v, int) and v < 0 for v in (x, y)) and any(isinstance(v, str) for v in (x, y)) else None
        )

    return [same(x, y) for x, y in zip(a * (n // len(a)), b * (n // len(b)), strict=True)]


def _not(node: ir.Node, depth: int) -> list[Size] | None:
    found = sizes(node.inputs[0], depth)
    return None if found is None else [1 - v if isinstance(v, int) else None for v in found]


def _where(node: ir.Node, depth: int) -> list[Size] | None:
    picks, a, b = (sizes(v, depth) for v in node.inputs)
    if picks is None or a is None or b is None or not len(picks) == len(a) == len(b):
        return None
    return [x if p == 1 else y if p == 0 else (x if x == y else None) for p, x, y in zip(picks, a, b, strict=True)]


def _filled(node: ir.Node, depth: int) -> list[Size] | None:
    """ConstantOfShape, a vector of ones for instance."""
    wanted = sizes(node.inputs[0], depth)
    value = node.attributes.get("value")
    if wanted is None or len(wanted) != 1 or not isinstance(wanted[0], int) or wanted[0] > LONGEST:
        return None
    fill = 0 if value is None else value.value.numpy().reshape(-1)[0]
    return [int(fill)] * wanted[0] if float(fill).is_integer() else None


READERS: dict[str, Callable[[ir.Node, int], list[Size] | None]] = {
    "Shape": _shape,
    "Size": _size,
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze"), _same),
    "Reshape": _reshape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Mul": _mul,
    "Add": _numbers(lambda x, y: x + y),
    "Sub": _numbers(lambda x, y: x - y),
    "Div": _numbers(lambda x, y: int(x / y) if y else 0),
    "Max": _numbers(max),
    "Min": _numbers(min),
    "Equal": _equal,
    "Greater": _numbers(lambda x, y: int(x > y)),
    "Less": _numbers(lambda x, y: int(x < y)),
    "Not": _not,
    "Where": _where,
    "ConstantOfShape": _filled,
}


def unify(model: ir.Model) -> int:
    """Give sizes that are proven equal one name, all over the main graph; returns how many names went.

    Shape inference invents a name for each -1 of a Reshape and for each entry of a computed shape; here such a name
    becomes that of the axis whose elements it must hold, or that of the entry.
    """
    same: dict[str, str] = {}

    def root(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    for node in model.graph:
        if node.op_type == "Reshape" and node.domain == "":
            for a, b in _equal_sizes(node):
                one, other = sorted((root(a), root(b)), key=lambda n: (n.startswith("unk__"), n))
                if one != other:
                    same[other] = one
    if same:
        for value in (v for node in model.graph for v in node.outputs if not v.is_graph_output()):
            found = walk.dims(value)
            if found is not None and value.shape is not None and any(d in same for d in found):
                value.shape = ir.Shape(
                    [root(d) if isinstance(d, str) else v for d, v in zip(found, value.shape, strict=True)]
                )
    return len(same)


def _equal_sizes(node: ir.Node) -> list[tuple[str, str]]:
    """Pairs of names that a Reshape shows to be one size."""
    own, out = walk.dims(node.inputs[0]), walk.dims(node.outputs[0])
    wanted = sizes(node.inputs[1])
    pairs: list[tuple[str, str]] = []
    if out is not None and wanted is not None and len(wanted) == len(out):
        pairs += [(w, o) for w, o in zip(wanted, out, strict=True) if isinstance(w, str) and isinstance(o, str)]
    if own is None or out is None or None in own or None in out:
        return pairs
    # what remains when equal sizes are crossed out on both sides: one name and one name hold the same elements
    left, right = list(own), list(out)
    for size in own:
        if size in right:
            left.remove(size)
            right.remove(size)
    names = [[d for d in side if isinstance(d, str)] for side in (left, right)]
    numbers = [prod(d for d in side if isinstance(d, int)) for side in (left, right)]
    if len(names[0]) == len(names[1]) == 1 and numbers[0] == numbers[1] != 0:
        pairs.append((names[0][0], names[1][0]))
    return pairs
