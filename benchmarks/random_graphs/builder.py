"""A graph that grows by random steps: what each value is, and how nodes are spelt in each operator set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Size = int | str
FREE = ("b", "t")
WIDEST = 5  # axes
PROTO = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64, "int32": TensorProto.INT32, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}  # fmt: skip


class Impossible(Exception):
    """No value fits this step."""


@dataclass(frozen=True)
class T:
    """A value: its name, type and sizes; ``exact`` when every rewrite must keep it bit by bit."""

    name: str
    kind: str
    shape: tuple[Size, ...]
    exact: bool = False

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def floating(self) -> bool:
        """Is it of a float type?"""
        return self.kind.startswith("float")


@dataclass
class G:
    """The graph so far. ``opset`` decides how a node is spelt."""

    random: np.random.Generator
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[T] = field(default_factory=list)
    values: list[T] = field(default_factory=list)
    count: int = 0
    as_nodes: bool = False

    def flip(self, chance: float = 0.5) -> bool:
        """True with this chance."""
        return bool(self.random.random() < chance)

    def one(self, *choices: Any) -> Any:
        """One of the choices."""
        return choices[int(self.random.integers(len(choices)))]

    def fresh(self, base: str = "v") -> str:
        """A new name."""
        self.count += 1
        return f"{base}{self.count}"

    # ------------------------------------------------------------ values

    def input(self, name: str, kind: str, shape: Sequence[Size]) -> T:
        """A new input."""
        made = T(name, kind, tuple(shape), True)
        self.inputs.append(made)
        self.values.append(made)
        return made

    def const(self, array: Any, kind: str = "") -> T:
        """A constant, as an initialiser or as a node."""
        held = np.asarray(array)
        held = held.astype(kind) if kind else held
        tensor = numpy_helper.from_array(held, self.fresh("w"))
        if self.as_nodes and self.flip():
            self.nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            self.weights.append(tensor)
        return T(tensor.name, held.dtype.name, held.shape, True)

    def ints(self, *numbers: int) -> T:
        """A constant vector."""
        return self.const(np.array(numbers, np.int64))

    def w(self, *shape: int, kind: str = "float32", shift: float = 0.0) -> T:
        """Random weights, with some zeros; now and then the same as before."""
        same = [w for w in self.weights if tuple(w.dims) == shape and w.data_type == PROTO[kind]]
        if same and self.flip(0.25) and shift == 0:
            return T(self.one(*same).name, kind, shape, True)
        array = self.random.standard_normal(shape) * self.one(0.3, 1.0) + shift
        if self.flip(0.15) and array.size > 1:
            array = array * (self.random.random(shape) < 0.7)
        return self.const(array, kind)

    def pick(self, fits: Callable[[T], bool] = lambda v: True) -> T:
        """A value that fits, a late one more often."""
        found = [v for v in self.values if fits(v)]
        if not found:
            raise Impossible
        if self.flip(0.65):
            return found[-1]
        return found[int(self.random.integers(len(found)))]

    def float_(self, rank: int | None = None, kind: str | None = "float32") -> T:
        """A float value of this rank."""
        return self.pick(lambda v: v.floating and (kind is None or v.kind == kind) and (rank is None or v.rank == rank))

    # ------------------------------------------------------------ nodes

    def add(
        self, op: str, inputs: Sequence[T | str], shape: Sequence[Size], kind: str, *, exact: bool = False, **more: Any
    ) -> T:
        """A node with one output, which later steps may read."""
        return self.many(op, inputs, [(shape, kind, exact)], **more)[0]

    def many(
        self, op: str, inputs: Sequence[T | str], outs: Sequence[tuple[Sequence[Size], str, bool]], **more: Any
    ) -> list[T]:
        """A node with these outputs."""
        made = [T(self.fresh(), kind, tuple(shape), exact) for shape, kind, exact in outs]
        names = [v if isinstance(v, str) else v.name for v in inputs]
        while names and not names[-1]:
            names.pop()
        name = self.fresh("n") if self.flip(0.9) else ""
        self.nodes.append(helper.make_node(op, names, [v.name for v in made], name=name, **more))
        self.values += made
        return made

    def attributed(self, since: int, name: str, numbers: Sequence[int]) -> tuple[list[T], dict[str, Any]]:
        """Axes and the like: an attribute before the operator set ``since``, an input from then on."""
        return ([self.ints(*numbers)], {}) if self.opset >= since else ([], {name: list(numbers)})

    def unsqueeze(self, x: T, axis: int) -> T:
        """One more axis of size one."""
        more, attrs = self.attributed(13, "axes", [axis])
        shape = [*x.shape[:axis], 1, *x.shape[axis:]]
        return self.add("Unsqueeze", [x, *more], shape, x.kind, exact=x.exact, **attrs)

    def safe(self, x: T) -> T:
        """|x| + 1: what may be divided by, or stand under a root."""
        a = self.add("Abs", [x], x.shape, x.kind, exact=x.exact)
        return self.add("Add", [a, self.const(np.array(1.0), x.kind)], x.shape, x.kind)

    def proto(self, outputs: Sequence[T], declared: bool, hints: dict[str, int]) -> onnx.ModelProto:
        """The whole; with ``hints`` inner shapes stand in the file as they were at those sizes."""
        info = helper.make_tensor_value_info
        made = {v.name for v in self.inputs} | {v.name for v in outputs}
        inner = [
            info(v.name, PROTO[v.kind], [hints.get(str(d), d) for d in v.shape])
            for v in self.values
            if hints and v.name not in made and all(isinstance(d, int) or d in hints for d in v.shape)
        ]
        ends = [info(v.name, PROTO[v.kind], list(v.shape) if declared else None) for v in outputs]
        starts = [info(v.name, PROTO[v.kind], list(v.shape)) for v in self.inputs]
        graph = helper.make_graph(self.nodes, "random", starts, ends, self.weights, value_info=inner)
        version = 8 if self.opset < 19 else 10
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=version)


def stretch(a: Sequence[Size], b: Sequence[Size]) -> tuple[Size, ...]:
    """The shape of what two shapes broadcast to; Impossible where they do not for every size."""
    if len(a) < len(b):
        a, b = b, a
    b = [*[1] * (len(a) - len(b)), *b]
    out: list[Size] = []
    for x, y in zip(a, b, strict=True):
        if x != y and 1 not in (x, y):
            raise Impossible
        out.append(y if x == 1 else x)
    return tuple(out)


def number(size: Size) -> int:
    """A size that must be known."""
    if not isinstance(size, int):
        raise Impossible
    return size


Step = Callable[[G], Any]
