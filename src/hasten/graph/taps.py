"""Look inside a network: stream inner tensors to whoever sums them up, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.errors import InputError
from hasten.graph.numpyless import as_value
from hasten.model import Model
from hasten.protocols import Feeds
from hasten.quant.histogram import TensorStats

if TYPE_CHECKING:
    import onnx_ir as ir

MEMORY = 256 << 20  # bytes of tapped tensors alive at once
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_CHANNEL_FIRST = frozenset({"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization"})


def collect(
    model: Model,
    names: Sequence[str],
    feeds: Callable[[], Iterator[Feeds]],
    *,
    memory_bytes: int = MEMORY,
    channels: Collection[str] = (),
) -> dict[str, TensorStats]:
    """Statistics of the inner tensors ``names`` over all samples of ``feeds()``.

    The float network runs in ONNX Runtime with the tensors as outputs. Those of one sample that together exceed
    ``memory_bytes`` (sized on the first sample) are split in the order of execution; a part runs only the nodes that
    it needs. Memory does not depend on the number of samples. ``feeds`` is read once to size the tensors (one
    sample) and once for all parts, or once a part when a session a part would hold too many copies of the weights.
    Those also in ``channels`` per channel too: axis 1 beside a convolution and for rank 4, else the last axis.

    Left out of the answer: names that the graph does not have, weights, tensors that are not float, and tensors
    inside ``If`` and ``Loop`` bodies.

    Raises:
        InputError: ONNX Runtime cannot load or run the network, or there are no samples.
    """
    axes: dict[str | None, int | None] = {
        v.name: _channel_axis(v)
        for v in chain(_node_outputs(model.graph), model.graph.graph.inputs)
        if v.name in set(channels)
    }
    stats: dict[str, TensorStats] = {}
    stream(model, names, feeds, lambda name, array: _update(stats, name, array, axes), memory_bytes=memory_bytes)
    return {name: stats[name] for name in names if name in stats}


def stream(
    model: Model,
    names: Sequence[str],
    feeds: Callable[[], Iterator[Feeds]],
    take: Callable[[str, Any], None],
    *,
    memory_bytes: int = MEMORY,
) -> None:
    """Hand each of the tensors ``names`` of each sample to ``take(name, array)``, and keep none of them.

    An array is a view of the runtime's memory: copy what must outlive the call. Samples come in order for each
    tensor; which tensors come together, how often ``feeds`` is read, what is left out and what is raised are as for
    ``collect``.
    """
    wanted = set(names)
    inputs = [spec.name for spec in model.inputs if spec.name in wanted and spec.dtype.startswith("float")]
    inner = [v.name for v in _node_outputs(model.graph) if v.name in wanted and v.name is not None]
    parts = _split(inner, sizes(model, inner, feeds), memory_bytes)
    # every session holds its own copy of the weights; small networks read the feeds once for all parts
    together = len(parts) * _weight_bytes(model) <= memory_bytes
    for group in [parts] if together else [[part] for part in parts]:
        with TemporaryDirectory(prefix="hasten-") as folder:
            sessions = [_session(_with_outputs(model, part), Path(folder, str(i))) for i, part in enumerate(group)]
            for sample in feeds():
                given = ((name, np.asarray(sample[name])) for name in inputs)
                for name, array in chain(given, *(_run(session, sample) for session in sessions)):
                    take(name, array)
        inputs = []  # the first pass has seen them all


def _update(stats: dict[str, TensorStats], name: str, array: Any, axes: Mapping[str | None, int | None]) -> None:
    axis = axes.get(name)
    if axis is None and name in axes:
        axis = 1 if array.ndim == 4 else -1
    stats.setdefault(name, TensorStats(name)).update(array, axis)


def _run(session: Any, sample: Feeds) -> Iterator[tuple[str, Any]]:
    """The float outputs one by one, each freed before the next is looked at."""
    outputs = [o.name for o in session.get_outputs() if o.type in _FLOATS]
    if not outputs:
        return
    values = _values(session, outputs, sample)
    values.reverse()
    for name in outputs:
        yield name, values.pop().numpy()


def _values(session: Any, outputs: Sequence[str], sample: Feeds) -> list[Any]:
    """Outputs that stay in the runtime's own memory: ``numpy()`` of one is a view."""
    try:
        given = {k: as_value(v) for k, v in sample.items()}
        return list(session.run_with_ort_values(outputs, given))
    except Exception as error:  # the runtime has no common exception class
        raise InputError("onnxruntime cannot run the network on a sample", cause=str(error).strip()) from error


def sizes(model: Model, names: Sequence[str], feeds: Callable[[], Iterator[Feeds]]) -> dict[str, int]:
    """Bytes of each tensor as float32 on the first sample, from a network that gives shapes in place of tensors.

    Names that the nodes of the graph do not compute are left out.

    Raises:
        InputError: there are no samples, or ONNX Runtime cannot run the network.
    """
    import onnx_ir as ir

    first = next(iter(feeds()), None)
    if first is None:
        raise InputError("there are no samples to calibrate with", help="give at least one sample, better 64")
    if not names:
        return {}
    graph = model.clone_graph()
    values = {v.name: v for v in _node_outputs(graph)}
    names = [n for n in names if n in values]
    if not names:
        return {}
    shapes = []
    for i, name in enumerate(names):
        node = ir.node("Shape", [values[name]])
        node.outputs[0].name = f"hasten.shape.{i}"
        node.outputs[0].dtype = ir.DataType.INT64
        shapes.append(node)
    graph.graph.extend(shapes)
    graph.graph.outputs[:] = [node.outputs[0] for node in shapes]
    with TemporaryDirectory(prefix="hasten-") as folder:
        session = _session(replace(model, graph=graph), Path(folder))
        dims = _values(session, [node.outputs[0].name for node in shapes if node.outputs[0].name], first)
    return {name: 4 * prod(map(int, d.numpy())) for name, d in zip(names, dims, strict=True)}


def _split(names: Sequence[str], sizes: Mapping[str, int], memory_bytes: int) -> list[list[str]]:
    """Consecutive parts that each fit; a tensor larger than all of the memory gets a part of its own."""
    parts: list[list[str]] = []
    free = 0
    for name in names:
        if not parts or sizes[name] > free:
            parts.append([])
            free = memory_bytes
        parts[-1].append(name)
        free -= sizes[name]
    return parts


def _weight_bytes(model: Model) -> int:
    graph = model.graph.graph
    constants = (node.attributes.get("value") for node in graph if node.op_type == "Constant")
    tensors = chain((v.const_value for v in graph.initializers.values()), (a.value for a in constants if a is not None))
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _with_outputs(model: Model, names: Sequence[str]) -> Model:
    """The part of the network that computes these tensors, and them as its only outputs."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph = model.clone_graph()
    values = {v.name: v for v in _node_outputs(graph)}
    graph.graph.outputs[:] = [values[name] for name in names]
    RemoveUnusedNodesPass()(graph)
    return replace(model, graph=graph)


def _session(model: Model, folder: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # the arena keeps its largest state, and grows with every new shape
    options.enable_mem_pattern = False
    # short runs alternate with numpy on this thread, which the runtime's spinning threads would starve
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # a tensor is freed after its last reader; the default order may run all readers of taps at the very end
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    folder.mkdir(exist_ok=True)
    path = folder / "tapped.onnx"
    model.save(path)
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common exception class
        raise InputError("onnxruntime cannot load the network", cause=str(error).strip()) from error


def _node_outputs(graph: ir.Model) -> Iterator[ir.Value]:
    """The tensors that top-level nodes compute, in the order of execution: no constants, no sequences."""
    import onnx_ir as ir

    for node in graph.graph:
        if node.op_type == "Constant" or "Sequence" in node.op_type or "Optional" in node.op_type:
            continue
        for value in node.outputs:
            if value.name and (value.type is None or isinstance(value.type, ir.TensorType)):
                yield value


def _channel_axis(value: ir.Value) -> int | None:
    """1 beside a convolution, None where only the rank can tell."""
    nodes = [use.node for use in value.uses()]
    producer = value.producer()
    if producer is not None:
        nodes.append(producer)
    return 1 if any(node.op_type in _CHANNEL_FIRST for node in nodes) else None
