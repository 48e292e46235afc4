"""Static eight-bit quantization: round weights and activations, and say so with QuantizeLinear / DequantizeLinear.

x -> Conv(W, b) -> Relu -> y      =>      x -> Q -> DQ -> Conv(DQ(W8), DQ(b32)) -> Relu -> Q -> DQ -> y
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.model import Model
from hasten.passes import patterns
from hasten.passes.placement import Placement, place
from hasten.passes.rounding import keep_float, write
from hasten.protocols import Context, NotApplicable
from hasten.quant import ranges

SCHEMES = ("onnxruntime", "openvino", "litert")
OPERATORS = ("all", "linear", "conv", "matmul")
BIASES = ("kept", "corrected")
SINCE = 13  # per-channel DequantizeLinear


@dataclass(frozen=True)
class Quantize:
    """Activations to uint8 with a zero point, weights to int8 per output channel, biases to int32.

    ``scheme`` places the rounding as that engine fuses it. ``ranges`` is a method of ``quant.ranges``.
    ``operators``: ``all`` also keeps the operators between two linear ones in eight bits; ``linear`` only Conv,
    ConvTranspose, MatMul and Gemm; ``conv`` and ``matmul`` only those of them. ``depthwise="float"`` leaves depthwise
    convolutions out, ``ends="float"`` the first and the last linear operator. ``bias="corrected"`` takes off biases
    what rounding the weights adds on average. ``exclude`` and ``include`` hold node names, output names or operator
    types, ``*`` allowed; an empty ``include`` means all. ``overrides`` are pairs ``"tensor=method"`` for tensors that
    need a range of their own. ``per_channel=False`` gives a weight one scale. ``attention="int8"`` also rounds what
    products of two computed tensors read, for OpenVINO; which is faster differs from network to network.

    Raises:
        NotApplicable: the network is quantized already, older than operator set 13, or has nothing to quantize.
        UsageError: an option is none of those above.
    """

    scheme: str = "onnxruntime"
    ranges: str = "minmax"
    operators: str = "all"
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    depthwise: str = "int8"
    ends: str = "int8"
    bias: str = "kept"
    overrides: tuple[str, ...] = ()
    per_channel: bool = True
    attention: str = "float"

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(self.exclude))  # a recipe read from JSON brings lists
        object.__setattr__(self, "include", tuple(self.include))
        object.__setattr__(self, "overrides", tuple(self.overrides))
        for option, known in (
            ("scheme", SCHEMES),
            ("operators", OPERATORS),
            ("ranges", ranges.METHODS),
            ("bias", BIASES),
        ):
            if getattr(self, option) not in known:
                raise UsageError(
                    f"quantize has no {option} {getattr(self, option)!r}",
                    help=did_you_mean(getattr(self, option), known),
                )
        for option in ("depthwise", "ends", "attention"):
            if getattr(self, option) not in ("int8", "float"):
                raise UsageError(f"quantize has no {option} {getattr(self, option)!r}", help="write int8 or float")
        for pair in self.overrides:
            tensor, _, method = pair.rpartition("=")
            if not tensor or method not in ranges.METHODS:
                form = f"write tensor=method, with a method of {', '.join(ranges.METHODS)}"
                raise UsageError(f"quantize cannot read the override {pair!r}", help=form)

    def __call__(self, model: Model, context: Context) -> Model:
        _check(model.graph)
        graph = model.clone_graph()
        edit.infer(graph)
        plan = self.placement(graph)
        if not plan.linear:
            raise NotApplicable(_why_nothing(graph))
        own = self.methods(graph, plan)
        write(
            graph, plan, lambda name: own.get(name, self.ranges), context.stats(model, *plan.needs()),
            bias32=self.scheme != "openvino", per_channel=self.per_channel, correct=self.bias == "corrected",
        )  # fmt: skip
        if self.scheme == "onnxruntime":
            keep_float(graph)
        edit.prune(graph)  # the float weights
        return model.with_graph(graph, repr(self))

    def placement(self, graph: ir.Model) -> Placement:
        """Where the rounding goes in a graph whose types are known, nothing changed."""
        chain, attention = self.operators != "linear", self.attention == "int8"
        return place(graph, self.scheme, self._choice(graph), chain=chain, attention=attention)

    def methods(self, graph: ir.Model, plan: Placement) -> dict[str, str]:
        """The range method of each tensor that has one of its own; tensors that must share its scale follow it.

        Raises:
            UsageError: an override names a tensor that the network does not have.
        """
        wanted = dict(pair.rpartition("=")[::2] for pair in self.overrides)
        known = edit.names(graph)
        for name in sorted(set(wanted) - known):
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else "tensors are named as in the cleaned network"
            raise UsageError(f"there is no tensor {name!r} to override", help=hint)
        found = {}
        for group in plan.groups():
            named = [wanted[v.name] for v in group if v.name in wanted]
            found.update({v.name or "": named[0] for v in group if named})
        return found

    def _choice(self, graph: ir.Model) -> Wanted:
        linear = [n for n in graph.graph if walk.weight(n)]
        kinds = {"conv": ("Conv", "ConvTranspose"), "matmul": ("MatMul", "Gemm")}.get(self.operators, walk.LINEAR)
        ends = {linear[0], linear[-1]} if linear and self.ends == "float" else set()
        return Wanted(self.include, self.exclude, kinds, self.depthwise == "float", frozenset(ends))


@dataclass(frozen=True)
class Wanted:
    """Does the caller want this linear node in eight bits?"""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    kinds: tuple[str, ...]
    skip_depthwise: bool
    ends: frozenset[ir.Node]

    def __call__(self, node: ir.Node) -> bool:
        if node.op_type not in self.kinds or node in self.ends or (self.skip_depthwise and walk.depthwise(node)):
            return False
        if self.include and not _matches(node, self.include):
            return False
        return not _matches(node, self.exclude)


def _matches(node: ir.Node, names: tuple[str, ...]) -> bool:
    own = (walk.label(node), node.outputs[0].name or "", node.op_type)
    return any(fnmatchcase(name, pattern) for name in own for pattern in names)


def _check(graph: ir.Model) -> None:
    found = patterns.quantized_already(graph)
    if found:
        raise NotApplicable(f"the network is quantized already: {found}")
    if walk.opset(graph) < SINCE:
        raise NotApplicable(f"operator set {walk.opset(graph)} has no per-channel DequantizeLinear; {SINCE} has")


def _why_nothing(graph: ir.Model) -> str:
    inside = patterns.in_bodies(graph)
    if inside:
        return f"all {inside} linear operators lie inside If or Loop bodies"
    return "there is no Conv, MatMul or Gemm with constant float32 weights to quantize"


def variants(scheme: str) -> tuple[Quantize, ...]:
    """What a search should try for an engine: the fastest first, then other ranges, then more left in float."""
    best = Quantize(scheme=scheme)
    more: list[dict[str, str]] = [
        {"ranges": "p99.999"},
        {"ranges": "mse"},
        {"ranges": "mean_minmax"},
        {"ends": "float"},
    ]
    more += [{"operators": "conv"}, {"operators": "matmul"}, {"depthwise": "float"}]
    return (best, *(replace(best, **options) for options in more))  # type: ignore[arg-type]
