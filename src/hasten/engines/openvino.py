"""OpenVINO on the CPU: float32, bf16 where the machine has it, int8 from Q/DQ.

Its default precision is bf16 on some machines, so every setting here names its precision.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten.engines.edges import Edge
from hasten.engines.executed import describe
from hasten.errors import InputError
from hasten.extras import pip
from hasten.graph.numpyless import from_bits
from hasten.machine import instruction_sets
from hasten.protocols import Array, Feeds, Layer, Runner
from hasten.samples.sequence import SIZES_HELP, check_sizes, read_sizes
from hasten.trial import Scalar

if TYPE_CHECKING:
    import openvino as ov

name = scheme = "openvino"
spins = False
fixes_sizes = True
SETTINGS = {
    "precision": ("f32", "bf16", "f16"),
    "hint": ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"),
    "threads": range(1, 4097),
    "streams": range(1, 4097),
    "sizes": check_sizes,
}


_COMPARES = (
    "Relu",
    "Max",
    "Min",
    "Clip",
    "Sign",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "HardSigmoid",
    "Exp",
)
_ROWS = ("MaxPool", "ReduceMax", "ReduceMin", "TopK", "ArgMax", "ArgMin", "Softmax", "LogSoftmax", "Hardmax")
edges = (
    Edge(operators=frozenset(), reach="wide", words="whole numbers of 64 bits are computed in 32"),
    Edge(operators=frozenset(), reach="double", words="float64 is computed in float32"),
    Edge(operators=frozenset({*_COMPARES, *_ROWS}), reach="nan", words="NaN becomes a number"),
    Edge(operators=frozenset({"Cast"}), reach="cast", words="a number beyond the whole type ends at its limit"),
    Edge(
        operators=frozenset({"Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "OneHot"}),
        reach="index", words="a place outside the table is answered with 0 in place of an error",
    ),
    Edge(operators=frozenset({"TopK"}), reach="ties", words="of equal values another may come first"),
    Edge(operators=frozenset({"BitShift"}), reach="always", words="a shift by all bits or more is not 0"),
    Edge(operators=frozenset({"ReduceLogSumExp"}), reach="always", words="its axes are not read"),
)  # fmt: skip


def missing() -> str | None:
    """None when the runtime can be imported."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return f"openvino is not installed; {pip('openvino')}"
    return None


def version() -> str:
    """The runtime's own version."""
    import openvino as ov

    return str(ov.__version__).split("-")[0]


def formats() -> frozenset[str]:
    """Native arithmetic, from the instruction sets (the runtime itself need not be loaded to know)."""
    flags = set(instruction_sets())
    found = {"f32"}
    if flags & {"avx512_vnni", "avx_vnni", "amx_int8", "avx2"}:
        found.add("int8")
    if flags & {"avx512_bf16", "amx_tile"}:
        found.add("bf16")
    if "avx512_fp16" in flags:
        found.add("f16")
    return frozenset(found)


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """Float32 by name, all cores and one."""
    stock: dict[str, Scalar] = {"precision": "f32", "hint": "LATENCY"}
    return [stock, {**stock, "threads": 1}] if cores > 1 else [stock]


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """The same network in a narrower float."""
    narrow = [f for f in ("bf16", "f16") if f in formats()]
    return [{"precision": f, "hint": "LATENCY"} for f in narrow]


def export(onnx: Path, directory: Path) -> Path:
    """Convert to the runtime's own format; its default would narrow the weights to fp16."""
    import openvino as ov

    path = directory / f"{onnx.stem}.xml"
    ov.save_model(_core().read_model(onnx), path, compress_to_fp16=False)
    return path


@cache
def _core() -> ov.Core:
    import openvino as ov

    return ov.Core()


class _Compiled:
    """One inference request over a compiled network."""

    def __init__(
        self, path: Path, chosen: Mapping[str, Scalar], *, sizes: Mapping[str, Sequence[int]] | None = None,
        clocked: bool = False,
    ) -> None:  # fmt: skip
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": chosen.get("hint", "LATENCY"),
            "INFERENCE_PRECISION_HINT": chosen.get("precision", "f32"),
            "PERF_COUNT": clocked,
        }
        if "threads" in chosen:
            properties["INFERENCE_NUM_THREADS"] = int(chosen["threads"])
        if "streams" in chosen:
            properties["NUM_STREAMS"] = int(chosen["streams"])
        network = _core().read_model(path)
        if sizes:
            _fix(network, sizes, path)
        self._compiled = _core().compile_model(network, "CPU", properties)
        self._request = self._compiled.create_infer_request()
        self._narrow = [port.get_element_type().get_type_name() == "bf16" for port in self._compiled.outputs]

    def run(self, feeds: Feeds) -> list[Array]:
        results = self._request.infer(dict(feeds), share_inputs=True, share_outputs=False)
        answers = [results[port] for port in self._compiled.outputs]
        return (
            [from_bits(a) if n else a for a, n in zip(answers, self._narrow, strict=True)]
            if any(self._narrow)
            else answers
        )

    def executed(self) -> str:
        """Read from the runtime model: what each layer was compiled to."""
        counts: Counter[tuple[str, str]] = Counter()
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            kind = _KINDS.get(_text(info["layerType"]), "") if "layerType" in info else ""
            precision = _text(info["runtimePrecision"]) if "runtimePrecision" in info else ""
            counts[kind, _PRECISIONS.get(precision, precision)] += 1
        return describe(counts)

    def layers(self) -> dict[str, Layer]:
        """Every kernel that has run, by the plugin's name for it, with its mean time so far; wants ``clocked``."""
        found, told = dict[str, Layer](), dict[str, tuple[str, ...]]()
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info, kept = node.get_rt_info(), node.get_friendly_name()
            kind, names = _text(info["layerType"]), _text(info["originalLayersNames"]).split(",")
            told[kept] = tuple(n for n in names if n)
            spent = _text(info["execTimeMcs"])
            if spent.isdigit():
                before = {node.input_value(i).get_node().get_friendly_name() for i in range(node.get_input_size())}
                reads = tuple(sorted({n for name in before for n in told.get(name, ())}))
                found[kept] = Layer(told[kept], reads, kind, int(spent) / 1e3, kind in _BOUNDARIES)
        return found

    def close(self) -> None:
        del self._request, self._compiled


def _fix(network: ov.Model, sizes: Mapping[str, Sequence[int]], path: Path) -> None:
    """Give the inputs these ``sizes``; refuse what does not agree with what the network declares."""
    import openvino as ov

    takes = {name: port.get_partial_shape() for port in network.inputs for name in port.get_names()}
    for one, size in sizes.items():
        if one not in takes or not takes[one].compatible(ov.PartialShape(list(size))):
            known = ", ".join(f"{name}{shape}" for name, shape in takes.items())
            what = f"{path} takes no input {one!r} of sizes {list(size)}"
            raise InputError(what, cause=f"it takes {known}", help=SIZES_HELP)
    network.reshape({one: list(size) for one, size in sizes.items()})


class _FixedElseAny:
    """A network compiled for the sizes of inputs that ``sizes`` tells; on others one runs that takes any.

    With every size known the plugin plans its memory once, and works out no shape from call to call.
    """

    def __init__(self, path: Path, chosen: Mapping[str, Scalar], *, clocked: bool = False) -> None:
        self._path, self._chosen = path, chosen
        self._any: _Compiled | None = None
        self._sizes = read_sizes(chosen["sizes"], path)
        self._own = _Compiled(path, chosen, sizes=self._sizes, clocked=clocked)

    def run(self, feeds: Feeds) -> list[Array]:
        if all(list(feeds[one].shape) == size for one, size in self._sizes.items()):
            return self._own.run(feeds)
        self._any = self._any or _Compiled(self._path, self._chosen)
        return self._any.run(feeds)

    def executed(self) -> str:
        """What was compiled for the sizes that were told."""
        return self._own.executed()

    def layers(self) -> dict[str, Layer]:
        """As of the network compiled for the sizes that were told."""
        return self._own.layers()

    def close(self) -> None:
        self._own.close()
        if self._any is not None:
            self._any.close()


def _runner(path: Path, chosen: Mapping[str, Scalar], *, clocked: bool = False) -> _Compiled | _FixedElseAny:
    return (
        _FixedElseAny(path, chosen, clocked=clocked) if "sizes" in chosen else _Compiled(path, chosen, clocked=clocked)
    )


_BOUNDARIES = frozenset({"FakeQuantize", "Reorder", "Convert"})

_KINDS = {
    "Convolution": "convolutions",
    "Deconvolution": "convolutions",
    "FullyConnected": "matrix products",
    "MatMul": "matrix products",
    "RNNSeq": "recurrent layers",
    "RNNCell": "recurrent layers",
}
_PRECISIONS = {
    "u4": "int4",
    "i4": "int4",
    "u8": "int8",
    "i8": "int8",
    "U8": "int8",
    "I8": "int8",
    "FP32": "f32",
    "BF16": "bf16",
    "FP16": "f16",
}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value.astype(str))


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """Compile ``path``; the settings are ``precision``, ``hint``, ``threads``, ``streams`` and ``sizes``.

    ``sizes`` is a JSON object from inputs to their sizes; a network compiled for them is faster, and takes others too.

    Raises:
        InputError: the sizes cannot be read, or are none of the network's.
    """
    return _runner(path, settings)


def profile(path: Path, settings: Mapping[str, Scalar], feeds: Sequence[Feeds], seconds: float) -> Sequence[Layer]:
    """From the plugin's own counters. They keep means over all inferences, so the cold first round is taken out."""
    runner = _runner(path, settings, clocked=True)
    for one in feeds:
        runner.run(one)
    cold, rounds, until = runner.layers(), 0, time.perf_counter() + seconds
    while rounds < 2 or time.perf_counter() < until:
        for one in feeds:
            runner.run(one)
        rounds += 1
    mean = {
        name: ((rounds + 1) * layer.ms - (cold[name].ms if name in cold else 0.0)) / rounds
        for name, layer in runner.layers().items()
    }
    return [replace(layer, ms=max(mean.get(name, 0.0), 0.0)) for name, layer in cold.items()]
