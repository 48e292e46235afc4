"""Networks of one operator with inputs at the edges of its types, on every engine beside ONNX Runtime.

``python -m benchmarks.one_operator [--store]``. A case is an operator, its inputs, and its attributes; what an engine
answers otherwise than ONNX Runtime must be among its declared edges (``engines.edges``). The reference evaluator of the
onnx package is recorded as well. Each case runs in a process of its own: some runtimes end theirs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hasten import compare, registry
from hasten.engines.edges import declared

RESULT = Path(__file__).parent / "results" / "one_operator.json"
ENGINES = ("openvino", "litert")
SECONDS = 60.0
NAN, INF = float("nan"), float("inf")
FLOATS = np.array([[-INF, -1e38, -2.5, -0.0, 0.0, 0.5, 1.5, 2.5, 1e38, INF, NAN, 3.0]], np.float32)
TIES = np.array([[2.0, 5.0, 5.0, 1.0, 5.0, 2.0]], np.float32)
WIDE = np.array([[2**31 + 5, -(2**33), 7, 2**40]], np.int64)
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
Array = compare.Array


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operator; ``fixed`` inputs are weights of the network, the others are fed, in the operator's order."""

    name: str
    operator: str
    inputs: Mapping[str, Array]
    fixed: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    opset: int = 17


def case(
    name: str, operator: str, *arrays: Any, fixed: int = 0, outputs: int = 1, opset: int = 17, **attributes: Any
) -> Case:
    """A case whose last ``fixed`` inputs are weights; an input None is left out."""
    inputs = {f"x{k}": np.asarray(a) for k, a in enumerate(arrays) if a is not None}
    weights = frozenset(list(inputs)[len(inputs) - fixed :]) if fixed else frozenset[str]()
    return Case(
        name=f"{operator}: {name}", operator=operator, inputs=inputs, fixed=weights, attributes=attributes,
        outputs=tuple(f"y{k}" for k in range(outputs)), opset=opset,
    )  # fmt: skip


def cases() -> Iterator[Case]:
    """Every case."""
    yield from (*numbers(), *compared(), *wholes(), *places(), *reduced(), *shaped())


def numbers() -> Iterator[Case]:
    """Functions of single numbers: infinities, NaN, halves, negative zero."""
    for one in (
        "Relu",
        "Sign",
        "Abs",
        "Floor",
        "Ceil",
        "Round",
        "Sqrt",
        "Log",
        "Exp",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Softplus",
    ):
        yield case("infinities, NaN, halves", one, FLOATS)
    for one in ("LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Reciprocal", "Neg"):
        yield case("infinities and NaN", one, FLOATS)


def compared() -> Iterator[Case]:
    """Functions of two numbers, and choices between them."""
    other = FLOATS[:, ::-1].copy()
    for one in ("Max", "Min", "Add", "Mul", "Div"):
        yield case("infinities and NaN", one, FLOATS, other)
    for one in ("Less", "Greater", "Equal", "LessOrEqual"):
        yield case("NaN", one, FLOATS, other)
    yield case("infinities and NaN", "Clip", FLOATS, np.float32(-1), np.float32(1), fixed=2)
    yield case("NaN in what is not chosen", "Where", FLOATS > 0, FLOATS, other)
    yield case(
        "roots of negatives, 0 to 0",
        "Pow",
        np.array([-8.0, 0.0, -2.0, 2.0], np.float32),
        np.array([1 / 3, 0, 3, -1], np.float32),
    )
    yield case("signs", "Mod", np.array([-7, 7, -7, 7], np.int32), np.array([3, -3, -3, 3], np.int32))
    yield case(
        "signs of fmod", "Mod", np.array([-7.5, 7.5, -7.5], np.float32), np.array([2, -2, -2], np.float32), fmod=1
    )
    yield case("negative integers", "Div", np.array([-7, 7, -8], np.int32), np.array([2, -2, 3], np.int32))


def wholes() -> Iterator[Case]:
    """Whole numbers beyond 32 bits, and casts beyond a type."""
    for one in ("Add", "Mul", "Sub"):
        yield case("int64 beyond int32", one, WIDE, WIDE)
    yield case("int64 beyond int32", "Abs", WIDE)
    yield case("int64 beyond int32", "Neg", WIDE)
    yield case("int64 beyond int32", "Identity", WIDE)
    yield case("int64 beyond int32", "CumSum", WIDE, np.int64(1), fixed=1)
    yield case("int64 beyond int32", "ReduceSum", WIDE, np.array([1]), fixed=1, keepdims=1)
    yield case("int64 beyond int32", "Less", WIDE, WIDE[:, ::-1].copy())
    yield case("int64 beyond int32 to float", "Cast", WIDE, to=onnx.TensorProto.FLOAT)
    cast = np.array([1e10, -1e10, 2.9, -2.9, 300.0], np.float32)
    for target in ("INT32", "INT64", "UINT8", "INT8"):
        yield case(f"floats beyond {target.lower()}", "Cast", cast, to=getattr(onnx.TensorProto, target))
    yield case("floats inside int32", "Cast", np.array([2.9, -2.9, 0.5], np.float32), to=onnx.TensorProto.INT32)
    yield case("NaN to int32", "Cast", np.array([NAN, INF], np.float32), to=onnx.TensorProto.INT32)
    yield case("NaN to bool", "Cast", np.array([NAN, 0.5, -0.0], np.float32), to=onnx.TensorProto.BOOL)
    yield case("float64 beyond float32", "Add", np.array([1e300, 1 + 1e-12]), np.array([1e300, 1e-13]))


def places() -> Iterator[Case]:
    """Negative places, places outside a table, repeated places, ties."""
    for index in ([0, -1, -4], [0, 4], [-5]):
        told = "negative" if index[-1] == -4 else "out of range" if index[-1] > 0 else "out of range below"
        yield case(told, "Gather", TABLE, np.array(index), axis=0)
    yield case("negative", "GatherND", TABLE, np.array([[-1, -1], [0, 2]]))
    yield case("out of range", "GatherND", TABLE, np.array([[4, 0]]))
    yield case("negative", "GatherElements", TABLE, np.array([[-1, 0, -4]]), axis=0)
    yield case("repeated places", "ScatterND", TABLE, np.array([[1], [1]]), np.ones((2, 3), np.float32) * [[1], [2]])
    yield case("negative", "ScatterElements", TABLE, np.array([[-1, 0, 1]]), np.full((1, 3), 9, np.float32), axis=0)
    yield case(
        "negative and out of range",
        "OneHot",
        np.array([0, -1, 5]),
        np.array([3]),
        np.array([0.0, 1.0], np.float32),
        fixed=2,
    )
    yield case("ties", "TopK", TIES, np.array([3]), fixed=1, outputs=2)
    yield case("NaN", "TopK", np.array([[1.0, NAN, 3.0, 2.0]], np.float32), np.array([2]), fixed=1, outputs=2)
    for one in ("ArgMax", "ArgMin"):
        yield case("ties", one, TIES, axis=1)
        yield case("the last of ties", one, TIES, axis=1, select_last_index=1)
        yield case("NaN", one, np.array([[1.0, NAN, 3.0]], np.float32), axis=1)


def reduced() -> Iterator[Case]:
    """Rows of infinities and NaN."""
    masked = np.array([[-INF, -INF, -INF], [-INF, 0.0, 1.0], [NAN, 0.0, 1.0], [INF, 0.0, 1.0]], np.float32)
    for one in ("Softmax", "LogSoftmax", "Hardmax"):
        yield case("rows of minus infinity", one, masked, axis=1)
    for one in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd", "ReduceL2", "ReduceLogSumExp"):
        yield case("infinities and NaN", one, masked, axes=[1], keepdims=0)
    yield case("nothing to sum", "ReduceSum", np.zeros((2, 0), np.float32), np.array([1]), fixed=1)
    yield case("infinities", "MatMul", masked, np.ones((3, 2), np.float32), fixed=1)
    yield case("weights of infinity", "MatMul", TABLE, np.array([[INF], [0.0], [1.0]], np.float32), fixed=1)
    yield case("weights of NaN", "MatMul", TABLE, np.array([[NAN], [0.0], [1.0]], np.float32), fixed=1)


def shaped() -> Iterator[Case]:
    """Windows, sizes, nothing at all, text."""
    pixels = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    yield case(
        "NaN", "MaxPool", np.where(pixels == 5, NAN, pixels).astype(np.float32), kernel_shape=[2, 2], strides=[2, 2]
    )
    yield case("padding", "AveragePool", pixels, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=0)
    scale = np.array([1, 1, 1.5, 1.5], np.float32)
    for mode, how in (
        ("nearest", "asymmetric"),
        ("nearest", "half_pixel"),
        ("linear", "align_corners"),
        ("linear", "half_pixel"),
        ("cubic", "half_pixel"),
    ):
        yield case(
            f"{mode}, {how}", "Resize", pixels, None, scale, fixed=1, mode=mode, coordinate_transformation_mode=how
        )
    yield case(
        "by more than the bits", "BitShift", np.array([1, 255], np.uint8), np.array([1, 9], np.uint8), direction="LEFT"
    )
    yield case("nothing", "Concat", np.zeros((0, 3), np.float32), TABLE, axis=0)
    yield case("nothing", "Relu", np.zeros((0, 3), np.float32))
    yield case("text", "Identity", np.array(["a", "b"], object))
    yield case("below 0", "Acos", np.array([2.0, -1.0, NAN], np.float32))
    yield case("infinities and NaN", "IsNaN", FLOATS)
    yield case("infinities and NaN", "IsInf", FLOATS)
    yield case("diagonals", "Trilu", np.where(TABLE == 5, NAN, TABLE).astype(np.float32), upper=0)


def model(one: Case) -> onnx.ModelProto:
    """The network of a case; every size is known."""
    types = {name: helper.np_dtype_to_tensor_dtype(a.dtype) if a.dtype != object else onnx.TensorProto.STRING
             for name, a in one.inputs.items()}  # fmt: skip
    names = [f"x{k}" if f"x{k}" in one.inputs else "" for k in range(1 + max(int(n[1:]) for n in one.inputs))]
    node = helper.make_node(one.operator, names, list(one.outputs), name="only", **one.attributes)
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info(n, types[n], a.shape) for n, a in one.inputs.items() if n not in one.fixed],
        [helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in one.outputs],
        [numpy_helper.from_array(one.inputs[n], n) for n in one.fixed],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", one.opset)], ir_version=8)
    for value in made.graph.output:
        value.ClearField("type")
    return onnx.shape_inference.infer_shapes(made)


def answer(engine: str, path: Path, feeds: Mapping[str, Array]) -> list[Array]:
    """What an engine answers. Raises what it raises."""
    if engine == "reference":
        from onnx.reference import ReferenceEvaluator

        return [np.asarray(a) for a in ReferenceEvaluator(onnx.load(path)).run(None, dict(feeds))]
    found = registry.find("engines", engine)
    with tempfile.TemporaryDirectory() as folder:
        runner = found.load(found.export(path, Path(folder)), found.settings(1)[0])
        return [np.array(a) for a in runner.run(feeds)]


def measured(one: Case) -> dict[str, str]:
    """What each engine answers otherwise than ONNX Runtime, in words; empty where the same; "refuses" where it does."""
    told = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        path = Path(folder, "one.onnx")
        onnx.save(model(one), path)
        feeds = {n: a for n, a in one.inputs.items() if n not in one.fixed}
        try:
            wanted = answer("onnxruntime", path, feeds)
        except Exception:
            wanted = None
        for engine in ("reference", *ENGINES):
            try:
                got = answer(engine, path, feeds)
            except Exception:
                told[engine] = "" if wanted is None else "refuses"
                continue
            if wanted is None:
                told[engine] = "answers where ONNX Runtime refuses"
                continue
            told[engine] = compare.first_problem(compare.sample(wanted, got, one.outputs), compare.FLOAT32)
    return told


def _into(pipe: Any, one: Case) -> None:
    pipe.send(measured(one))


def in_a_process(one: Case) -> dict[str, str]:
    """``measured`` where a crash harms nobody."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_into, args=(theirs, one))
    child.start()
    theirs.close()
    try:
        return dict(mine.recv()) if mine.poll(SECONDS) else {"all": "hangs"}
    except EOFError:
        return {"all": "crashes"}
    finally:
        child.kill()
        child.join()


def undeclared(table: Mapping[str, Mapping[str, str]], every: Mapping[str, Case]) -> list[str]:
    """The differences that no engine declares: none may be left."""
    return [
        f"{name} on {engine}: {told}"
        for name, row in table.items()
        for engine, told in row.items()
        if told and engine in ENGINES and told != "refuses" and not declared(engine, every[name].operator)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    for engine in ("onnxruntime", *ENGINES):  # imported once, before the processes of the cases fork
        registry.find("engines", engine).missing()
    every = {one.name: one for one in cases()}
    table = {name: in_a_process(one) for name, one in every.items()}
    for name, row in table.items():
        if any(row.values()):
            print(f"{name:48} " + "; ".join(f"{e}: {told}" for e, told in row.items() if told), flush=True)
    left = undeclared(table, every)
    differ = {
        e: sum(bool(row.get(e)) and row[e] != "refuses" for row in table.values()) for e in ("reference", *ENGINES)
    }
    print(f"{len(every)} cases; other answers than ONNX Runtime: {differ}; not declared: {len(left)}")
    print("\n".join(left))
    if arguments.store:
        RESULT.write_text(
            json.dumps({"cases": len(every), "differ": differ, "undeclared": left, "table": table}, indent=1) + "\n"
        )
    return bool(left)


if __name__ == "__main__":
    raise SystemExit(main())
