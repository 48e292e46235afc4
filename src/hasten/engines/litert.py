"""LiteRT (TensorFlow Lite) with XNNPACK on the CPU: float32, int8, and int8 weights under float activations.

Its own default is one thread. It runs ``.tflite`` files of any origin; ``export`` writes them from ONNX.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hasten.engines.edges import Edge
from hasten.engines.executed import describe
from hasten.extras import pip
from hasten.machine import instruction_sets
from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar

name = scheme = "litert"
spins = False
SETTINGS = {"threads": range(1, 4097)}
_NUMBERS = ("Relu", "Max", "Min", "Clip", "MaxPool", "ReduceMax", "ReduceMin", "TopK", "Sqrt", "Exp", "Sigmoid", "Sign")
takes = ("tflite", "onnx")
writes = "tflite"


edges = (
    Edge(operators=frozenset(_NUMBERS), reach="nan", words="NaN and infinities become numbers"),
    Edge(operators=frozenset({"Cast"}), reach="cast", words="a number beyond the whole type ends anywhere"),
    Edge(
        operators=frozenset({"Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "OneHot"}),
        reach="index", words="a place outside the table is not refused",
    ),
    Edge(operators=frozenset(), reach="double", words="float64 is computed in float32"),
)  # fmt: skip


def missing() -> str | None:
    """None when the runtime can be imported."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        return f"ai-edge-litert is not installed; {pip('tflite')}"
    return None


def version() -> str:
    """The runtime's own version."""
    from importlib.metadata import version as of

    return of("ai-edge-litert")


def formats() -> frozenset[str]:
    """XNNPACK has int8 kernels for VNNI, AVX2 and their ARM kin."""
    fast_int8 = {"avx512_vnni", "avx_vnni", "avx2", "asimddp", "i8mm"} & set(instruction_sets())
    return frozenset({"f32", "int8"} if fast_int8 else {"f32"})


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """The stock default is one thread; then all cores, and half of many."""
    choices: list[dict[str, Scalar]] = [{}]
    if cores > 1:
        choices.append({"threads": cores})
    if cores >= 8:
        choices.append({"threads": cores // 2})
    return choices


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """No setting of this engine narrows the arithmetic."""
    return []


def export(source: Path, directory: Path) -> Path:
    """Write a ``.tflite`` file; one that is of that format already is served as it is.

    Raises:
        InputError: LiteRT has no operator for something in the network; the message names the node.
    """
    import onnx_ir as ir

    from hasten.export.tflite import write
    from hasten.frontends.tflite import accepts

    if accepts(source):
        return source
    path = directory / f"{source.stem}.tflite"
    write(ir.load(source), path)
    return path


class _Interpreter:
    """One interpreter; it is planned for the shapes that it is fed, and again when they change."""

    def __init__(self, path: Path, chosen: Mapping[str, Scalar]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        from hasten.frontends.tflite_reader import read

        self._file = read(path)
        with _quiet():
            self._interpreter = Interpreter(str(path), num_threads=int(chosen.get("threads", 1)))
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._stateful = any(t.variable for t in self._file.tensors)

    def run(self, feeds: Feeds) -> list[Array]:
        arrays = {index: np.ascontiguousarray(feeds[name]) for name, index in self._file.inputs}
        shapes = {index: a.shape for index, a in arrays.items()}
        if shapes != self._shapes:
            self._plan(shapes)
        if self._stateful:  # every call starts from zero
            self._interpreter.reset_all_variables()
        for index, array in arrays.items():
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for _, index in self._file.outputs]

    def _plan(self, shapes: dict[int, tuple[int, ...]]) -> None:
        for index, shape in shapes.items():
            if shape != self._file.tensors[index].shape or self._shapes:
                self._interpreter.resize_tensor_input(index, shape)
        with _quiet():
            self._interpreter.allocate_tensors()
        self._shapes = shapes

    def executed(self) -> str:
        """The types that the operators of the file compute in, and how many of them XNNPACK took."""
        if not self._shapes:
            self._plan({index: self._file.tensors[index].shape for _, index in self._file.inputs})
        counts: Counter[tuple[str, str]] = Counter()
        for operator in self._file.operators:
            kind = _KINDS.get(operator.kind, "")
            weights = self._file.tensors[operator.inputs[1]] if kind and len(operator.inputs) > 1 else None
            counts[kind, "int8" if weights is not None and weights.quantized else "f32"] += 1
        taken, total = _delegated(self._interpreter._get_ops_details()), len(self._file.operators)
        return f"{describe(counts)}; XNNPACK ran {taken} of {total} operators"

    def close(self) -> None:
        del self._interpreter


def _delegated(operators: Sequence[Mapping[str, Any]]) -> int:
    """How many operators lie between the inputs and the outputs of a delegate."""
    writer = {int(t): k for k, o in enumerate(operators) if o["op_name"] != "DELEGATE" for t in o["outputs"]}
    taken: set[int] = set()
    for delegate in operators:
        if delegate["op_name"] != "DELEGATE":
            continue
        edge, todo = {int(t) for t in delegate["inputs"]}, [int(t) for t in delegate["outputs"]]
        while todo:
            tensor = todo.pop()
            k = writer.get(tensor)
            if tensor in edge or k is None or k in taken:
                continue
            taken.add(k)
            todo += [int(t) for t in operators[k]["inputs"]]
    return len(taken)


_KINDS = {
    "CONV_2D": "convolutions",
    "DEPTHWISE_CONV_2D": "convolutions",
    "TRANSPOSE_CONV": "convolutions",
    "CONV_3D": "convolutions",
    "FULLY_CONNECTED": "matrix products",
    "BATCH_MATMUL": "matrix products",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "recurrent layers",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "recurrent layers",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "recurrent layers",
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT greets on standard error, from C++."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """An interpreter over ``path``; the setting is ``threads``."""
    return _Interpreter(path, settings)
