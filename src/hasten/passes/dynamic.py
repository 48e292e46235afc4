"""Dynamic eight-bit quantization of matrix products: weights now, activations as they come, no calibration data.

    x -> MatMul(W) -> + b      =>      x -> DynamicQuantizeLinear -> MatMulInteger(W8) -> Cast -> * (s_x * s_w) -> + b

ONNX Runtime fuses that chain into one node. Convolutions stay: its integer convolution is slower than the float one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit, walk
from hasten.model import Model
from hasten.passes import patterns
from hasten.protocols import Context, NotApplicable
from hasten.quant import grid

OPERATORS = ("MatMul", "Gemm", "LSTM")
SINCE = 11  # DynamicQuantizeLinear
CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class QuantizeDynamic:
    """Weights of MatMul, Gemm and LSTM to int8; activations to uint8 at run time, with the range of each tensor.

    Weights get one scale per output column with ``per_channel``, else one in all. ``operators`` names the operator
    types to take; ``exclude`` node names to leave out, ``*`` allowed. If and Loop bodies are included.

    Raises:
        NotApplicable: the network is quantized already, older than operator set 11, or has nothing to quantize.
        UsageError: an operator type is none of MatMul, Gemm, LSTM.
    """

    per_channel: bool = True
    operators: tuple[str, ...] = OPERATORS
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "operators", tuple(self.operators))  # a recipe read from JSON brings lists
        object.__setattr__(self, "exclude", tuple(self.exclude))
        for name in self.operators:
            if name not in OPERATORS:
                raise UsageError(f"quantize_dynamic has no operator {name!r}", help=did_you_mean(name, OPERATORS))

    def __call__(self, model: Model, context: Context) -> Model:
        found = patterns.quantized_already(model.graph)
        if found:
            raise NotApplicable(f"the network is quantized already: {found}")
        if walk.opset(model.graph) < SINCE:
            raise NotApplicable(f"operator set {walk.opset(model.graph)} has no DynamicQuantizeLinear; {SINCE} has")
        graph = model.clone_graph()
        chosen = [n for g in graph.graphs() for n in g if self._takes(n)]
        if not chosen:
            raise NotApplicable(f"there is no {' or '.join(self.operators)} with constant float32 weights to quantize")
        taken, shared = edit.names(graph), dict[ir.Value, Sequence[ir.Value]]()
        for node in chosen:
            if node.op_type == "LSTM":
                graph.graph.opset_imports.setdefault(CONTRIB, 1)
                _lstm(node, self.per_channel, taken)
            else:
                _product(node, self.per_channel, shared, taken)
        edit.prune(graph)  # the float weights
        return model.with_graph(graph, repr(self))

    def _takes(self, node: ir.Node) -> bool:
        name = walk.label(node)
        if node.op_type not in self.operators or any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return False
        if node.op_type == "LSTM":
            arrays = [walk.constant(v) for v in node.inputs[1:3]]
            return node.domain == "" and all(a is not None and a.dtype == np.float32 for a in arrays)
        weight = walk.weight(node)
        if weight is None or weight.value.shape is None or len(weight.value.shape) != 2:
            return False
        plain = not walk.attribute(node, "transA", 0) and walk.attribute(node, "alpha", 1.0) == 1.0
        return plain and walk.attribute(node, "beta", 1.0) == 1.0


def _stored(node: ir.Node, name: str, array: walk.Array, taken: set[str]) -> ir.Value:
    assert isinstance(node.graph, ir.Graph)
    return edit.add_constant(node.graph, edit.fresh(taken, name), array)


def _scale(w: walk.Array, over: tuple[int, ...], per_channel: bool) -> walk.Array:
    magnitude = np.abs(w).max(axis=over) if per_channel else np.abs(w).max()
    return grid.symmetric(magnitude, grid.S8)[0]


def _product(node: ir.Node, per_channel: bool, shared: dict[ir.Value, Sequence[ir.Value]], taken: set[str]) -> None:
    x, source = node.inputs[0], node.inputs[1]
    w = walk.constant(source)
    assert x is not None
    assert source is not None
    assert w is not None
    w = w.T if walk.attribute(node, "transB", 0) else w
    scale = _scale(w, (0,), per_channel)
    codes = grid.quantize(w, scale, np.zeros(scale.shape, np.int8), grid.S8, 1)
    if x not in shared:
        shared[x] = _observed(node, x, taken)
    x8, x_scale, x_zero = shared[x]
    base = node.outputs[0].name or "y"

    def add(op_type: str, inputs: Sequence[ir.Value | None], suffix: str, **attributes: int) -> ir.Value:
        return edit.add_node(node, op_type, inputs, edit.fresh(taken, f"{base}/{suffix}"), attributes)

    w8 = _stored(node, f"{source.name}/int8", codes, taken)
    w_zero = _stored(node, f"{source.name}/zero", np.zeros(scale.shape, np.int8), taken)
    total = add("MatMulInteger", [x8, w8, x_zero, w_zero], "int32")
    step = add("Mul", [x_scale, _stored(node, f"{source.name}/scale", scale, taken)], "scale")
    y = add("Mul", [add("Cast", [total], "float", to=ir.DataType.FLOAT.value), step], "product")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        y = add("Add", [y, node.inputs[2]], "biased")
    edit.replace(node.outputs[0], y)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def _observed(node: ir.Node, x: ir.Value, taken: set[str]) -> tuple[ir.Value, ...]:
    """(codes, scale, zero point) of ``x``, right behind its producer so that every product may share them."""
    outputs = [ir.Value(name=edit.fresh(taken, f"{x.name}/{part}")) for part in ("u8", "scale", "zero")]
    observer = ir.node("DynamicQuantizeLinear", [x], outputs=outputs, name=outputs[0].name)
    producer = x.producer()
    graph = producer.graph if producer is not None else _home(x, node)
    assert graph is not None
    if producer is not None:
        graph.insert_after(producer, observer)
    else:
        graph.insert_before(graph[0], observer)
    return tuple(outputs)


def _home(x: ir.Value, node: ir.Node) -> ir.Graph | ir.Function | None:
    """The graph that ``x`` is an input of, seen from a node that reads it."""
    return x.graph if x.graph is not None else node.graph


def _lstm(node: ir.Node, per_channel: bool, taken: set[str]) -> None:
    """LSTM becomes ONNX Runtime's DynamicQuantizeLSTM: weights [directions, input, 4 hidden], scales per column."""
    inputs: list[ir.Value | None] = [*node.inputs, *[None] * (8 - len(node.inputs))]
    extra: list[ir.Value] = []
    for index, name in ((1, "W"), (2, "R")):
        w = walk.constant(node.inputs[index])
        assert w is not None
        columns = np.ascontiguousarray(w.transpose(0, 2, 1))
        flat = _scale(columns, (1,), True) if per_channel else _scale(columns, (1, 2), True)
        spread = flat[:, None, :] if per_channel else flat[:, None, None]
        codes = np.clip(np.rint(columns / spread), grid.S8.qmin, grid.S8.qmax).astype(np.int8)
        base = f"{node.outputs[0].name or node.name}/{name}"
        inputs[index] = _stored(node, f"{base}8", codes, taken)
        extra += [
            _stored(node, f"{base}/scale", flat, taken),
            _stored(node, f"{base}/zero", np.zeros(flat.shape, np.int8), taken),
        ]
    outputs = [ir.Value(name=edit.fresh(taken, f"{o.name}/lstm") if o.name else "") for o in node.outputs]
    new = ir.Node(
        CONTRIB,
        "DynamicQuantizeLSTM",
        [*inputs, *extra],
        list(node.attributes.values()),
        outputs=outputs,
        name=node.name,
    )
    assert node.graph is not None
    node.graph.insert_before(node, new)
    for old, output in zip(node.outputs, outputs, strict=True):
        edit.replace(old, output)
    node.graph.remove(node, safe=True)
