"""``example.py``: the module that runs the artefact in its stock runtime, with exactly the winner's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
import numpy as np

from hasten import registry
from hasten.model import TensorSpec
from hasten.report.build import read_template
from hasten.report.source import docstring, literal
from hasten.trial import Candidate, Result, Scalar

RUNTIMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "torch": "PyTorch",
    "keras": "Keras",
    "tensorflow": "TensorFlow",
}
PACKAGES = {"litert": "ai-edge-litert", "tensorflow": "tensorflow-cpu"}  # where it is not the engine's own name
POOLED = ("openvino", "litert")  # one request or interpreter serves one thread at a time
UNKNOWN = 64  # stands for a free dimension when no real shape is at hand
_LEVELS = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}


def example(result: Result, file: str, inputs: Sequence[TensorSpec], extra: Mapping[str, Any]) -> str:
    """The module's text. Strings enter it as Python literals, or as text of its docstring, and in no other way.

    Args:
        file: the network's name in the output folder.
        extra: of it ``state`` (input -> output), ``outputs`` (in order), ``batch`` and ``shapes`` (input -> a real
            shape) are used.
    """
    when = f" on {result.started}" if result.started else ""
    how = f"exactly as hasten measured it{when}"
    return module(result.winner.candidate, file, inputs, extra, how=how, versions=result.machine.versions)


def module(
    chosen: Candidate, file: str, inputs: Sequence[TensorSpec], extra: Mapping[str, Any], *, how: str,
    versions: Mapping[str, str],
) -> str:  # fmt: skip
    """The text of the module for one candidate; ``how`` says in its first line where the settings come from."""
    settings = chosen.settings
    if chosen.engine not in RUNTIMES:
        return _template("none").render(file=file, engine=chosen.engine, settings=settings)
    state, known = dict(extra.get("state") or {}), extra.get("shapes") or {}
    measured = {i.name: _shape(i, int(extra.get("batch", 1)), i.name in state, known) for i in inputs}
    backend = _keras_backend(chosen) if chosen.engine == "keras" else ""
    return _template(chosen.engine).render(
        file=file,
        runtime=RUNTIMES[chosen.engine],
        how=how,
        pins=_pins(chosen.engine, backend, versions),
        call="{" + ", ".join(f"{i.name!r}: ..." for i in inputs) + "}",
        inputs={i.name: (i.dtype, _declared(i, measured[i.name])) for i in inputs},
        measured=measured,
        outputs=list(extra.get("outputs") or []),
        state=state,
        narrow=any(not _known_to_numpy(i.dtype) for i in inputs),
        pool=chosen.engine in POOLED,
        backend=backend,
        module=str(settings.get("module") or "").partition(":")[0] if backend else "",  # Keras' custom layers
        trust=bool(settings.get("trust")),
        signature=str(settings.get("signature", "serving_default")),
        compiled=bool(settings.get("compile")),
        statements=_statements(settings),
        properties=_properties(settings),
        fixed=json.loads(str(settings["sizes"])) if "sizes" in settings else {},
        threads=int(settings.get("threads", 0)),
    )


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701 - it writes Python, where the filters escape
        loader=jinja2.FunctionLoader(read_template),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"literal": literal, "docstring": docstring}
    return environment


def _template(engine: str) -> jinja2.Template:
    return _templates().get_template(f"example_{engine}.py.j2")


def _pins(engine: str, backend: str, versions: Mapping[str, str]) -> str:
    """What ``pip install`` is given."""
    named = ["numpy", *(PACKAGES.get(p, p) for p in (engine, backend) if p)]
    packages = ["tensorflow" if p == "tensorflow-cpu" and p not in versions else p for p in named]
    return " ".join(f"{p}=={versions[p]}" if p in versions else p for p in packages)


def _keras_backend(chosen: Candidate) -> str:
    """What Keras runs on there."""
    found = chosen.settings.get("backend") or registry.find("engines", "keras").backend()
    return str(found or "tensorflow")


def _shape(spec: TensorSpec, batch: int, is_state: bool, known: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """A real shape where one is known; else the free first axis is the batch, as every free axis of a state is."""
    if spec.name in known:
        return tuple(int(d) for d in known[spec.name])
    return tuple(
        d if isinstance(d, int) and d > 0 else batch if i == 0 or is_state else UNKNOWN
        for i, d in enumerate(spec.shape)
    )


def _known_to_numpy(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind != "V"  # bfloat16 and its like, if ml_dtypes is here
    except TypeError:
        return False


def _declared(spec: TensorSpec, measured: Sequence[int]) -> tuple[int | None, ...]:
    """The sizes that are fixed, None for those that are free; what was measured is allowed in any case."""
    if len(spec.shape) != len(measured):
        return (None,) * len(measured)
    return tuple(d if isinstance(d, int) and d == m else None for d, m in zip(spec.shape, measured, strict=True))


def _statements(settings: Mapping[str, Scalar]) -> list[str]:
    """Settings of ONNX Runtime as the statements that its engine runs."""
    lines = []
    if "threads" in settings:
        lines.append(f"options.intra_op_num_threads = {int(settings['threads'])}")
    if "spinning" in settings:
        spin = "1" if settings["spinning"] else "0"
        lines.append(f'options.add_session_config_entry("session.intra_op.allow_spinning", "{spin}")')
    if "graph_optimization" in settings:
        level = _LEVELS.get(str(settings["graph_optimization"]), "ORT_ENABLE_ALL")
        lines.append(f"options.graph_optimization_level = ort.GraphOptimizationLevel.{level}")
    return lines


def _properties(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """OpenVINO's settings under the names of its properties; precision is always named, its default may be bf16."""
    names = {"threads": "INFERENCE_NUM_THREADS", "streams": "NUM_STREAMS"}
    return {
        "PERFORMANCE_HINT": settings.get("hint", "LATENCY"),
        "INFERENCE_PRECISION_HINT": settings.get("precision", "f32"),
        **{names[k]: int(v) for k, v in settings.items() if k in names},
    }
