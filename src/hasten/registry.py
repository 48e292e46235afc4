"""Names to code: one line a pass, an engine, a metric. Plug-ins join through entry points of the same group names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from hasten.errors import UsageError, did_you_mean

PASSES = {
    "clean": "hasten.passes.clean:Clean",
    "correct": "hasten.passes.correct:Correct",
    "distill": "hasten.passes.distill:Distill",
    "equalize": "hasten.passes.equalize:Equalize",
    "factorize": "hasten.passes.factorize:Factorize",
    "join": "hasten.passes.join:Join",
    "prune": "hasten.passes.prune:Prune",
    "quantize": "hasten.passes.quantize:Quantize",
    "quantize_dynamic": "hasten.passes.dynamic:QuantizeDynamic",
    "quantize_hybrid": "hasten.passes.hybrid:QuantizeHybrid",
    "quantize_weights": "hasten.passes.quantize_weights:QuantizeWeights",
    "round_weights": "hasten.passes.round_weights:RoundWeights",
    "smooth": "hasten.passes.smooth:Smooth",
    "sparsify": "hasten.passes.sparsify:Sparsify",
    "specialise": "hasten.passes.specialise:Specialise",
}

ENGINES = {
    "onnxruntime": "hasten.engines.onnxruntime",
    "openvino": "hasten.engines.openvino",
    "litert": "hasten.engines.litert",
    "torch": "hasten.engines.torch",
    "keras": "hasten.engines.keras",
    "tensorflow": "hasten.engines.tensorflow",
}

METRICS = {
    "top1": "hasten.metrics:TOP1",
    "top5": "hasten.metrics:TOP5",
    "f1": "hasten.metrics:F1",
    "auc": "hasten.metrics:AUC",
    "mae": "hasten.metrics:MAE",
    "mse": "hasten.metrics:MSE",
    "iou": "hasten.metrics:IOU",
    "ctc_exact": "hasten.metrics:CTC_EXACT",
    "ctc_cer": "hasten.metrics:CTC_CER",
    "cosine": "hasten.metrics:COSINE",
    "agreement": "hasten.metrics:AGREEMENT",
}

FRONTENDS = {
    "onnx": "hasten.frontends.onnx",
    "tflite": "hasten.frontends.tflite",
    "torch": "hasten.frontends.torch",
    "keras": "hasten.frontends.keras",
    "tensorflow": "hasten.frontends.tensorflow",
}

ONE = {"passes": "pass", "engines": "engine", "metrics": "metric", "frontends": "front end"}
_TABLES = {"passes": PASSES, "engines": ENGINES, "metrics": METRICS, "frontends": FRONTENDS}


@cache
def names(group: str) -> dict[str, str]:
    """The built-in table of ``group`` ("passes", "engines", "metrics", "frontends") with plug-ins added."""
    plugins = {e.name: e.value for e in entry_points(group=f"hasten.{group}")}
    return {**plugins, **_TABLES[group]}


def require(group: str, name: str) -> None:
    """Refuse a name that nothing has; a dotted path is imported later, when it is used.

    Raises:
        UsageError: nothing has that name; the nearest one is suggested.
    """
    if not {":", "."} & set(name) and name not in names(group):
        raise UsageError(f"no {ONE[group]} is called {name!r}", help=did_you_mean(name, names(group)))


def several(group: str, given: str | Iterable[str] | None) -> list[str] | None:
    """Names as people write them: one, several with commas between them, or a list. None and nothing mean all.

    Raises:
        UsageError: one of them is no text, or a name that nothing has.
    """
    try:
        parts = [given] if isinstance(given, str) else list(given or ())
    except TypeError:
        parts = [given]  # type: ignore[list-item]
    if wrong := [part for part in parts if not isinstance(part, str)]:
        known = ", ".join(names(group))
        raise UsageError(f"a name of {group} cannot be {wrong[0]!r}", help=f"give text; known: {known}")
    found = [name.strip() for part in parts for name in part.split(",") if name.strip()]
    for name in found:
        require(group, name)
    return found or None


@cache
def find(group: str, name: str) -> Any:
    """The object behind a name, or behind a dotted path such as ``mypackage.myengine`` or ``mypackage.passes:Mine``.

    Raises:
        UsageError: nothing has that name; the nearest one is suggested.
    """
    table = names(group)
    if name not in table and "." in name:
        table = {**table, name: name}
    if name not in table:
        raise UsageError(f"no {ONE[group]} is called {name!r}", help=did_you_mean(name, table))
    module, _, attribute = table[name].partition(":")
    try:
        found = import_module(module)
        return getattr(found, attribute) if attribute else found
    except Exception as fault:  # a plug-in raises whatever it likes
        cause = str(fault) if isinstance(fault, ModuleNotFoundError) else f"{type(fault).__name__}: {fault}"
        help_ = "check its spelling and that its package is installed in this environment"
        raise UsageError(f"{ONE[group]} {name!r} cannot be imported", cause=cause[:300], help=help_) from fault


def engine(name: str) -> tuple[Any, str | None]:
    """An engine, and why it cannot be used here; a broken package or plug-in is such a reason, and never a fault.

    Raises:
        UsageError: nothing has that name.
    """
    try:
        found = find("engines", name)
        return found, found.missing()
    except Exception as fault:
        if name not in names("engines"):
            raise
        said = fault.cause if isinstance(fault, UsageError) else f"{type(fault).__name__}: {fault}"
        return None, f"broken: {' '.join(said.split())[:200]}"


def probe(name: str) -> dict[str, Any]:
    """What ``doctor`` says of an engine; asked for in a process of its own, since some imports end it."""
    found, reason = engine(name)
    told = (
        {"version": None, "formats": []} if reason else {"version": found.version(), "formats": sorted(found.formats())}
    )
    return {"name": name, **told, "missing": reason}
