"""ONNX files: checked, then loaded with the weights memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from hasten.errors import InputError
from hasten.frontends.describe import describe
from hasten.frontends.maps import cut_maps
from hasten.frontends.normal import normalise
from hasten.model import Model, Origin, TensorSpec
from hasten.protocols import Door
from hasten.safety.detect import HEAD, kind_of
from hasten.safety.walk import checked
from hasten.samples.fit import ANY_RANK
from hasten.samples.guard import readable

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

__all__ = ["accepts", "describe", "load"]

OPSETS = (7, 28)  # of the default domain; what onnxruntime 1.32 takes
IR_VERSIONS = (1, 14)
LISTS = {"sequence_type": "a list", "map_type": "a map", "optional_type": "optional", "sparse_tensor_type": "sparse"}
TENSORS = "export it with tensors as outputs, with skl2onnx by options={'zipmap': False}, or cut this output off"


def accepts(path: Path) -> bool:
    """True when the content may be ONNX, whatever the file is called."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return kind_of(file.read(HEAD), path) is None


def load(path: Path, options: Door = Door()) -> Model:  # noqa: B008 - a frozen value
    """Check and load ``path``. External weights stay on disk until used.

    Raises:
        UsageError: there is no such file.
        InputError: it is not ONNX, is unsafe or damaged, or of a version that no runtime here takes.
    """
    with readable(path, help="export it again with a current exporter"):
        proto, _ = checked(path)
        normalise(proto)
        cut_maps(proto.graph)
        _check_outputs(proto.graph, path)
        graph = ir.from_proto(proto)
        ir.external_data.set_base_dir(graph.graph, path.parent)
        _check_versions(graph, path)
        initialized = graph.graph.initializers
        inputs = tuple(_spec(v, path) for v in graph.graph.inputs if v.name not in initialized)
        outputs = tuple(_spec(v, path) for v in graph.graph.outputs)
    return Model(graph, inputs, outputs, Origin("onnx", str(path)))


def _check_versions(graph: ir.Model, path: Path) -> None:
    opset = graph.opset_imports.get("")
    if opset is not None and not OPSETS[0] <= opset <= OPSETS[1]:
        raise InputError(
            f"{path} uses opset {opset}",
            cause=f"the runtimes take opset {OPSETS[0]} to {OPSETS[1]}",
            help="convert it: onnx.version_converter.convert_version(model, 17)",
        )
    if not IR_VERSIONS[0] <= graph.ir_version <= IR_VERSIONS[1]:
        raise InputError(
            f"{path} has IR version {graph.ir_version}",
            cause=f"the runtimes take IR version {IR_VERSIONS[0]} to {IR_VERSIONS[1]}",
            help="export it with an older onnx package, or upgrade onnxruntime",
        )


def _check_outputs(graph: onnx.GraphProto, path: Path) -> None:
    """Answers are compared tensor by tensor."""
    for output in graph.output:
        kind = output.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            what = LISTS.get(kind, kind.removesuffix("_type"))
            cause = "only tensors can be compared"
            raise InputError(f"output {output.name!r:.80} of {path} is {what}", cause=cause, help=TENSORS)


def _spec(value: ir.Value, path: Path) -> TensorSpec:
    if not isinstance(value.type, ir.TensorType):
        kind = type(value.type).__name__ if value.type is not None else "a value without a type"
        raise InputError(
            f"input {value.name!r} of {path} is {kind}", cause="only tensors can be fed", help="export it with tensors"
        )
    if value.dtype in (None, ir.DataType.UNDEFINED):
        what = f"{value.name!r:.80} of {path} has no element type"
        raise InputError(what, cause="its type is left out or unknown", help="export it again")
    dtype = "object" if value.dtype == ir.DataType.STRING else value.type.dtype.numpy().name
    if value.shape is None:
        return TensorSpec(value.name or "", (ANY_RANK,), dtype)
    return TensorSpec(value.name or "", tuple(_dims(value.shape)), dtype)


def _dims(shape: Iterable[int | ir.SymbolicDim]) -> Iterable[int | str | None]:
    """Some exporters write -1, 0 or "?" for "any"."""
    for dim in shape:
        if isinstance(dim, int):
            yield dim if dim > 0 else None
        else:
            yield dim.value if dim.value not in ("?", "") else None
