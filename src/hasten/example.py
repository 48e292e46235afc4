"""``example.py``: the program that runs the artefact in its stock runtime, with exactly the winner's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from hasten import registry
from hasten.model import TensorSpec
from hasten.report.build import read_template
from hasten.trial import Candidate, Result, Scalar

ENGINES = ("onnxruntime", "openvino", "litert", "torch", "keras", "tensorflow")
PACKAGES = {"litert": "ai-edge-litert", "tensorflow": "tensorflow-cpu"}  # where it is not the engine's own name
UNKNOWN = 64  # stands for a free dimension when no real shape is at hand
_LEVELS = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}


def example(result: Result, file: str, inputs: Sequence[TensorSpec], extra: Mapping[str, Any]) -> str:
    """The program's text. Names from the network enter it as Python literals only.

    Args:
        file: the network's name in the output folder.
        extra: of it ``state`` (input -> output), ``batch`` and ``shapes`` (input -> a real shape) are used.
    """
    chosen = result.winner.candidate
    batch = int(extra.get("batch", 1))
    if chosen.engine not in ENGINES:
        return f'"""Load {file} in {chosen.engine} with {chosen.settings}; hasten has no example for this engine."""\n'
    state, known = dict(extra.get("state") or {}), extra.get("shapes") or {}
    shapes = {i.name: (_shape(i, batch, i.name in state, known), i.dtype) for i in inputs}
    versions = result.machine.versions
    environment = jinja2.Environment(  # noqa: S701 - it writes Python, where values enter as literals
        loader=jinja2.FunctionLoader(read_template), trim_blocks=True, keep_trailing_newline=True
    )
    backend = _keras_backend(chosen) if chosen.engine == "keras" else ""
    below = [PACKAGES.get(backend, backend)] if backend else []
    packages = ("numpy", PACKAGES.get(chosen.engine, chosen.engine), *below)
    return environment.get_template(f"example_{chosen.engine}.py.j2").render(
        file=file,
        file_literal=repr(file),
        pins=" ".join(f"{p}=={versions[p]}" if p in versions else p for p in packages),
        inputs=_literal(shapes),
        outputs=repr(list(extra.get("outputs") or [])),
        backend=repr(backend),
        trust=bool(chosen.settings.get("trust")),
        signature=repr(str(chosen.settings.get("signature", "serving_default"))),
        compiled=bool(chosen.settings.get("compile")),
        state=_literal(state),
        batch=batch,
        statements=_statements(chosen.engine, chosen.settings),
        properties=_literal(_properties(chosen.settings)),
        sizes=_literal(json.loads(str(chosen.settings["sizes"]))) if "sizes" in chosen.settings else "",
        threads=int(chosen.settings.get("threads", 1)),
    )


def _keras_backend(chosen: Candidate) -> str:
    """What Keras runs on there."""
    found = chosen.settings.get("backend") or registry.find("engines", "keras").backend()
    return str(found or "tensorflow")


def _literal(value: Mapping[str, Any]) -> str:
    """A dict as Python source, one entry a line when there are several."""
    if len(value) < 2:
        return repr(dict(value))
    return "{\n" + "".join(f"    {k!r}: {v!r},\n" for k, v in value.items()) + "}"


def _shape(spec: TensorSpec, batch: int, is_state: bool, known: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """A real shape where one is known; else the free first axis is the batch, as every free axis of a state is."""
    if spec.name in known:
        return tuple(int(d) for d in known[spec.name])
    return tuple(
        d if isinstance(d, int) and d > 0 else batch if i == 0 or is_state else UNKNOWN
        for i, d in enumerate(spec.shape)
    )


def _statements(engine: str, settings: Mapping[str, Scalar]) -> list[str]:
    """Settings as the statements that the engine itself runs."""
    if engine == "keras":
        module = str(settings.get("module") or "").partition(":")[0]
        return [f"import_module({module!r})  # its custom layers"] if module else []
    if engine == "torch":
        return [f"torch.set_num_threads({int(settings['threads'])})"] if "threads" in settings else []
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
