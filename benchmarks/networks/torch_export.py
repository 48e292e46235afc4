"""A torch module as ONNX bytes, by the exporter's current front end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch


def to_onnx(module: Any, example: tuple[Any, ...], inputs: list[str], output: str, axes: tuple[str, ...]) -> bytes:
    """``module`` exported with the leading axes of every input free: ``axes`` names them ("batch", "sequence")."""
    shapes = tuple({axis: torch.export.Dim(name) for axis, name in enumerate(axes)} for _ in inputs)
    program = torch.onnx.export(
        module.eval(),
        example,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=inputs,
        output_names=[output],
        verbose=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        program.save(str(path), external_data=False)
        return path.read_bytes()
