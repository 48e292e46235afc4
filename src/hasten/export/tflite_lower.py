"""What LiteRT computes in its own way gets a domain of its own: products with stored weights, and all that runs
channels last, between transposes.

MatMul(x, W) -> + b       =>  FullyConnected(x, W, b)
Conv, pools, Resize ...   =>  Transpose -> the same, channels last -> Transpose
"""

from __future__ import annotations

import onnx_ir as ir

from hasten.export.tflite_site import Site, is_stored
from hasten.graph import edit, walk
from hasten.graph.layout import to_first, to_last

DOMAIN = "litert"  # of nodes that are already what LiteRT computes
BOUND = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "DepthToSpace", "SpaceToDepth", "LRN"})


def turn(model: ir.Model) -> None:
    """Put what LiteRT computes channels last between transposes, under a domain of its own."""
    taken = edit.names(model)
    for node in list(model.graph):
        rank = walk.rank(node.outputs[0]) or 0
        if node.op_type not in BOUND or node.domain not in ("", "ai.onnx") or rank not in (4, 5):
            continue
        site, own = Site(node, taken), node.outputs[0]
        x = node.inputs[0]
        assert x is not None
        turned = site.add("Transpose", x, perm=to_last(rank))
        out = ir.Value(name=edit.fresh(taken, f"{site.base}/last"), type=own.type)
        inputs = [turned, *node.inputs[1:]]
        moved = ir.Node(DOMAIN, node.op_type, inputs, list(node.attributes.values()), outputs=[out], name=out.name)
        assert node.graph is not None
        node.graph.insert_before(node, moved)
        back = site.add("Transpose", out, perm=to_first(rank))
        for value, source in ((turned, x), (out, own)):
            value.type = source.type
            value.shape = None if source.shape is None else ir.Shape([source.shape[i] for i in to_last(rank)])
        edit.replace(own, back)
        node.graph.remove(node, safe=True)


def products(model: ir.Model) -> None:
    """Products with stored weights, a bias behind them included, as FullyConnected(x, weights, bias)."""
    taken = edit.names(model)
    for node in list(model.graph):
        weights = node.inputs[1] if node.op_type in ("MatMul", "Gemm") and node.domain in ("", "ai.onnx") else None
        if weights is None or not is_stored(weights) or walk.rank(weights) != 2 or is_stored(node.inputs[0]):
            continue
        out, bias = node.outputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        last = node
        after = walk.only_consumer(out)
        if bias is None and after is not None and after.op_type == "Add":
            other = next(v for v in after.inputs if v is not out)
            if other is not None and is_stored(other) and _is_vector(other, out):
                last, bias = after, other
        inputs = [node.inputs[0], weights, *([bias] if bias is not None else [])]
        made = ir.Value(name=edit.fresh(taken, f"{out.name}/product"), type=out.type, shape=last.outputs[0].shape)
        attributes = [ir.AttrInt64("transB", int(walk.attribute(node, "transB", 0)))]
        new = ir.Node(DOMAIN, "FullyConnected", inputs, attributes, outputs=[made], name=node.name)
        model.graph.insert_before(last, new)
        edit.replace(last.outputs[0], made)
        model.graph.remove([last, node] if last is not node else [node], safe=True)


def _is_vector(value: ir.Value, product: ir.Value) -> bool:
    """One number a column of the product."""
    if value.shape is None or product.shape is None:
        return False
    *before, columns = [1, *value.shape]
    return columns == product.shape[-1] and all(d == 1 for d in before) and len(value.shape) <= len(product.shape)
