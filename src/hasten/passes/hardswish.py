"""HardSwish in integers, for a runtime that multiplies two tensors of codes and has no kernel for the whole of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, walk
from hasten.quant import grid


def integer_hardswish(model: ir.Model, node: ir.Node, taken: set[str]) -> None:
    """Codes q of x at scale 3 / z and zero point z: x * clip(x + 3, 0, 6) / 6 is x * (clip(q, 0, 2 z) * scale / 6).

    DQ -> HardSwish    =>    DQ -> Mul <- DQ <- Clip <- the same codes; the runtime makes one integer product of it.
    """
    rounded = node.inputs[0]
    assert rounded is not None
    dq = rounded.producer()
    assert dq is not None
    codes, scale, zero = dq.inputs
    base, step, z = codes.name if codes is not None else "", walk.constant(scale), walk.constant(zero)
    assert step is not None
    assert z is not None

    def stored(suffix: str, array: walk.Array) -> ir.Value:
        return edit.add_constant(model.graph, edit.fresh(taken, f"{base}/{suffix}"), array)

    top = np.asarray(min(2 * int(z), grid.U8.qmax), np.uint8)
    bottom = stored("bottom", np.asarray(0, np.uint8))
    gate = edit.add_node(node, "Clip", [codes, bottom, stored("top", top)], edit.fresh(taken, f"{base}/clipped"))
    gate_scale = stored("gate_scale", np.asarray(step / np.float32(6), np.float32))
    opened = edit.add_node(node, "DequantizeLinear", [gate, gate_scale, bottom], edit.fresh(taken, f"{base}/gate"))
    product = edit.add_node(node, "Mul", [rounded, opened], edit.fresh(taken, f"{base}/hardswish"))
    edit.replace(node.outputs[0], product)
    model.graph.remove(node, safe=True)
