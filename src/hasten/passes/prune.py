"""Take out channels, heads and hidden neurons that matter least, and make up for them.

x -> Conv(W[64, ...]) -> Relu -> Conv(V[32, 64, ...]) -> y      =>
x -> Conv(W[48, ...]) -> Relu -> Conv(V'[32, 48, ...]) -> y
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.graph.affine import RECURRENT, affine
from hasten.graph.channels import Channels, Group, channels
from hasten.graph.cut import cut
from hasten.model import Model
from hasten.passes import importance, patterns, repair
from hasten.protocols import Context, NotApplicable
from hasten.quant.elimination import Elimination

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Prune:
    """Fewer channels in every group of channels that hang together (``graph.channels``).

    ``keep`` is the share of each group that stays, rounded to a multiple of ``multiple`` channels; or ``counts`` says
    it group by group as ``"conv1=48"`` (units: channels, or heads) and leaves the others alone. ``importance`` picks
    what goes: ``compensated``, ``energy`` (both without labels) or ``magnitude``. ``repair`` refits what reads the
    rest: ``once``, ``sequential``, ``bias`` or ``none``; ``ridge`` is in shares of the input's mean variance.

    Raises:
        NotApplicable: the network is quantized, or no channels can go.
        UsageError: an option is none of those above, or a group is unknown.
    """

    keep: float = 0.75
    counts: tuple[str, ...] = ()
    multiple: int = 8
    importance: str = "compensated"
    repair: str = "once"
    ridge: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(self.counts))  # a recipe read from JSON brings lists
        for option, known in (("importance", importance.METHODS), ("repair", repair.METHODS)):
            given = getattr(self, option)
            if given not in known:
                raise UsageError(f"prune has no {option} {given!r}", help=did_you_mean(given, known))
        if not 0 < self.keep <= 1:
            raise UsageError(f"prune cannot keep {self.keep} of the channels", help="write a share above 0, up to 1")

    def __call__(self, model: Model, context: Context) -> Model:
        graph, found = prepared(model)
        counts = self._counts(found)
        chosen = [g for g in found.groups if counts.get(g.name, len(g.units)) < len(g.units)]
        if not chosen:
            raise NotApplicable(f"no group of channels is large enough to keep {self.keep:g} of it")
        orders = ranked(model, graph, found, chosen, context, self.importance)
        gone = [g.units[i] for g in chosen for i in orders[g.name].order[: len(g.units) - counts[g.name]]]
        removed = found.never_empty(gone)
        smaller = cut(graph, found, removed)
        repair.repair(graph, smaller, remaining(graph, found, removed), context.feeds, self.repair, self.ridge)
        edit.prune(smaller)
        return model.with_graph(smaller, repr(self))

    def _counts(self, found: Channels) -> dict[str, int]:
        """Units that stay, by group."""
        if self.counts:
            return _parsed(self.counts, {g.name: g for g in found.groups})
        return {g.name: rounded(self.keep, g, self.multiple) for g in found.groups}


def prepared(model: Model) -> tuple[ir.Model, Channels]:
    """A copy with constants as initialisers and inferred shapes, and its channels.

    Raises:
        NotApplicable: the network is quantized already, or has no channels that could go.
    """
    from onnx_ir.passes import common

    quantized = patterns.quantized_already(model.graph)
    if quantized:
        raise NotApplicable(f"the network is quantized already: {quantized}")
    graph = model.clone_graph()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    edit.infer(graph)
    found = channels(graph)
    if not found.groups:
        raise NotApplicable("no channels can go: what is written never meets only linear readers")
    return graph, found


def ranked(
    model: Model, graph: ir.Model, found: Channels, groups: Sequence[Group], context: Context, method: str
) -> Mapping[str, Elimination]:
    """``importance.eliminations`` of these groups, each worked out once for all candidates."""
    kept = context.kept.setdefault(("prune", repr(model.history), method), {})
    missing = [g for g in groups if g.name not in kept]
    kept.update(importance.eliminations(graph, found, missing, context.feeds, method) if missing else {})
    return {g.name: kept[g.name] for g in groups}


def rounded(keep: float, group: Group, multiple: int) -> int:
    """How many units stay: a share, as a multiple of ``multiple`` channels; small groups stay whole."""
    step = max(1, multiple // group.width)
    if len(group.units) <= step:
        return len(group.units)
    return min(len(group.units), max(step, round(keep * len(group.units) / step) * step))


def _parsed(counts: tuple[str, ...], groups: Mapping[str, Group]) -> dict[str, int]:
    found = {}
    for entry in counts:
        name, _, number = entry.rpartition("=")
        if name not in groups:
            raise UsageError(f"prune knows no group {name!r}", help=did_you_mean(name, groups))
        if not number.isdigit() or not 1 <= int(number) <= len(groups[name].units):
            raise UsageError(
                f"prune cannot keep {number!r} units of {name!r}", help=f"write 1 to {len(groups[name].units)}"
            )
        found[name] = int(number)
    return found


def remaining(graph: ir.Model, found: Channels, removed: list[int]) -> repair.Kept:
    """For a linear node, by its first output: the rows and the columns of its matrix that stay."""
    nodes, gone = {n.outputs[0].name: n for n in graph.graph}, np.array(sorted(removed), np.int64)

    def along(value: ir.Value | None, axis: int, count: int, spread: int) -> Ints:
        name = (value.name if value is not None else None) or ""
        at = found.kept(name, axis % len(found.units[name]), gone) if name in found.units else None
        at = np.arange(count // spread) if at is None else at
        return (at[:, None] * spread + np.arange(spread)).reshape(-1)

    def kept(name: str) -> tuple[Ints, Ints]:
        node, view = nodes[name], affine(nodes[name])
        assert view is not None
        outputs, columns = view.w.shape
        axis = 1 if node.op_type in ("Conv", "ConvTranspose") else -1
        under = outputs // _outputs(node) if node.op_type == "ConvTranspose" else 1
        rows = np.arange(outputs) if node.op_type in RECURRENT else along(node.outputs[0], axis, outputs, under)
        return rows, along(node.inputs[0], axis, columns, view.spread)

    return kept


def _outputs(node: ir.Node) -> int:
    weight = walk.weight(node)
    array = walk.constant(weight.value) if weight is not None else None
    assert array is not None
    return int(array.shape[1])
