"""A network at the door and inside: one graph type, whatever it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.trial import Scalar

if TYPE_CHECKING:
    import onnx_ir as ir

EXTERNAL_ABOVE = 1 << 30  # bytes; protobuf itself ends at 2 GiB


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: ``shape`` holds ints, symbolic names, or None where nothing is known."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str  # numpy's name: "float32", "int64", ...

    def __str__(self) -> str:
        return f"{self.name}[{','.join('?' if d is None else str(d) for d in self.shape)}] {self.dtype}"


@dataclass(frozen=True)
class Origin:
    """Where a network came from, so that the report can name it and the baseline can run it as its owner does.

    ``path`` is the file that ``engine`` serves with ``settings``: the user's, or a safe copy that the front door made.
    ``forms`` are further files of the same network that came about on the way, by form.
    """

    format: str = "onnx"
    path: str = ""
    engine: str = "onnxruntime"
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A graph with its public face. Passes return a new one, or the same object when nothing changed."""

    graph: ir.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    origin: Origin = field(default_factory=Origin)
    history: tuple[str, ...] = ()

    def with_graph(self, graph: ir.Model, note: str) -> Model:
        """The same network after a pass, with the pass's ``repr`` added to the history."""
        return replace(self, graph=graph, history=(*self.history, note))

    def clone_graph(self) -> ir.Model:
        """A graph of its own to edit; weights are shared, not copied."""
        return self.graph.clone()

    def save(self, path: Path) -> int:
        """Write ONNX, with weights in ``<name>.data`` beside it above 1 GiB or where they lie in a file already.

        Those are copied from file to file. Returns the bytes on disk.
        """
        import onnx_ir as ir

        data = path.with_suffix(".data")
        if weights_apart(self.graph):
            ir.save(self.graph, path, external_data=data.name)
        else:
            ir.save(self.graph, path)
        return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def weights_apart(graph: ir.Model) -> bool:
    """Must the weights be written beside the graph: do they come near protobuf's limit, or lie in a file already?"""
    import onnx_ir as ir

    tensors = [v.const_value for v in graph.graph.initializers.values() if v.const_value is not None]
    return sum(t.nbytes for t in tensors) > EXTERNAL_ABOVE or any(isinstance(t, ir.ExternalTensor) for t in tensors)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces; of a folder's files, with their names."""
    digest = sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{part.relative_to(path).as_posix()} {file_digest(part)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
