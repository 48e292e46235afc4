"""Make up for what a change took away: refit linear layers so that they answer as the original's did.

x -> Conv(W) -> y     beside     z -> Conv(W_kept) -> ?      =>      z -> Conv(V) -> nearly y

On EfficientNet-Lite0 with 10 % of all channels gone, the squared error of the logits was 0.91 of their variance with
no repair, 0.28 refitted at once and 0.26 in sequence, at seven times the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.graph import edit, walk
from hasten.graph.affine import Affine, affine, rewrite
from hasten.graph.moments import Moments, moments, paired
from hasten.protocols import Feeds
from hasten.quant.refit import RIDGE, refit, shift_only

METHODS = ("once", "sequential", "bias", "none")
Ints = NDArray[np.int64]
Kept = Callable[[str], tuple[Ints, Ints]]


def changed(before: ir.Model, after: ir.Model) -> list[str]:
    """Affine nodes of ``after``, by first output, that read something else than in ``before``, in running order."""
    old = {n.outputs[0].name: n for n in before.graph}
    different: set[ir.Value] = set()
    found = []
    for node in after.graph:
        was = old.get(node.outputs[0].name)
        touched = was is None or any(v in different for v in node.inputs if v is not None) or _other(was, node)
        if touched:
            different.update(node.outputs)
            if was is None or affine(was) is None or affine(node) is None or not node.outputs[0].name:
                continue
            if node.inputs[0] in different or _narrower(was, node):
                found.append(node.outputs[0].name)
    return found


def _other(was: ir.Node, node: ir.Node) -> bool:
    """True when a constant that the node reads has changed."""
    for a, b in zip(was.inputs, node.inputs, strict=False):
        x, y = walk.constant(a), walk.constant(b)
        if x is not None and y is not None and (x.shape != y.shape or not np.array_equal(x, y)):
            return True
    return False


def _narrower(was: ir.Node, node: ir.Node) -> bool:
    a, b = affine(was), affine(node)
    return a is not None and b is not None and a.w.shape[1] != b.w.shape[1]


def repair(
    before: ir.Model,
    after: ir.Model,
    kept: Kept,
    feeds: Callable[[], Iterator[Feeds]],
    method: str = "once",
    ridge: float = RIDGE,
) -> int:
    """Refit the linear nodes of ``after`` in place; returns how many.

    ``kept`` gives for a node, by its first output, the rows and the columns of its old matrix that are left.
    ``once`` refits the layers that lost columns, from one run of the original; ``sequential`` everything behind a
    change, each to what it reads after those before it, at one run of both networks a layer; ``bias`` only moves
    the biases of layers that lost columns.
    """
    names = changed(before, after)
    if method == "none" or not names:
        return 0
    taken = edit.names(after)
    if method == "sequential":
        for name in names:  # several at once would each correct the same error
            _refit(before, after, name, kept(name)[0], paired(before, after, name, feeds()), ridge, taken)
        return len(names)
    names = [name for name in names if len(kept(name)[1]) < _view(before, name).w.shape[1]]
    seen = moments(before, names, feeds())
    for name in names:
        rows, at = kept(name)
        m = narrowed(seen[name], at)
        if method == "once":
            _refit(before, after, name, rows, m, ridge, taken)
        elif m.count:
            new = _view(after, name)
            shift = shift_only(_view(before, name).w[rows], new.w, m.x, m.z)
            rewrite(after.graph, new.node, new.w, shift, taken)
    return len(names)


def narrowed(m: Moments, at: Ints) -> Moments:
    """The moments of x beside its own columns ``at``."""
    return Moments(m.count, m.x, m.x[at], m.zz[:, at], m.zz[np.ix_(at, at)])


def _refit(before: ir.Model, after: ir.Model, name: str, rows: Ints, m: Moments, ridge: float, taken: set[str]) -> None:
    """With few columns for many numbers, the old weights count for more."""
    if not m.count:
        return
    old, new = _view(before, name), _view(after, name)
    w, shift = refit(old.w[rows], new.w, m.x, m.z, m.xz, m.zz, ridge + len(m.z) / m.count)
    rewrite(after.graph, new.node, w, shift, taken)


def _view(graph: ir.Model, name: str) -> Affine:
    found = affine(next(n for n in graph.graph if n.outputs[0].name == name))
    assert found is not None
    return found
