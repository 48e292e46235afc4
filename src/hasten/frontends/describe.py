"""What ``hasten inspect`` says of a network, from the graph alone: nothing is run."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from hasten.frontends.shapes import fixed, inferred
from hasten.graph import walk, wide
from hasten.model import Model
from hasten.safety.walk import KNOWN_DOMAINS, RUNTIME_DOMAINS

QUANTIZED = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd"),
        *("QLinearMul", "MatMulInteger", "ConvInteger", "MatMulNBits", "QAttention", "QGemm", "DynamicQuantizeMatMul"),
        "DynamicQuantizeLSTM",
    }
)
CONTROL = frozenset({"If", "Loop", "Scan"})
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN"})

logging.getLogger("onnx_ir").addHandler(logging.NullHandler())  # what it cannot infer is None here, not a traceback


def describe(model: Model, told: Sequence[str] = ()) -> dict[str, Any]:
    """Facts about a network as JSON values; ``macs`` is for a batch of 1, or None where shapes are not known.

    ``told`` are sentences about what was changed when the file was read.
    """
    nodes = list(_nodes(model.graph))
    ops = Counter(node.op_type for node in nodes)
    weights = list(_weights(model.graph))
    floats = [w for w in weights if w.dtype.is_floating_point()]
    types = (ir.DataType.FLOAT, *wide.other_types(model.graph))
    classical = sum(map(_numbers, nodes))
    own = {(key[0], key[1]) for key in model.graph.functions}
    known = KNOWN_DOMAINS | RUNTIME_DOMAINS
    custom = {f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in known and (n.domain, n.op_type) not in own}
    facts: dict[str, Any] = {
        "opset": model.graph.opset_imports.get("", None),
        "domains": dict(model.graph.opset_imports),
        "ir_version": model.graph.ir_version,
        "producer": " ".join(filter(None, (model.graph.producer_name, model.graph.producer_version))),
        "inputs": [str(spec) for spec in model.inputs],
        "outputs": [str(spec) for spec in model.outputs],
        "nodes": len(nodes),
        "parameters": sum(w.size for w in floats) + classical,
        "weight_bytes": sum(w.nbytes for w in weights) + 4 * classical,
        "weight_types": dict(Counter(w.dtype.name.lower() for w in floats)),
        "macs": count_macs(model),
        "ops": dict(ops.most_common()),
        "quantized": sorted(QUANTIZED & ops.keys()),
        "control_flow": sorted(CONTROL & ops.keys()),
        "custom_ops": sorted(custom),
        "runtime_ops": sorted({f"{n.domain}::{n.op_type}" for n in nodes if n.domain in RUNTIME_DOMAINS}),
        "changed": [*told, *filter(None, [wide.told(model.graph)])],
        "dynamic": [
            f"{s.name}: axis {i} ({d or 'any'})"
            for s in model.inputs
            for i, d in enumerate(s.shape)
            if not isinstance(d, int)
        ],
    }
    return facts | {"ideas": ideas(facts, Counter(n.op_type for n in nodes if narrowable(n, types)))}


def narrowable(node: ir.Node, types: Sequence[ir.DataType] = (ir.DataType.FLOAT,)) -> bool:
    """True where a pass takes the node's weights: constant, of one of these types, of an operator that it knows."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in (*walk.LINEAR, "LSTM") or len(node.inputs) < 2:
        return False
    tensor = None if node.inputs[1] is None else ir.convenience.get_const_tensor(node.inputs[1])
    return tensor is not None and tensor.dtype in types and len(list(tensor.shape)) > 1


def _numbers(node: ir.Node) -> int:
    """How many floating numbers a tree, a linear model or a kernel machine of ``ai.onnx.ml`` holds."""
    if node.domain != "ai.onnx.ml":
        return 0
    lists = (a for a in node.attributes.values() if not a.is_ref() and a.type == ir.AttributeType.FLOATS)
    return sum(len(a.as_floats()) for a in lists)


def cautions(facts: Mapping[str, Any]) -> list[str]:
    """What was changed at the door, and what keeps a network from being rewritten or moved, with the way out."""
    return [*facts["changed"], *_unreadable(facts)]


def _unreadable(facts: Mapping[str, Any]) -> list[str]:
    if any(op.startswith("com.microsoft.nchwc::") for op in facts["runtime_ops"]):
        return [
            "ONNX Runtime's optimiser wrote this file for one kind of processor (com.microsoft.nchwc): no pass and no "
            "other engine reads it; give the file from before that optimisation"
        ]
    return []


def ideas(facts: dict[str, Any], narrow: Mapping[str, int]) -> list[str]:
    """What is worth a try, and what to mind, in sentences. ``narrow`` counts the operators that passes can narrow."""
    ops, found = facts["ops"], _unreadable(facts)
    heavy = {op: narrow[op] for op in sorted(narrow)}
    if facts["quantized"]:
        found.append(f"already quantized ({', '.join(facts['quantized'])}): only lossless settings will be tried")
    elif heavy:
        found.append("int8 for " + ", ".join(f"{count} {op}" for op, count in heavy.items()))
        found.append("bf16 or f16 where the processor has the arithmetic")
    else:
        types = [name for name in facts["weight_types"] if name != "float"] if HEAVY & ops.keys() else []
        held = f" (its weights are {', '.join(types)})" if types else ""
        found.append(f"no float32 weights to narrow{held}: only lossless settings will be tried")
    if ops.get("BatchNormalization"):
        found.append(f"fold {ops['BatchNormalization']} batch normalisations")
    if facts["control_flow"]:
        found.append(f"control flow ({', '.join(facts['control_flow'])}): bodies are kept as they are")
    if facts["custom_ops"]:
        found.append(f"custom operators ({', '.join(facts['custom_ops'])}): stock runtimes cannot run them")
    if random := sorted(RANDOM & ops.keys()):
        found.append(f"random operators ({', '.join(random)}): answers may differ from run to run")
    return found


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, also in bodies and functions."""
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def _weights(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Initialisers of all graphs and the tensors of Constant nodes."""
    for graph in model.graphs():
        yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)
    for node in _nodes(model):
        if node.op_type == "Constant" and "value" in node.attributes:
            tensor = node.attributes["value"].as_tensor()
            if tensor.size > 1:
                yield tensor


def count_macs(model: Model) -> int | None:
    """Multiply-accumulates of one run at batch 1; None when shapes stay unknown.

    Recurrent layers count all their gates at the sequence length known; bodies of If and Loop make it None.
    """
    try:
        nodes = list(_nodes(model.graph))
        if any(node.op_type in CONTROL for node in nodes):
            return None
        if not any(node.op_type in HEAVY for node in nodes):
            return 0
        shapes = inferred(model)
        return sum(_node_macs(node, shapes) for node in model.graph.graph if node.op_type in HEAVY)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        return None


def _node_macs(node: ir.Node, shapes: dict[str, list[int | None]]) -> int:
    def dims(value: ir.Value | None) -> list[int]:
        return fixed(shapes, value)

    def size(value: ir.Value | None) -> int:
        return math.prod(dims(value))

    first, weight, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if node.op_type == "Conv":
        return size(out) * math.prod(dims(weight)[1:])
    if node.op_type == "ConvTranspose":
        return size(first) * math.prod(dims(weight)[1:])
    if node.op_type in ("MatMul", "Gemm"):
        transposed = node.attributes.get_int("transA", 0) if node.op_type == "Gemm" else 0
        return size(out) * dims(first)[0 if transposed else -1]
    steps, batch = dims(first)[:2]
    return steps * batch * (size(weight) + size(node.inputs[2]))
