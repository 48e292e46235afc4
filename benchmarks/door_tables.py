"""The table of ``docs/doors.md`` that holds front door x engine: ``python -m benchmarks.door_tables`` prints it.

It comes from what ``benchmarks.frontends`` has stored; with ``--write`` it is put between its marks in the page. A cell
is an engine's best speed-up over the framework's own default, with the setting that gave it where it is not the
engine's stock; "no" when none of its ways runs the network, "–" when the engine was not at hand for what came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import floor, log10
from pathlib import Path
from typing import Any

from benchmarks.markdown import command, table

PAGE = Path(__file__).parents[1] / "docs" / "doors.md"
STORED = Path(__file__).parent / "results" / "frontends.json"
ENGINES = ("onnxruntime", "openvino", "litert", "torch")
TITLES = {
    "basic_pitch SavedModel": "basic-pitch",
    "basic_pitch TFLite": "basic-pitch",
    "basic_pitch ONNX": "basic-pitch",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "minilm_l6": "MiniLM-L6",
    "adult_mlp": "an MLP of 621 weights",
    "keras cnn": "a small CNN",
    "keras gelu": "a small GELU transformer",
    "keras bilstm": "a small BiLSTM",
}
DOORS = {"tensorflow": "SavedModel", "tflite": "TFLite", "onnx": "ONNX", "torch": "PyTorch", "keras": "Keras"}
OWNER = " (as its owner)"


def engines() -> str:
    """Every network, a column an engine."""
    stored = json.loads(STORED.read_text())["networks"]
    head = ("network", "door", "converted within", "the framework's default", *ENGINES)
    return table(head, [line(title, stored[name]) for name, title in TITLES.items()])


def line(title: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """One network."""
    cells = (cell(row, engine) for engine in ENGINES)
    return title, DOORS[row["door"]], error(row["conversion_error"]), default(row), *cells


def error(value: float | None) -> str:
    """One digit, rounded up: ``2e-6``."""
    if value is None:
        return "–"
    power = floor(log10(value))
    return f"{-int(-value // 10.0**power)}e{power}"


def default(row: Mapping[str, Any]) -> str:
    """What the framework does by itself, in milliseconds."""
    first = row["engines"][0]
    eager = ", eager" if "eager" in first["executed"] else ""
    return f"{row['default']}{eager}, {first['median_ms']:.3g} ms"


def cell(row: Mapping[str, Any], engine: str) -> str:
    """The best of an engine's ways."""
    ways = [way for way in row["engines"] if way["way"].split()[0] == engine]
    others = [way for way in ways if not way["way"].endswith(OWNER)]
    best = max((way for way in others if way["works"]), key=lambda way: way["speedup"], default=None)
    if best is None:
        return "default" if len(ways) > len(others) else "no" if others else "–"
    speedup = best["speedup"]
    setting = best["way"].removeprefix(engine).removeprefix(" f32").strip()
    return f"{speedup:.0f}× {setting}".strip() if speedup >= 10 else f"{speedup:.2f}× {setting}".strip()


if __name__ == "__main__":
    command(__doc__, PAGE, {"engines": engines()})
