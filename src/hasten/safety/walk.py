"""Every tensor and node of an ONNX file, looked at before any runtime sees it.

Runtimes and checkers have each missed a corner: sparse tensors, constants in attributes, bodies of If and Loop,
functions, training graphs. This walk visits all of them and trusts nothing that the file says about itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.errors import InputError
from hasten.safety.bounds import check_bounds, check_node
from hasten.safety.detect import require_onnx
from hasten.safety.structure import check_structure
from hasten.safety.tensors import AGAIN, Region, check_tensor

if TYPE_CHECKING:
    import onnx

MAX_DEPTH = 200
MAX_NODES = 500_000
MAX_BYTES = (1 << 31) - 1  # of the file itself; weights beside it may be larger
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training"})
RUNTIME_DOMAINS = frozenset({"com.microsoft", "com.microsoft.nchwc"})  # ONNX Runtime's own


@dataclass(frozen=True)
class SafetyReport:
    """What the walk found. ``external`` are data files as the model names them."""

    path: Path
    nodes: int
    external: tuple[str, ...] = ()
    custom_ops: tuple[str, ...] = ()  # "domain::op" outside ONNX, ONNX Runtime's domain and the file's own functions
    warnings: tuple[str, ...] = ()


@dataclass
class _Walk:
    folder: Path
    real_model: Path
    nodes: int = 0
    regions: list[Region] = field(default_factory=list)
    ops: set[tuple[str, str]] = field(default_factory=set)

    def graph(self, root: onnx.GraphProto, where: str) -> None:
        pending = [(root, where, 1)]
        while pending:
            graph, where, depth = pending.pop()
            if depth > MAX_DEPTH:
                raise InputError(f"{self.real_model.name} nests graphs more than {MAX_DEPTH} deep", help=AGAIN)
            for tensor in graph.initializer:
                self.tensor(tensor, where)
            for sparse in graph.sparse_initializer:
                self.sparse(sparse, where)
            pending += [(inner, at, depth + 1) for inner, at in self.bodies(graph.node, where)]

    def bodies(self, nodes: Iterable[onnx.NodeProto], where: str) -> Iterator[tuple[onnx.GraphProto, str]]:
        """Check the nodes and the tensors of their attributes; yield the graphs inside them."""
        for node in nodes:
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise InputError(f"{self.real_model.name} has more than {MAX_NODES:,} nodes", help=AGAIN)
            if node.op_type == "EPContext":
                raise InputError(
                    f"node {node.name!r} holds a network compiled for one device (EPContext)",
                    cause="it cannot be read or optimised",
                    help="give the model from before that compilation",
                )
            self.ops.add((node.domain, node.op_type))
            check_node(node)
            for attribute in node.attribute:
                at = f"{where} > {node.op_type} {node.name!r:.60}"
                for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors:
                    self.tensor(tensor, at)
                sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
                for one in (*sparse, *attribute.sparse_tensors):
                    self.sparse(one, at)
                if attribute.HasField("g"):
                    yield attribute.g, at
                yield from ((inner, at) for inner in attribute.graphs)

    def sparse(self, sparse: onnx.SparseTensorProto, where: str) -> None:
        if any(d < 0 for d in sparse.dims):
            raise InputError(f"a sparse tensor in {where} has a negative dimension", help=AGAIN)
        self.tensor(sparse.values, where)
        self.tensor(sparse.indices, where)

    def tensor(self, tensor: onnx.TensorProto, where: str) -> None:
        region = check_tensor(tensor, where, self.folder, self.real_model)
        if region:
            self.regions.append(region)


def check_onnx(path: Path, *, original: Path | None = None) -> SafetyReport:
    """Walk the whole file; data files are looked for beside ``original``, of which ``path`` may be a copy.

    Raises:
        UsageError: there is no such file.
        InputError: it is not ONNX, is damaged, or reaches for anything outside its folder.
    """
    return checked(path, original=original)[1]


def checked(path: Path, *, original: Path | None = None) -> tuple[onnx.ModelProto, SafetyReport]:
    """``check_onnx``, with the protobuf that it has parsed, whose external data stay where they are."""
    model = parse(path)
    original = original or path
    walk = _Walk(original.parent, original.resolve())
    walk.graph(model.graph, "graph")
    for function in model.functions:
        for inner, at in walk.bodies(function.node, f"function {function.name!r:.60}"):
            walk.graph(inner, at)
    for info in model.training_info:
        walk.graph(info.initialization, "training_info")
        walk.graph(info.algorithm, "training_info")
    check_bounds(model)
    check_structure(model)
    external = tuple(sorted({region.location for region in walk.regions}))
    own = {(f.domain, f.name) for f in model.functions}
    custom = {op for op in walk.ops if op[0] not in KNOWN_DOMAINS | RUNTIME_DOMAINS and op not in own}
    warnings = _overlaps(walk.regions) + _hard_links(external, walk.folder)
    outside = tuple(sorted(f"{d}::{o}" for d, o in custom))
    return model, SafetyReport(path, walk.nodes, external, outside, tuple(warnings))


def parse(path: Path) -> onnx.ModelProto:
    """The file as a protobuf, without its external data.

    Raises:
        UsageError: there is no such file. InputError: it is not ONNX, or damaged.
    """
    require_onnx(path)
    if path.stat().st_size >= MAX_BYTES:
        cause = "one protobuf ends at 2 GiB"
        raise InputError(f"{path} is too large", cause=cause, help="export it with its weights in a file beside it")
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        size = path.stat().st_size
        cause = f"its {size:,} bytes are no ONNX: truncated, damaged or nested too deep"
        raise InputError(f"cannot read {path}", cause=cause, help="download or export it again") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"cannot read {path}", cause=str(error)[:200], help="download or export it again") from error
    if not model.HasField("graph") or not model.ir_version or not model.opset_import:
        cause = "it has no graph, no version or no operator set: truncated, or another kind of protobuf"
        raise InputError(f"{path} is not a complete ONNX model", cause=cause, help="download or export it again")
    return model


def _overlaps(regions: list[Region]) -> list[str]:
    """Two tensors over the same bytes are legal when equal (tied weights), and odd when they overlap in part."""
    found = sorted({(r.location, r.offset, r.length) for r in regions if r.length})
    reach: dict[str, int] = {}
    odd: dict[str, None] = {}
    for location, offset, length in found:
        if offset < reach.get(location, 0):
            odd[location] = None
        reach[location] = max(reach.get(location, 0), offset + length)
    return [f"tensors overlap in {location}" for location in odd]


def _hard_links(external: tuple[str, ...], folder: Path) -> list[str]:
    linked = [name for name in external if (folder / name).stat().st_nlink > 1]
    return [f"{name} is a hard link: a copy is used" for name in linked]
