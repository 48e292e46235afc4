"""Two thin layers for one wide one, where the data need fewer directions than the layer has.

x -> MatMul(W[m, n]) + b -> y     =>   x -> MatMul(B[m, r]) -> MatMul(A[r, n]) + b' -> y
x -> Conv(W[o, i, 3, 3], b) -> y  =>   x -> Conv(B[r, i, 3, 3]) -> Conv(A[o, r, 1, 1], b') -> y      "channel"
                                  =>   x -> Conv(B[r, i, 3, 1]) -> Conv(A[o, r, 1, 3], b') -> y      "spatial"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.graph.affine import Affine, add_shift, affine
from hasten.graph.moments import moments
from hasten.model import Model
from hasten.passes import patterns
from hasten.protocols import Context, Feeds, NotApplicable
from hasten.quant import lowrank
from hasten.quant.lowrank import Factors, Spatial, Whitened

F64 = NDArray[np.float64]
Spectrum = tuple[F64, Whitened, Spatial | None]
KINDS = ("channel", "spatial")
CHEAPER = 0.5  # of the break-even rank: two thin products are less efficient than one wide one
MEMORY = 1 << 30  # bytes of moments alive at once


@dataclass(frozen=True)
class Factorize:
    """Whitened SVD of linear layers, spatial SVD of k x k convolutions (``quant.lowrank``).

    ``ranks`` says which and how far, as ``"node=32"`` or ``"node=32:spatial"`` (a node by its name or first output).
    Without it every layer takes the least rank that loses at most ``loss``, as a share of the variance of its answers,
    if that is below half of the rank at which two layers multiply as often as one; ``kind`` is then what k x k
    convolutions become.

    Raises:
        NotApplicable: the network is quantized, or no layer is of so low rank.
        UsageError: an option is none of those above, or a node is unknown.
    """

    ranks: tuple[str, ...] = ()
    loss: float = 0.01
    kind: str = "channel"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranks", tuple(self.ranks))  # a recipe read from JSON brings lists
        if self.kind not in KINDS:
            raise UsageError(f"factorize has no kind {self.kind!r}", help=did_you_mean(self.kind, KINDS))

    def __call__(self, model: Model, context: Context) -> Model:
        quantized = patterns.quantized_already(model.graph)
        if quantized:
            raise NotApplicable(f"the network is quantized already: {quantized}")
        graph = model.clone_graph()
        edit.infer(graph)
        nodes = candidates(graph)
        wanted = _parsed(self.ranks, nodes) if self.ranks else {}
        if self.ranks:
            nodes = {name: nodes[name] for name in wanted}
        taken, done = edit.names(graph), 0
        kept = context.kept.setdefault(("factorize", repr(model.history)), {})
        for name, layer in spectra(graph, nodes, context.feeds, kept):
            rank, kind = wanted.get(name) or (layer.least(self.loss, self.kind, CHEAPER), self.kind)
            if rank:
                replace(graph, layer, rank, kind, taken)
                done += 1
        if not done:
            raise NotApplicable(f"no layer loses less than {self.loss:g} of its answers at half of the break-even rank")
        edit.prune(graph)
        edit.infer(graph)
        return model.with_graph(graph, repr(self))


@dataclass(frozen=True)
class Layer:
    """A linear node with what the data say of it: the mean of its input and its spectra."""

    node: ir.Node
    view: Affine
    mean: F64
    whole: Whitened
    cut: Spatial | None

    def factors(self, rank: int, kind: str) -> Factors:
        """Both matrices; where nothing can be cut along space, ``spatial`` is ``channel``."""
        return self.cut.factors(rank) if kind == "spatial" and self.cut is not None else self.whole.factors(rank)

    def loss(self, rank: int, kind: str) -> float:
        """As a share of the variance of the answers."""
        if kind == "spatial" and self.cut is not None:
            return self.cut.loss(rank)
        return float(self.whole.losses()[rank])

    def even(self, kind: str) -> float:
        """The rank from which on both together multiply more often than the one."""
        outputs, k = self.view.w.shape
        if kind == "spatial" and self.cut is not None:
            channels, height = self.cut.vertical.shape[1:]
            return float(outputs * k / (channels * height + outputs * self.cut.width))
        return lowrank.break_even(outputs, k)

    def least(self, loss: float, kind: str, cheaper: float) -> int:
        """The least rank within ``loss`` and below ``cheaper`` of break-even; 0 where there is none."""
        most = int(self.even(kind) * cheaper)
        if kind == "spatial" and self.cut is not None:
            low, high = 0, min(most, len(self.cut.vertical)) + 1
            while high - low > 1:  # the loss falls with the rank
                middle = (low + high) // 2
                low, high = (low, middle) if self.cut.loss(middle) <= loss else (middle, high)
            return high if high <= min(most, len(self.cut.vertical)) else 0
        within = np.flatnonzero(self.whole.losses()[: most + 1] <= loss)
        return int(max(within[0], 1)) if len(within) and most else 0


def candidates(graph: ir.Model) -> dict[str, ir.Node]:
    """Nodes of the main graph that can become two, by first output."""
    return {n.outputs[0].name or "": n for n in graph.graph if n.op_type in ("Conv", "MatMul", "Gemm") and affine(n)}


def spectra(
    graph: ir.Model,
    nodes: Mapping[str, ir.Node],
    feeds: Callable[[], Iterator[Feeds]],
    kept: MutableMapping[str, Spectrum] | None = None,
) -> Iterator[tuple[str, Layer]]:
    """Each node's ``Layer``, in few runs of the network; those that no sample reaches are left out.

    All runs see the graph as it is now: a caller may replace the node that it has just been given. What is in
    ``kept`` is not worked out again, and what is new comes into it while there is room.
    """
    original, kept = graph.clone(), {} if kept is None else kept
    for name in [name for name in nodes if name in kept]:
        yield name, Layer(nodes[name], _view(nodes[name]), *kept[name])
    room = MEMORY - sum(_bytes(found) for found in kept.values())
    for part in _parts({name: node for name, node in nodes.items() if name not in kept}):
        for name, m in moments(original, part, feeds()).items():
            if not m.count:
                continue
            view, s = _view(nodes[name]), m.zz - np.outer(m.z, m.z)
            found = (m.z, lowrank.whitened_svd(view.w, s), _cut(view, s))
            room -= _bytes(found)
            if room > 0:
                kept[name] = found
            yield name, Layer(nodes[name], view, *found)


def _view(node: ir.Node) -> Affine:
    view = affine(node)
    assert view is not None
    return view


def _bytes(found: Spectrum) -> int:
    mean, whole, cut = found
    arrays = [mean, whole.u, whole.vt, whole.lower, *([cut.w, cut.s] if cut is not None else [])]
    return sum(a.nbytes for a in arrays)


def _parts(nodes: Mapping[str, ir.Node]) -> Iterator[Sequence[str]]:
    part: list[str] = []
    used = 0
    for name, node in nodes.items():
        view = affine(node)
        size = 8 * view.w.shape[1] ** 2 if view is not None else 0
        if part and used + size > MEMORY:
            yield part
            part, used = [], 0
        part.append(name)
        used += size
    if part:
        yield part


def _cut(view: Affine, s: F64) -> Spatial | None:
    w = walk.constant(view.node.inputs[1])
    if view.node.op_type != "Conv" or w is None or w.ndim != 4 or min(w.shape[2:]) < 2:
        return None
    return lowrank.spatial_svd(view.w, s, (w.shape[1], w.shape[2], w.shape[3]))


def replace(graph: ir.Model, layer: Layer, rank: int, kind: str, taken: set[str]) -> None:
    """Put two nodes in the place of ``layer.node``, in the main graph of ``graph``; the bias takes the mean's share."""
    node, found = layer.node, layer.factors(rank, kind)
    shift = (layer.view.w - found.a @ found.b) @ layer.mean
    spatial = kind == "spatial" and layer.cut is not None
    first, second = _shapes(layer, found, rank, spatial)
    base = node.name or node.outputs[0].name
    weights = [
        edit.add_constant(graph.graph, edit.fresh(taken, f"{base}/{part}"), array.astype(np.float32))
        for part, array in (("inner", first), ("outer", second))
    ]
    before, after = _attributes(node, spatial)
    inner = edit.add_node(node, node.op_type, [node.inputs[0], weights[0]], edit.fresh(taken, f"{base}/thin"), before)
    outer = ir.node(node.op_type, [inner, weights[1], *node.inputs[2:]], after, name=f"{base}/wide")
    graph.graph.insert_before(node, outer)
    outer.outputs[0].name = edit.fresh(taken, f"{base}/wide")
    edit.replace(node.outputs[0], outer.outputs[0])
    graph.graph.remove(node, safe=True)
    add_shift(graph.graph, outer, shift, taken)


def _shapes(layer: Layer, found: Factors, rank: int, spatial: bool) -> tuple[F64, F64]:
    """Both matrices as the weights of their nodes."""
    node, w = layer.node, walk.constant(layer.node.inputs[1])
    assert w is not None
    if node.op_type != "Conv":
        turned = node.op_type == "Gemm" and walk.attribute(node, "transB", 0)
        return (found.b, found.a) if turned else (found.b.T, found.a.T)
    if not spatial:
        return found.b.reshape(rank, *w.shape[1:]), found.a.reshape(len(w), rank, *[1] * (w.ndim - 2))
    assert layer.cut is not None
    vertical = layer.cut.vertical[:rank]
    return vertical[..., None], found.a.reshape(len(w), rank, 1, layer.cut.width)


def _attributes(node: ir.Node, spatial: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the first and of the second node."""
    if node.op_type == "MatMul":
        return {}, {}
    if node.op_type == "Gemm":
        turned = {"transB": 1} if walk.attribute(node, "transB", 0) else {}
        return dict(turned), {**turned, "beta": walk.attribute(node, "beta", 1.0)}
    names = ("auto_pad", "dilations", "pads", "strides")
    given = {n: walk.attribute(node, n, None) for n in names if n in node.attributes}
    if not spatial:
        return given, {}
    first, second = dict(given), dict(given)
    for name in set(given) & {"dilations", "strides"}:
        first[name], second[name] = [given[name][0], 1], [1, given[name][1]]
    if "pads" in given:
        top, left, bottom, right = given["pads"]
        first["pads"], second["pads"] = [top, 0, bottom, 0], [0, left, 0, right]
    return first, second


def _parsed(ranks: tuple[str, ...], nodes: Mapping[str, ir.Node]) -> dict[str, tuple[int, str]]:
    """``"node=32:spatial"`` to first output, rank and kind."""
    by_name = {n.name or output: output for output, n in nodes.items()} | {output: output for output in nodes}
    found = {}
    for entry in ranks:
        name, _, told = entry.rpartition("=")
        number, _, kind = told.partition(":")
        if name not in by_name:
            raise UsageError(f"factorize knows no linear node {name!r}", help=did_you_mean(name, by_name))
        most = _most(nodes[by_name[name]], kind)
        if not number.isdigit() or not 1 <= int(number) <= most or kind not in ("", *KINDS):
            raise UsageError(
                f"factorize cannot give {name!r} the rank {told!r}", help=f"write 1 to {most}, then :spatial if meant"
            )
        found[by_name[name]] = (int(number), kind or "channel")
    return found


def _most(node: ir.Node, kind: str) -> int:
    """The full rank: of the matrix, or of the kernel's rows beside its columns."""
    view, w = affine(node), walk.constant(node.inputs[1])
    if kind == "spatial" and node.op_type == "Conv" and w is not None and w.ndim == 4:
        return int(min(w.shape[0] * w.shape[3], w.shape[1] * w.shape[2]))
    return min(view.w.shape) if view is not None else 0
