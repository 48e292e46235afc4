"""Cross-layer equalisation: the channels between two layers share out their ranges (Nagel et al. 2019).

    Conv(W1, b1) -> Relu -> Conv(W2)      =>   Conv(W1 / s, b1 / s) -> Relu -> Conv(W2 * s)
    Conv(W1) -> Clip(0, 6) -> Conv(W2)    =>   Conv(W1 / s) -> Relu -> Min(6 / s) -> Conv(W2 * s)

The function stays; what a scale for a whole tensor must cover becomes smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError
from hasten.graph import edit, walk
from hasten.graph.extremes import Reach, reaches
from hasten.graph.linear import Linear
from hasten.graph.walk import Array
from hasten.model import Model
from hasten.passes import channels, patterns
from hasten.protocols import Context, NotApplicable
from hasten.quant.equalise import balance

CLIPS = ("split", "skip")
SETTLED = 1e-3  # no factor farther from 1 than this: done
SIGMAS = 3  # bias absorption


@dataclass(frozen=True)
class Equalize:
    """Balance the weight ranges of layers that follow one another, through depthwise ones as well.

    Taken are pairs of Conv, Gemm and MatMul with constant weights and nothing but Relu, LeakyRelu, PRelu, Clip from 0,
    pooling, constant additions and transpositions in between, where nobody else reads what lies there; several
    readers count together. All pairs take turns, at most ``iterations`` times, until no factor moves.
    ``clip="split"`` gives a Clip's upper bound to a Min with a number per channel (a node more, that runs in float);
    ``skip`` leaves such pairs alone. With ``absorb`` the part of a bias that lifts a channel above 0 on every sample
    and by three deviations moves into the bias behind (section 4.1.3); it changes nothing but samples of a kind that
    calibration has not seen.

    Raises:
        NotApplicable: the network is quantized already, or has no such pair that is out of balance.
        UsageError: ``clip`` is neither.
    """

    iterations: int = 20
    clip: str = "split"
    absorb: bool = False

    def __post_init__(self) -> None:
        if self.clip not in CLIPS:
            raise UsageError(f"equalize has no clip {self.clip!r}", help="write split or skip")

    def __call__(self, model: Model, context: Context) -> Model:
        found = patterns.quantized_already(model.graph)
        if found:
            raise NotApplicable(f"the network is quantized already: {found}")
        graph = model.clone_graph()
        edit.infer(graph)
        pairs = [p for p in pairs_of(graph) if self.clip == "split" or not p.source.clips]
        if not pairs:
            raise NotApplicable("no two linear layers follow one another with only Relu, Clip or pooling in between")
        constants = Constants()
        for _ in range(self.iterations):
            if _take_turns(pairs, constants) < SETTLED:
                break
        absorbed = self.absorb and _absorb(model, pairs, constants, context)
        if not absorbed and all(np.abs(p.factor - 1).max() < SETTLED for p in pairs):
            raise NotApplicable("the linear layers that follow one another are in balance already")
        taken = edit.names(graph)
        constants.write(graph, taken)
        for pair in pairs:
            for clip, axis in pair.source.clips:
                _split(graph, clip, axis, pair.factor, taken)
        edit.prune(graph)
        return model.with_graph(graph, repr(self))


@dataclass(eq=False)
class Pair:
    """A tensor between a layer and its readers; ``factor`` is what it has been divided by so far, per channel."""

    value: ir.Value
    source: channels.Source
    layer: ir.Node
    readers: list[Linear]
    factor: Array


class Constants:
    """The new constants so far, float64, by node and input; written into the graph at the end."""

    def __init__(self) -> None:
        self.arrays: dict[tuple[ir.Node, int], Array] = {}

    def __getitem__(self, key: tuple[ir.Node, int]) -> Array:
        if key not in self.arrays:
            found = walk.constant(key[0].inputs[key[1]])
            assert found is not None
            self.arrays[key] = found.astype(np.float64)
        return self.arrays[key]

    def __setitem__(self, key: tuple[ir.Node, int], array: Array) -> None:
        self.arrays[key] = array

    def write(self, graph: ir.Model, taken: set[str]) -> None:
        for (node, index), array in self.arrays.items():
            node.resize_inputs(max(len(node.inputs), index + 1))
            channels.write(graph, node, index, array, taken, "equalized")


def pairs_of(graph: ir.Model) -> list[Pair]:
    """Every pair of the main graph, in the order of execution."""
    found: list[Pair] = []
    for value in dict.fromkeys(n.inputs[0] for n in graph.graph if walk.weight(n)):
        if value is None:
            continue
        layers, alone = channels.readers(value)
        if not alone or not layers or len({channels.channel_axis(layer) for layer in layers}) > 1:
            continue
        source = channels.source(value, channels.channel_axis(layers[0]))
        if source is not None and source.linear is not None:
            ones = np.ones(channels.channels(layers[0]))
            found.append(Pair(value, source, source.linear, layers, ones))
    return found


def _take_turns(pairs: list[Pair], constants: Constants) -> float:
    """Balance each pair once; returns how far from 1 the farthest factor was."""
    farthest = 0.0
    for pair in pairs:
        factor = balance(_rows_range(pair, constants), _columns_range(pair, constants))
        farthest = max(farthest, float(np.abs(factor - 1).max(initial=0)))
        for holder in pair.source.holders:
            key = holder.node, holder.index
            constants[key] = channels.scaled(constants[key], holder, factor)
        for layer in pair.readers:
            stretched = layer.matrix(constants[layer.node, 1]) * channels.per_column(layer, factor)
            constants[layer.node, 1] = layer.restored(stretched)
        pair.factor = pair.factor * factor
    return farthest


def _rows_range(pair: Pair, constants: Constants) -> Array:
    held = next(h for h in pair.source.holders if h.node is pair.layer and h.index == 1)
    w = np.abs(constants[pair.layer, 1])
    return np.asarray(w.max(axis=tuple(i for i in range(w.ndim) if i != w.ndim + held.axis)))


def _columns_range(pair: Pair, constants: Constants) -> Array:
    each = [
        channels.per_channel(layer, np.abs(layer.matrix(constants[layer.node, 1])).max(axis=1))
        for layer in pair.readers
    ]
    return np.asarray(np.max(each, axis=0))


def _split(graph: ir.Model, clip: ir.Node, axis: int, factor: Array, taken: set[str]) -> None:
    """Clip(0, high) -> y    =>    Relu -> Min(high / s) -> y"""
    high = walk.scalar(clip.inputs[2]) if len(clip.inputs) > 2 else None
    name = clip.outputs[0].name or "clip"
    new = edit.add_node(clip, "Relu", [clip.inputs[0]], edit.fresh(taken, f"{name}/relu"))
    new.shape, new.type = clip.outputs[0].shape, clip.outputs[0].type
    if high is not None:
        bounds = (high / factor).reshape(-1, *[1] * (-1 - axis)).astype(np.float32)
        bound = edit.add_constant(graph.graph, edit.fresh(taken, f"{name}/bounds"), bounds)
        new = edit.add_node(clip, "Min", [new, bound], edit.fresh(taken, f"{name}/bounded"))
    edit.replace(clip.outputs[0], new)
    graph.graph.remove(clip, safe=True)


def _absorb(model: Model, pairs: list[Pair], constants: Constants, context: Context) -> bool:
    """Move what lifts a channel above 0 into the next bias: ``c = max(0, mean - 3 deviations)``, ``b1 -= c``,
    ``b2 += W2 c``; never more than the lowest value seen. Exact where no sample falls below c."""
    able = [p for p in pairs if _can_absorb(p)]
    axes = {p.layer.outputs[0].name or "": channels.channel_axis(p.readers[0]) for p in able}
    seen = reaches(model, axes, context.feeds) if able else {}
    done = False
    for pair in able:
        reach = seen.get(pair.layer.outputs[0].name or "")
        c = _lift(reach) / pair.factor if reach is not None else np.zeros(1)
        if not c.any():
            continue
        done = True
        constants[pair.layer, 2] = constants[pair.layer, 2] - c
        for layer in pair.readers:
            w = layer.matrix(constants[layer.node, 1])
            more = (w * channels.per_column(layer, c)).sum(axis=-1).reshape(-1)
            has = len(layer.node.inputs) > 2 and layer.node.inputs[2] is not None
            constants[layer.node, 2] = (constants[layer.node, 2] if has else 0) + more
    return done


def _lift(reach: Reach) -> Array:
    return np.maximum(0, np.minimum(reach.low, reach.mean - SIGMAS * reach.deviation))


def _can_absorb(pair: Pair) -> bool:
    """A bias to take from, a Relu at most in between, and readers that take a bias and pad nothing."""
    has_bias = pair.layer.op_type in ("Conv", "Gemm") and len(pair.layer.inputs) > 2
    plain = set(pair.source.between) <= {"Relu"} and walk.attribute(pair.layer, "beta", 1.0) == 1.0
    takes = all(
        layer.node.op_type in ("Conv", "Gemm")
        and walk.attribute(layer.node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and not any(walk.attribute(layer.node, "pads", [0]))
        and walk.attribute(layer.node, "alpha", 1.0) == walk.attribute(layer.node, "beta", 1.0) == 1.0
        for layer in pair.readers
    )
    known = all(len(r.node.inputs) < 3 or walk.constant(r.node.inputs[2]) is not None for r in pair.readers)
    return has_bias and plain and takes and known and walk.attribute(pair.layer, "alpha", 1.0) == 1.0
