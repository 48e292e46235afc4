"""ONNX Runtime's CPU provider: float32, int8 through Q/DQ fusion or dynamically; no bf16, no fp16 arithmetic."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hasten.engines.executed import describe
from hasten.graph.numpyless import able
from hasten.machine import instruction_sets
from hasten.protocols import Array, Feeds, Layer, Runner
from hasten.trial import Scalar

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

name = scheme = "onnxruntime"
spins = True  # its pool burns cores for about 42 ms after a call: whoever times next must wait
SETTINGS = {
    "threads": range(1, 4097),
    "spinning": (True, False),
    "graph_optimization": ("none", "basic", "extended", "all"),
}


def missing() -> str | None:
    """None when the runtime can be imported."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as fault:
        return f"{fault}; pip install onnxruntime"
    return None


def version() -> str:
    """The runtime's own version."""
    import onnxruntime as ort

    return str(ort.__version__)


def formats() -> frozenset[str]:
    """int8 counts as native with VNNI or its ARM kin; without them pairs saturate and gain little."""
    fast_int8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "avx2"} & set(instruction_sets())
    return frozenset({"f32", "int8"} if fast_int8 else {"f32"})


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """The stock default first, then one thread (small networks lose more to hand-over than they gain)."""
    choices: list[dict[str, Scalar]] = [{}]
    if cores > 1:
        choices.append({"threads": 1})
    if cores >= 8:
        choices.append({"threads": cores // 2})
    return choices


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """No setting of this engine narrows the arithmetic."""
    return []


def export(onnx: Path, directory: Path) -> Path:
    """ONNX is its own format."""
    return onnx


def _options(chosen: Mapping[str, Scalar]) -> ort.SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if "threads" in chosen:
        options.intra_op_num_threads = int(chosen["threads"])
    if "spinning" in chosen:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if chosen["spinning"] else "0")
    if "graph_optimization" in chosen:
        level = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
        chosen_level = level.get(str(chosen["graph_optimization"]), "ORT_ENABLE_ALL")
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, chosen_level)
    return options


def _dumping(options: ort.SessionOptions, optimised: Path) -> ort.SessionOptions:
    """Also write the graph that the runtime made for itself, its weights in a file beside it."""
    options.optimized_model_filepath = str(optimised)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(1 << 16))
    return options


class _Session:
    """One session."""

    def __init__(self, path: Path, chosen: Mapping[str, Scalar]) -> None:
        import onnxruntime as ort

        self._path, self._chosen = path, chosen
        self._session = able(ort.InferenceSession(str(path), _options(chosen), providers=["CPUExecutionProvider"]))

    def run(self, feeds: Feeds) -> list[Array]:
        return list(self._session.run(None, dict(feeds)))

    def executed(self) -> str:
        """Read from the graph that the runtime optimised for itself, never from the file that it was given."""
        import onnx
        import onnxruntime as ort

        with tempfile.TemporaryDirectory() as folder:
            optimised = Path(folder) / "optimised.onnx"
            options = _dumping(_options(self._chosen), optimised)
            ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
            graph = onnx.load(str(optimised), load_external_data=False).graph
        return describe(Counter(_kind(node) for node in graph.node))

    def close(self) -> None:
        del self._session


_KINDS = {
    "Conv": ("convolutions", "f32"),
    "FusedConv": ("convolutions", "f32"),
    "ConvTranspose": ("convolutions", "f32"),
    "QLinearConv": ("convolutions", "int8"),
    "QLinearConvTranspose": ("convolutions", "int8"),
    "ConvInteger": ("convolutions", "int8"),
    "MatMul": ("matrix products", "f32"),
    "FusedMatMul": ("matrix products", "f32"),
    "Gemm": ("matrix products", "f32"),
    "FusedGemm": ("matrix products", "f32"),
    "QLinearMatMul": ("matrix products", "int8"),
    "QGemm": ("matrix products", "int8"),
    "MatMulInteger": ("matrix products", "int8"),
    "MatMulIntegerToFloat": ("matrix products", "int8"),
    "DynamicQuantizeMatMul": ("matrix products", "int8"),
    "MatMulNBits": ("matrix products", "int4"),
    "LSTM": ("recurrent layers", "f32"),
    "GRU": ("recurrent layers", "f32"),
    "DynamicQuantizeLSTM": ("recurrent layers", "int8"),
}


def _kind(node: onnx.NodeProto) -> tuple[str, str]:
    if node.op_type == "MatMulNBits" and any(a.name == "bits" and a.i == 8 for a in node.attribute):
        return "matrix products", "int8"
    return _KINDS.get(node.op_type, ("", ""))


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """A session over ``path``; the settings are ``threads``, ``spinning`` and ``graph_optimization``."""
    return _Session(path, settings)


_BOUNDARIES = frozenset({"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose"})


def profile(path: Path, settings: Mapping[str, Scalar], feeds: Sequence[Feeds], seconds: float) -> Sequence[Layer]:
    """The median of each kernel in the runtime's own trace; names come from the graph that it optimised for itself.

    A Transpose that the runtime put in is a change of layout; one of the network keeps its name and counts as work.
    """
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = _dumping(_options(settings), Path(folder, "optimised.onnx"))
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "trace"))
        session = able(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        rounds, until = 0, time.perf_counter() + seconds
        while rounds < 2 or time.perf_counter() < until:
            for one in feeds:
                session.run(None, dict(one))
            rounds += 1
        trace = json.loads(Path(session.end_profiling()).read_bytes())
        graph = onnx.load(str(Path(folder, "optimised.onnx")), load_external_data=False).graph
    spent: dict[str, list[float]] = {}
    for event in trace:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            spent.setdefault(event["name"].removesuffix(_KERNEL), []).append(event["dur"] / 1e3)
    return _layers(graph.node, {name: median(several) for name, several in spent.items()})


_KERNEL = "_kernel_time"
_OWN = re.compile(r"_token_\d+(?:_out\d+)?$|_nchwc$")


def _layers(nodes: Iterable[Any], ms: Mapping[str, float]) -> list[Layer]:
    """Kernels in order. The runtime's own suffixes go; what it put in carries no name of the network."""
    found, told = [], dict[str, tuple[str, ...]]()
    for node in nodes:
        names = tuple(dict.fromkeys(_OWN.sub("", n) for n in (node.name, *node.output) if n))
        own = node.op_type in _BOUNDARIES and (node.op_type != "Transpose" or "_token_" in node.name)
        reads = tuple(sorted({n for i in node.input for n in told.get(i, ())}))
        told.update(dict.fromkeys(node.output, names))
        if node.name in ms:
            found.append(Layer(names, reads, node.op_type, ms[node.name], own))
    return found
