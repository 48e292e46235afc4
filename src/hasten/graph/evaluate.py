"""Run a graph once, plainly: what the passes' own checks compare against."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hasten import compare
from hasten.graph.numpyless import able
from hasten.model import weights_apart

Array = NDArray[Any]


def session(graph: ir.Model, *, optimise: bool = False, fused: bool = True, threads: int = 2) -> Any:
    """An ONNX Runtime session; without ``optimise`` every node runs as it is written.

    Without ``fused`` QuantizeLinear and DequantizeLinear stay operators of their own around float kernels: exactly
    what they say, on any machine.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_quant_qdq", "0" if fused else "1")
    # short runs alternate with numpy on this thread, which the runtime's spinning threads would starve
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if not weights_apart(graph):
        source = ir.to_proto(graph).SerializeToString()
        return able(ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        ir.save(graph, path, external_data="model.data")
        return able(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


def run(graph: ir.Model, feeds: Iterable[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """All outputs by name, one dict for each of ``feeds``."""
    loaded = session(graph)
    wanted = [o.name for o in loaded.get_outputs()]
    return [dict(zip(wanted, loaded.run(wanted, dict(one)), strict=True)) for one in feeds]


def worst_difference(before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]]) -> tuple[str, float]:
    """(output, difference): the largest |a - b| over all outputs, each relative to that output's own scale.

    Shapes and types that differ, missing outputs, new NaNs and integers that differ are infinitely different.
    """
    worst = ("", 0.0)
    for name in before[0] if before else ():
        pairs = zip(before, after, strict=True)
        found = sum(
            (compare.compare(one[name], other[name]) if name in other else compare.MISSING for one, other in pairs),
            compare.NOTHING,
        )
        difference = np.inf if found.retyped or found.miscounted else found.relative
        if difference > worst[1]:
            worst = (name, difference)
    return worst
