"""``python -m benchmarks.table``: front door x engine as a table, from what ``benchmarks.frontends`` has stored.

A cell is an engine's best speed-up over the framework's own default, with the setting that gave it where it is not the
engine's stock; "no" when none of its ways runs the network, "–" when the engine was not at hand for what came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import floor, log10
from pathlib import Path
from typing import Any

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


def rows(networks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table's lines, the head first."""
    head = ["network", "door", "converted within", "the framework's default", *ENGINES]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, title in TITLES.items():
        row = networks[name]
        cells = [
            title,
            DOORS[row["door"]],
            error(row["conversion_error"]),
            default(row),
            *(cell(row, e) for e in ENGINES),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


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
    print("\n".join(rows(json.loads(STORED.read_text())["networks"])))
