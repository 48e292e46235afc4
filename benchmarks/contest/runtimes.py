"""The two stock runtimes, and hasten's own engines, as one function from feeds to outputs by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.feeds import Array, Outputs, Run

Settings = Mapping[str, str | int | float | bool]


def onnxruntime(path: Path, settings: Settings, names: list[str]) -> Run:
    """ONNX Runtime as its owner's first example runs it. ``names`` is not needed: outputs keep theirs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    for key, value in settings.items():
        setattr(options, key, value)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kept = [output.name for output in session.get_outputs()]

    def run(feeds: dict[str, Array]) -> Outputs:
        return dict(zip(kept, session.run(None, feeds), strict=True))

    return run


def openvino(path: Path, settings: Settings, names: list[str]) -> Run:
    """OpenVINO for latency; ``names`` are the outputs of the original network in order."""
    import openvino as ov

    compiled = ov.Core().compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY", **settings})
    return openvino_compiled(compiled, names)


def openvino_compiled(compiled: Any, names: list[str]) -> Run:
    """A compiled OpenVINO network; the validation of accuracy control gets these."""
    request = compiled.create_infer_request()
    inputs = {name: port for port in compiled.inputs for name in port.names}

    def run(feeds: dict[str, Array]) -> Outputs:
        request.infer({inputs[name]: array for name, array in feeds.items() if name in inputs}, share_inputs=True)
        return {name: request.get_output_tensor(index).data.copy() for index, name in enumerate(names)}

    return run


def hasten_engine(engine: str, path: Path, settings: Settings, names: list[str]) -> Run:
    """One of hasten's engines, exactly as its own measurements load it."""
    from hasten.registry import find

    runner = find("engines", engine).load(path, settings)

    def run(feeds: dict[str, Array]) -> Outputs:
        return dict(zip(names, runner.run(feeds), strict=True))

    return run


def load(engine: str, path: Path, settings: Settings, names: list[str]) -> Run:
    """``engine`` is "onnxruntime", "openvino", or "hasten:" and the name of an engine."""
    if engine.startswith("hasten:"):
        return hasten_engine(engine.removeprefix("hasten:"), path, settings, names)
    return {"onnxruntime": onnxruntime, "openvino": openvino}[engine](path, settings, names)
