"""TensorFlow SavedModels: which operators a signature reaches, read without TensorFlow.

A SavedModel is a program: it may read and write files and call Python. Only what the chosen signature reaches is ever
loaded (the functions that save, restore and initialise are not), and only operators of the list below may be in it:
arithmetic that can also be written as ONNX.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hasten.errors import InputError, UsageError, did_you_mean
from hasten.safety import protobuf

MAX_BYTES = (1 << 31) - 1
AGAIN = "export it again: model.export(folder), or tf.saved_model.save"
_OPERATORS = """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Assert Atan Atan2 Atanh AvgPool AvgPool3D
    BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddV1 Bincount BitwiseAnd BitwiseOr
    BitwiseXor BroadcastArgs BroadcastTo Bucketize CTCGreedyDecoder Cast Ceil CheckNumerics ClipByValue
    CombinedNonMaxSuppression ComplexAbs Concat ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D
    Conv3DBackpropInputV2 Cos Cosh CropAndResize CudnnRNN CudnnRNNV3 Cumprod Cumsum DenseBincount DepthToSpace
    DepthwiseConv2dNative Div DivNoNan DynamicPartition DynamicStitch Einsum Elu EnsureShape Equal Erf Erfc Exp
    ExpandDims Expm1 ExtractImagePatches FFT FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If Imag Invert
    InvertPermutation IsFinite IsInf IsNan LRN L2Loss LeakyRelu LeftShift Less LessEqual LinSpace Log Log1p
    LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart
    MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiagV3 Max MaxPool
    MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Mean Min Minimum MirrorPad Mul MulNoNan Neg NoOp
    NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike
    Pack Pad PadV2 ParallelDynamicStitch PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault Pow
    PreventGradient Prod RFFT RFFT2D IRFFT Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6 Reshape
    ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResourceGather ReverseSequence ReverseV2
    RightShift Rint Roll Round Rsqrt ScatterNd SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Select
    SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax Softplus Softsign
    SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall
    StatelessIf StatelessWhile StopGradient StridedSlice Sub Sum Tan Tanh TensorListFromTensor TensorListGetItem
    TensorListLength TensorListReserve TensorListResize TensorListSetItem TensorListStack TensorScatterAdd
    TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopK TopKV2 Transpose
    TruncateDiv TruncateMod Unique UniqueWithCounts Unpack UnsortedSegmentMax UnsortedSegmentMin
    UnsortedSegmentProd UnsortedSegmentSum VarHandleOp Where While Xdivy Xlogy ZerosLike _Arg _Retval
"""
OPERATORS = frozenset(_OPERATORS.split())


@dataclass(frozen=True)
class Node:
    """A node by what matters here: its operator, the nodes that feed it, and the functions that it calls."""

    op: str
    inputs: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """Tensors of the main graph by the names of arguments and results."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass
class Contents:
    """What a ``saved_model.pb`` holds."""

    signatures: dict[str, Signature] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    functions: dict[str, list[Node]] = field(default_factory=dict)

    def reached(self, signature: Signature) -> tuple[set[str], set[str], set[str]]:
        """Main-graph nodes, functions and operators that computing the signature's outputs takes."""
        nodes: set[str] = set()
        called: list[str] = []
        pending = [node_of(tensor) for tensor in signature.outputs.values()]
        while pending:
            name = pending.pop()
            if name in nodes or name not in self.nodes:
                continue
            nodes.add(name)
            called += self.nodes[name].calls
            pending += map(node_of, self.nodes[name].inputs)
        functions: set[str] = set()
        while called:
            name = called.pop()
            if name not in functions:
                functions.add(name)
                called += [c for node in self.functions.get(name, ()) for c in node.calls]
        ops = {self.nodes[n].op for n in nodes} | {node.op for f in functions for node in self.functions.get(f, ())}
        return nodes, functions, ops


def node_of(tensor: str) -> str:
    """``"^dense/MatMul:0"`` is of the node ``"dense/MatMul"``."""
    return tensor.lstrip("^").partition(":")[0]


def read(folder: Path) -> Contents:
    """The graph of a SavedModel that is meant for serving.

    Raises:
        InputError: the file is missing, damaged or too large.
    """
    path = folder / "saved_model.pb"
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{folder.name} is too large", cause="one protobuf ends at 2 GiB", help=AGAIN)
    try:
        return _contents(memoryview(path.read_bytes()))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{folder.name} is damaged", cause=f"saved_model.pb: {error}"[:200], help=AGAIN) from error


def _contents(saved_model: memoryview) -> Contents:
    metas = list(protobuf.messages(saved_model, 2))
    if not metas:
        raise ValueError("it holds no graph")
    meta = next((m for m in metas if "serve" in _tags(m)), metas[0])
    found = Contents()
    for graph in protobuf.messages(meta, 2):
        for node in protobuf.messages(graph, 1):
            found.nodes[protobuf.text(node, 1)] = _node(node)
        for library in protobuf.messages(graph, 2):
            for function in protobuf.messages(library, 1):
                name = "".join(protobuf.text(s, 1) for s in protobuf.messages(function, 1))
                found.functions[name] = [_node(n) for n in protobuf.messages(function, 3)]
    for name, signature in protobuf.table(meta, 5).items():
        sides = [{k: protobuf.text(v, 1) for k, v in sorted(protobuf.table(signature, n).items())} for n in (1, 2)]
        if sides[0] and sides[1]:  # the others initialise
            found.signatures[name] = Signature(*sides)
    return found


def _tags(meta: memoryview) -> set[str]:
    return {bytes(tag).decode() for info in protobuf.messages(meta, 1) for tag in protobuf.messages(info, 4)}


def _node(node: memoryview) -> Node:
    inputs = tuple(bytes(i).decode() for i in protobuf.messages(node, 3))
    return Node(protobuf.text(node, 2), inputs, tuple(_calls(protobuf.table(node, 5).values())))


def _calls(attributes: Iterable[memoryview]) -> Iterator[str]:
    """Functions named by attributes, alone or in lists."""
    for attribute in attributes:
        for function in protobuf.messages(attribute, 10):
            yield protobuf.text(function, 1)
        for several in protobuf.messages(attribute, 1):
            for function in protobuf.messages(several, 9):
                yield protobuf.text(function, 1)


def choose(contents: Contents, wanted: str | None, what: str) -> str:
    """The signature to serve: the one asked for, the only one, or the default beside its twins.

    Raises:
        UsageError: there is none of that name, or several that differ.
    """
    known = contents.signatures
    if wanted is not None:
        if wanted not in known:
            raise UsageError(f"{what} has no signature {wanted!r}", help=did_you_mean(wanted, known))
        return wanted
    if not known:
        raise InputError(f"{what} has no signature", cause="nothing in it is meant to be served", help=AGAIN)
    default = "serving_default" if "serving_default" in known else next(iter(known))
    shapes = {(tuple(s.inputs), tuple(s.outputs)) for s in known.values()}
    if len(shapes) > 1:
        listed = "; ".join(f"{n}({', '.join(s.inputs)}) -> {', '.join(s.outputs)}" for n, s in sorted(known.items()))
        raise UsageError(f"{what} has several signatures", cause=listed, help=f"choose one: --signature {default}")
    return default


def check(contents: Contents, name: str, what: str) -> None:
    """Refuse a signature that reaches an operator which can do more than compute.

    Raises:
        InputError: the operators are named.
    """
    _, functions, ops = contents.reached(contents.signatures[name])
    foreign = sorted(ops - OPERATORS)
    if foreign:
        listed = ", ".join(op[:80] for op in foreign[:5])
        cause = (
            f"signature {name!r} reaches {listed}, which may touch files, run Python, or have no counterpart in ONNX"
        )
        raise InputError(f"{what} could run code when it is run", cause=cause, help="if you made it, add --trust")
    unknown = functions - contents.functions.keys()
    if unknown:
        raise InputError(f"{what} is damaged", cause=f"no function {sorted(unknown)[0]!r:.80}", help=AGAIN)
