"""Constants that live in a file, so that a rewritten network takes no more memory than one of its matrices."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

ALIGNED = 64  # bytes


class Spill:
    """A file of constants in a temporary folder; it goes when nothing reads it any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hasten-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.end = 0

    def constant(self, graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
        """Write ``array`` and register it as an initialiser; ``name`` must be free."""
        array = np.ascontiguousarray(array)
        start = -(-self.end // ALIGNED) * ALIGNED
        with (self.folder / "weights.data").open("ab") as file:
            file.write(bytes(start - self.end))
            array.tofile(file)
        self.end = start + array.nbytes
        dtype = ir.DataType.from_numpy(array.dtype)
        shape = ir.Shape(array.shape)
        tensor = ir.ExternalTensor(
            "weights.data", start, array.nbytes, dtype, shape=shape, name=name, base_dir=self.folder
        )
        tensor.meta["spill"] = self  # as long as the tensor is there, so is the file
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(dtype), const_value=tensor)
        graph.register_initializer(value)
        return value


def release(value: ir.Value) -> None:
    """Unmap a constant's file; it is mapped again when somebody asks for its numbers."""
    if isinstance(value.const_value, ir.ExternalTensor):
        value.const_value.release()
