"""What ``hasten inspect`` says of a network, from the graph alone: nothing is run."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from hasten.frontends.shapes import fixed, inferred
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


def describe(model: Model) -> dict[str, Any]:
    """Facts about a network as JSON values; ``macs`` is for a batch of 1, or None where shapes are not known."""
    nodes = list(_nodes(model.graph))
    ops = Counter(node.op_type for node in nodes)
    weights = list(_weights(model.graph))
    floats = [w for w in weights if w.dtype.is_floating_point()]
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
        "parameters": sum(w.size for w in floats),
        "weight_bytes": sum(w.nbytes for w in weights),
        "weight_types": dict(Counter(w.dtype.name.lower() for w in floats)),
        "macs": count_macs(model),
        "ops": dict(ops.most_common()),
        "quantized": sorted(QUANTIZED & ops.keys()),
        "control_flow": sorted(CONTROL & ops.keys()),
        "custom_ops": sorted(custom),
        "dynamic": [
            f"{s.name}: axis {i} ({d or 'any'})"
            for s in model.inputs
            for i, d in enumerate(s.shape)
            if not isinstance(d, int)
        ],
    }
    return facts | {"ideas": ideas(facts)}


def ideas(facts: dict[str, Any]) -> list[str]:
    """What is worth a try, and what to mind, in sentences."""
    ops, found = facts["ops"], []
    heavy = {op: ops[op] for op in sorted(HEAVY & ops.keys())}
    if facts["quantized"]:
        found.append(f"already quantized ({', '.join(facts['quantized'])}): only lossless settings will be tried")
    elif heavy and facts["parameters"]:
        found.append("int8 for " + ", ".join(f"{count} {op}" for op, count in heavy.items()))
        found.append("bf16 or f16 where the processor has the arithmetic")
    else:
        found.append("no weights to narrow: only lossless settings will be tried")
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
