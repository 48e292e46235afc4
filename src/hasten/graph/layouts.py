"""What operators tie that only move elements: joining, cutting, turning.

a[n, 8], b[n, 8] -> Concat -> c[n, 16]            c's 9 goes with b's 1
x[n, 16] -> Slice [4:12] -> y[n, 8]               y's 0 goes with x's 4
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import walk
from hasten.graph.couplings import Couplings, Rule, axes_of, except_along, opaque
from hasten.graph.positions import Axis, size
from hasten.graph.reshapes import reshape


def transpose(node: ir.Node, c: Couplings) -> None:
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    if found is not None:
        x, y = found
        order = walk.attribute(node, "perm", list(range(len(x)))[::-1])
        for i, axis in zip(order, y, strict=True):
            c.positions.tie(x[i], axis)


def squeeze(node: ir.Node, c: Couplings) -> None:
    """Squeeze and Unsqueeze: the axes that are in both pass."""
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    if found is None:
        return
    x, y = found
    short, long = (y, x) if node.op_type == "Squeeze" else (x, y)
    given = _given_axes(node)
    if given is None and node.op_type == "Squeeze" and all(a is not None for a in x):
        given = [i for i, a in enumerate(x) if a is not None and len(a) == 1]
    if given is None:
        opaque(node, c)
        return
    dropped = {a % len(long) for a in given}
    c.positions.stay(*(long[i] for i in dropped))
    kept = [axis for i, axis in enumerate(long) if i not in dropped]
    if len(kept) != len(short):
        opaque(node, c)
        return
    for a, b in zip(kept, short, strict=True):
        c.positions.tie(a, b)


def _given_axes(node: ir.Node) -> list[int] | None:
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = walk.constant(node.inputs[1])
        return None if array is None else [int(a) for a in array.reshape(-1)]
    found = walk.attribute(node, "axes", None)
    return None if found is None else list(found)


def concat(node: ir.Node, c: Couplings) -> None:
    found = axes_of(c, [*node.inputs, node.outputs[0]])
    if found is None:
        return
    *inputs, y = found
    axis = walk.attribute(node, "axis", 0) % len(y)
    for x in inputs:
        except_along(c, x, y, set()) if len(inputs) == 1 else _beside(c, x, y, axis)
    joined = [x[axis] for x in inputs]
    whole = np.concatenate([j for j in joined if j is not None]) if all(j is not None for j in joined) else None
    if whole is None or y[axis] is None or len(whole) != size(y[axis]):
        c.positions.stay(*joined, y[axis])
    else:
        c.positions.tie(whole, y[axis])


def _beside(c: Couplings, x: list[Axis], y: list[Axis], axis: int) -> None:
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if i != axis:
            c.positions.tie(a, b)


def split(node: ir.Node, c: Couplings) -> None:
    found = axes_of(c, [node.inputs[0], *node.outputs])
    if found is None:
        return
    x, *outputs = found
    axis = walk.attribute(node, "axis", 0) % len(x)
    computed = len(node.inputs) > 1 and node.inputs[1] is not None and walk.constant(node.inputs[1]) is None
    parts = [y[axis] for y in outputs]
    for y in outputs:
        _beside(c, x, y, axis)
    sizes = [len(part) for part in parts if part is not None]
    if computed or x[axis] is None or len(sizes) != len(parts) or sum(sizes) != size(x[axis]):
        c.positions.stay(x[axis], *parts)
        return
    c.positions.tie(x[axis], np.concatenate([part for part in parts if part is not None]))


def slice_bounds(node: ir.Node) -> dict[int, tuple[int, int, int]] | None:
    """(start, end, step) by axis as written; None when any is computed or the axes are not said."""
    if len(node.inputs) < 2:
        starts, ends = walk.attribute(node, "starts", None), walk.attribute(node, "ends", None)
        axes, steps = walk.attribute(node, "axes", None), None
    else:
        parts = [walk.constant(v) for v in node.inputs[1:]]
        parts += [None] * (4 - len(parts))
        missing = [i for i, v in enumerate(node.inputs[1:]) if v is not None and parts[i] is None]
        if missing:
            return None
        starts, ends, axes, steps = (None if p is None else [int(v) for v in p.reshape(-1)] for p in parts)
    if starts is None or ends is None:
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    return dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))


def cut_out(node: ir.Node, c: Couplings) -> None:
    """Slice: an axis cut in steps of one ties to the part that it keeps."""
    found, bounds = axes_of(c, [node.inputs[0], node.outputs[0]]), slice_bounds(node)
    for value in node.inputs[1:]:
        c.positions.stay_whole(value)
    if found is None or bounds is None:
        opaque(node, c)
        return
    x, y = found
    by_axis = {axis % len(x): bound for axis, bound in bounds.items()}
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if i not in by_axis:
            c.positions.tie(a, b)
        elif a is None or b is None or by_axis[i][2] != 1:
            c.positions.stay(a, b)
        else:
            start, end, _ = by_axis[i]
            c.positions.tie(a[slice(start, min(end, len(a)))], b)


def pad(node: ir.Node, c: Couplings) -> None:
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    given = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else np.array(walk.attribute(node, "pads", []))
    for value in node.inputs[1:]:
        c.positions.stay_whole(value)
    limited = len(node.inputs) > 3 and node.inputs[3] is not None
    if found is None or given is None or limited or given.size != 2 * len(found[0]):
        opaque(node, c)
        return
    x, y = found
    except_along(c, x, y, {i for i in range(len(x)) if given[i] or given[i + len(x)]})


def resize(node: ir.Node, c: Couplings) -> None:
    """Resize and Expand's kin: axes that keep their size pass, if what says so is constant."""
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    told = [v for v in node.inputs[1:] if v is not None]
    for value in told:
        c.positions.stay_whole(value)
    if found is None or any(walk.constant(v) is None for v in told) or "axes" in node.attributes:
        opaque(node, c)
        return
    x, y = found
    scales = walk.constant(node.inputs[2]) if node.op_type == "Resize" and len(node.inputs) == 3 else None
    if scales is not None and scales.size == len(x):
        except_along(c, x, y, {i for i in range(len(x)) if scales[i] != 1})
    else:
        changed = {i for i in range(len(x)) if size(x[i]) is None or size(x[i]) != size(y[i])}
        except_along(c, x, y, changed)


def expand(node: ir.Node, c: Couplings) -> None:
    """Axes that keep their size pass; new and stretched ones stay."""
    found = axes_of(c, [node.inputs[0], node.outputs[0]])
    if found is None or walk.constant(node.inputs[1]) is None:
        opaque(node, c)
        return
    x, y = found
    c.positions.stay_whole(node.inputs[1])
    c.positions.stay(*y[: len(y) - len(x)])
    for a, b in zip(x, y[len(y) - len(x) :], strict=True):
        if a is not None and b is not None and len(a) == len(b) > 1:
            c.positions.tie(a, b)
        else:
            c.positions.stay(a, b)


def tile(node: ir.Node, c: Couplings) -> None:
    found, repeats = axes_of(c, [node.inputs[0], node.outputs[0]]), walk.constant(node.inputs[1])
    if found is None or repeats is None:
        opaque(node, c)
        return
    c.positions.stay_whole(node.inputs[1])
    x, y = found
    except_along(c, x, y, {i for i, r in enumerate(repeats) if r != 1})


def shape(node: ir.Node, c: Couplings) -> None:
    """Only the sizes that somebody picks out of a Shape must stay."""
    axes = c.positions.axes(node.inputs[0]) if node.inputs[0] is not None else None
    if axes is None:
        opaque(node, c)
        return
    if "start" in node.attributes or "end" in node.attributes or node.outputs[0].is_graph_output():
        c.positions.stay(*axes[slice(walk.attribute(node, "start", 0), walk.attribute(node, "end", None))])
        return
    for reader, _ in walk.consumers(node.outputs[0]):
        index = walk.constant(reader.inputs[1]) if reader.op_type == "Gather" else None
        bounds = slice_bounds(reader) if reader.op_type == "Slice" else None
        if index is not None:
            c.positions.stay(*(axes[i] for i in index.reshape(-1)))
        elif bounds is not None and 0 in bounds:
            c.positions.stay(*axes[slice(*bounds[0])])
        else:
            c.positions.stay(*axes)


RULES: dict[str, Rule] = {
    "Transpose": transpose,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), squeeze),
    "Concat": concat,
    "Split": split,
    "Slice": cut_out,
    "Pad": pad,
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "Expand": expand,
    "Tile": tile,
    "Shape": shape,
    **dict.fromkeys(("Reshape", "Flatten"), reshape),
}
